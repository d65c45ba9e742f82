"""The arguments of the registry's public methods: each is checked before anything is written.

`checked` finds the check of an argument by its name, so a name means the same in every method.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial, wraps
from inspect import signature
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_args

from registry.errors import InvalidCandidate, InvalidQuery, InvalidReference
from registry.records import Job, JobInput, Policy, Resolved, Version
from registry.references import check_alias
from registry.validation import candidates
from registry.validation.checks import (
    KEY,
    NEVER,
    document,
    kept_path,
    person,
    python_scalar,
    reason,
    seen,
    sha256,
    shown,
    storable,
    tag_value,
    text,
    url_scheme,
    whole,
)

_INTEGER = 2**31 - 1
"""The largest integer of a column that is not BIGINT."""
_DAYS = 36_500
"""The longest that a version is kept for its age: a century."""
_SECONDS = _DAYS * 86_400
_P = ParamSpec("_P")
_R = TypeVar("_R")


def checked(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a method so that `BY_NAME` checks its arguments by their names before it runs.

    An argument may be None if its annotation allows it.
    """
    checks: dict[str, Callable[[str, Any], Any]] = {}
    for name, parameter in signature(method).parameters.items():
        own = BY_NAME.get(f"{method.__name__}.{name}", BY_NAME.get(name, _anything))
        checks[name] = _or_none(own) if type(None) in get_args(parameter.annotation) else own

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> _R:
        # Not `signature.bind`, which is slower; the method itself reports missing arguments.
        first = [
            check(name, value) for (name, check), value in zip(checks.items(), args, strict=False)
        ]
        named = {name: checks.get(name, _anything)(name, value) for name, value in kwargs.items()}
        return method(*first, *args[len(checks) :], **named)

    return call


def _anything(_field: str, value: object) -> object:
    return value


def _or_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda field, value: None if value is None else check(field, value)


def _moment(field: str, value: object) -> datetime:
    """A point in time."""
    if not isinstance(value, datetime):
        raise InvalidQuery(f"{field} is {shown(value)}. Give a datetime, in UTC or with a zone.")
    return value


def _path(field: str, value: object) -> Path:
    """The path of a local file or folder; a URL is refused, as it would create a folder."""
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise InvalidCandidate(f"{field} is {shown(value)}. Give a path, as text or pathlib.Path.")
    if scheme := url_scheme(value):
        raise InvalidCandidate(
            f"{field} is a URL ({scheme}:), but must be a path on this machine. Give one, and copy "
            "from or to the URL with a tool for it."
        )
    return Path(value)


def _flag(field: str, value: object) -> bool:
    value = python_scalar(value)
    if not isinstance(value, bool):
        raise InvalidCandidate(f"{field} is {shown(value)}. Give True or False.")
    return value


def _seconds(field: str, value: object) -> float:
    value = python_scalar(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= _SECONDS:  # type: ignore[operator]
        raise InvalidCandidate(
            f"{field} is {shown(value)}. Give a number of seconds from 0 to {_SECONDS:,}."
        )
    return float(value)  # type: ignore[arg-type]


def _record(kind: type[Any], field: str, value: object) -> Any:
    if not isinstance(value, kind):
        raise InvalidReference(
            f"{field} is {shown(value)}. Give the {kind.__name__} that the registry returned."
        )
    return value


def _policy(field: str, value: object) -> Policy:
    """A policy with fields of the right types; the database checks their ranges."""
    if not isinstance(value, Policy):
        raise InvalidCandidate(f"{field} is {shown(value)}. Give a registry.Policy.")
    return replace(
        value,
        four_eyes=_flag("four_eyes", value.four_eyes),
        keep_last=_maybe_whole("keep_last", value.keep_last),
        keep_days=_maybe_whole("keep_days", value.keep_days, _DAYS),
        protected=_names("protected", value.protected),
        keep_holders=whole("keep_holders", value.keep_holders, -_INTEGER, _INTEGER),
    )


def _maybe_whole(field: str, value: object, most: int = _INTEGER) -> int | None:
    return None if value is None else whole(field, value, -_INTEGER, most)


def _names(field: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidCandidate(
            f"{field} is {shown(value)}. Give a list of aliases, as in ('champion', 'production')."
        )
    return tuple(check_alias(text(field, one)) for one in value)


def _path_given(
    field: str, value: object, error: type[InvalidCandidate | InvalidQuery] = InvalidCandidate
) -> str:
    """The path of an input file, of any characters: `kept_path` escapes them."""
    if not isinstance(value, str) or not value:
        raise error(f"{field} is {shown(value)}. Give a path, as text.")
    return value


def _inputs(field: str, value: object) -> tuple[JobInput, ...]:
    """The files that a job has read, as they are stored."""
    found = tuple(value) if isinstance(value, Iterable) else (value,)
    if wrong := next((one for one in found if not isinstance(one, JobInput)), None):
        raise InvalidCandidate(f"{field} has {shown(wrong)}. Give each as a registry.JobInput.")
    return tuple(
        JobInput(
            sha256("the sha256 of an input", one.sha256),
            kept_path(_path_given("the path of an input", one.path)),
            whole("the rows of an input", one.rows, 0),
        )
        for one in found
    )


def _document(field: str, value: object) -> Any:
    found = document(field, value)
    candidates.canonical_form(field, found)  # raises if it is too long
    return found


def _query_text(field: str, value: object) -> str:
    """A text that is only compared with stored values: of any length."""
    if not isinstance(value, str):
        raise InvalidQuery(f"{field} is {shown(value)}. Give text.")
    if found := NEVER.search(value):
        raise InvalidQuery(
            f"{field} is {shown(value)}: the character U+{ord(found[0]):04X} is never stored. "
            "Leave it out."
        )
    return value


def _several(
    what: str, check: Callable[[str, object], str], field: str, value: object
) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidQuery(f"{field} is {shown(value)}. Give a list of {what}s.")
    return [check(f"a {what}", one) for one in value]


_VERSION = 999_999_999
_kept = partial(whole, least=0, most=_INTEGER)
_named = partial(text, most=1000, empty=True, error=InvalidReference)


def _page(of: str, field: str, value: object) -> int:
    if not isinstance(value, bool) and isinstance(value, int) and value < 1:
        raise InvalidQuery(f"{field} is {value}. Give 1 or more: the {of} on a page.")
    return whole(field, value, 1, _INTEGER, InvalidQuery)


BY_NAME: Mapping[str, Callable[[str, Any], Any]] = {
    # Names of existing things accept any text, so that NotFound can list what exists.
    "name": _named,
    "alias": _named,
    "promote.alias": lambda f, v: check_alias(_named(f, v)),
    "reference": _named,
    "open.version": partial(_record, Version),
    "version": lambda f, v: whole(f, v, 1, _VERSION, InvalidReference),
    "expect_revision": lambda f, v: whole(f, v, 0, error=InvalidReference),
    "actor": person,
    # Imported names may be from any registry and any release.
    "trainer": lambda f, v: person(f, seen(v) if isinstance(v, str) else v),
    "reason": reason,
    "note.text": reason,
    "add_entry.text": reason,
    "topic": text,
    "document": _document,
    "expect": partial(whole, least=0, error=InvalidReference),
    "request_id": text,
    "uid": text,
    "parent_uid": text,
    "kind": text,
    "key": partial(text, most=KEY),
    "value": tag_value,
    "candidate": lambda _f, v: candidates.check(v),
    "refuse.candidate": lambda _f, v: candidates.check(v, non_finite=True),
    "evaluation": _document,
    "payload": _document,
    "substituted": _document,
    "drift": _document,
    "policy": _policy,
    "four_eyes": _flag,
    "protected": _names,
    "keep_last": _kept,
    "keep_days": partial(whole, least=0, most=_DAYS),
    "keep_holders": _kept,
    "where": partial(_several, "condition", _query_text),
    "order": _query_text,
    "after": _query_text,
    "md5": _query_text,
    "limit": partial(_page, "events"),
    "search.limit": partial(_page, "versions"),
    "jobs.limit": partial(_page, "jobs"),
    "overview.limit": partial(_page, "models"),
    "trace.limit": partial(_page, "versions and jobs"),
    "trace_data.limit": partial(_page, "versions and jobs"),
    # Jobs have no numbers.
    "jobs.before": _query_text,
    "trace.before": _query_text,
    "trace_data.before": _query_text,
    "job_id": _query_text,
    "contains": _query_text,
    "before": lambda f, v: whole(f, v, 0, error=InvalidQuery),
    "when": _moment,
    "since": lambda f, v: whole(f, v, 0, error=InvalidQuery),
    "news.after": lambda f, v: whole(f, v, 0, error=InvalidQuery),
    "jobs_between.since": _moment,
    "job_totals.since": _moment,
    "until": _moment,
    "looked_at": partial(_page, "jobs"),
    "dry_run": _flag,
    "replace": _flag,
    "grace_s": _seconds,
    "folder": _path,
    "path": _path,
    "private_key": _path,
    "public_key": _path,
    "tracking_uri": partial(text, most=KEY),
    "to": _named,
    "resolved": partial(_record, Resolved),
    "job": partial(_record, Job),
    "input_sha256": sha256,
    "output": partial(text, most=KEY),
    "flow_run_id": text,
    "rows": lambda f, v: whole(f, v, 0),
    "quarantined": lambda f, v: whole(f, v, 0),
    "inputs": _inputs,
    "paths": partial(_several, "path", partial(_path_given, error=InvalidQuery)),
    "provider": text,
    "onnxruntime": text,
    "error": storable,
    # These permit a loss of files, so only True is accepted, not any value that counts as true.
    "lost": _flag,
    "unknown": _flag,
}
"""The check of each argument by name; `METHOD.NAME` applies to one method only."""
