"""The rows of one model, compared with its history."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from registry import schema
from registry.digests import seal_json
from registry.integrity.history import Expected, History, differences
from registry.integrity.snapshot import Row, Snapshot
from registry.queries import models
from registry.records import Json, Problem
from registry.values import MALFORMED, shown

_FAR = 1_000
"""More missing numbers than this are not listed one by one."""

_SLACK = 3_600_000_000  # microseconds between the times of a row and its event

APPROVED_BEFORE = "champion before approvals were recorded"
"""The reason of approvals that the upgrade from the first release added without an event."""


def check_model(snapshot: Snapshot, model: Row, history: History) -> Iterator[Problem]:
    """Aliases, policy and numbers of a model that do not follow from its history."""
    name, id_ = model["name"], model["id"]
    states = snapshot.rows(schema.version_state, schema.version_state.c.model_id == id_)
    status = {row["version"]: row["status"] for row in states}
    held = {
        row["alias"]: row for row in snapshot.rows(schema.aliases, schema.aliases.c.model_id == id_)
    }
    for alias in sorted(held.keys() | history.held.keys(), key=str):
        for what in _alias(held.get(alias), history, alias, status):
            yield Problem(f"{name}@{alias}", "", what)
    policy = _plain(asdict(models.load(snapshot.connection, name).policy))
    if policy != (was := _plain(history.rules())):
        yield Problem(name, "", f"its policy is {policy}, but by its history {was}")
    first = next(iter(history.newest), None)
    if first and first["prev_hash"] == schema.NO_EVENT and _later(model["created_at"], first["at"]):
        yield Problem(name, "", "it was created after its first event")
    yield from _numbers(snapshot, model, history)


def _alias(row: Row | None, history: History, alias: str, status: dict[int, str]) -> Iterator[str]:
    is_, was = row and row["version"], history.held.get(alias)
    if is_ != was:
        yield f"it is {_version(is_)}, but by its history {_version(was)}"
    elif row is not None:
        moves = len(history.moves[alias])
        if row["revision"] != moves:
            yield f"its revision is {shown(row['revision'])}, but it was moved {moves} times"
        if row["status"] != status.get(row["version"]):
            yield f"it has status {shown(row['status'])}, which is not that of its version"


def _numbers(snapshot: Snapshot, model: Row, history: History) -> Iterator[Problem]:
    name, last = model["name"], model["last_version"]
    here = schema.versions.c.model_id == model["id"]
    there = {row["version"] for row in snapshot.rows(schema.versions, here, columns=("version",))}
    known = {number for number, of_it in history.versions.items() if of_it.registered}
    if not isinstance(last, int) or abs(last - len(there)) > _FAR:
        what = f"its counter is {shown(last)}, but by its history it has {len(known)} versions"
        yield Problem(name, "", what)
        last = max((n for n in there | known if isinstance(n, int)), default=0)
    issued = set(range(1, last + 1))
    for number in sorted((issued | known) - there, key=str):
        yield Problem(f"{name}:{number}", "", "it is gone")
    for number in sorted(there - (issued & known), key=str):
        yield Problem(f"{name}:{number}", "", "its history does not know it")


def check_versions(
    snapshot: Snapshot, name: str, found: Iterable[Row], history: History
) -> Iterator[Problem]:
    """Compare the changeable rows of versions with the history.

    Each of `found` has the `row` of a version, and its `evaluations`, `approvals`, `tags`,
    `signatures` and `state`.
    """
    for one in found:
        expected = history.versions[one["row"]["version"]]
        checks = (_state, _tags, _signatures, _evaluations, _approvals, _request, _parent)
        for check in checks:
            try:
                what = check(one, expected, history)
            except MALFORMED as error:
                what = f"cannot be compared with its history ({error!r})"
            if what:
                yield Problem(f"{name}:{one['row']['version']}", "", what)


def _state(one: Row, expected: Expected, _history: History) -> str | None:
    if len(one["state"]) != 1:
        return "its status is gone"
    (state,), row = one["state"], one["row"]
    if (state["model_id"], state["version"]) != (row["model_id"], row["version"]):
        return "its status is under the number of another version"
    given = [approval for approval in one["approvals"] if approval["reason"] == APPROVED_BEFORE]
    was = expected.status or ("approved" if given and not expected.record else "candidate")
    if state["status"] != was:
        return f"it is {state['status']}, but by its history {was}"
    newest = one["approvals"][-1]["id"] if was == "approved" and one["approvals"] else None
    if state["approval_id"] != newest:
        return f"its status names approval {state['approval_id']}, and its newest is {newest}"
    return None


def _tags(one: Row, expected: Expected, _history: History) -> str | None:
    tags = {row["key"]: row["value"] for row in one["tags"]}
    was = {key: value for key, value in expected.tags.items() if value is not None}
    if not expected.all_tags:
        # The tags of the registration were not recorded, but later changes of tags were.
        was = {key: value for key, value in tags.items() if key not in expected.tags} | was
    return next(differences("tag", tags, was), None)


def _signatures(one: Row, expected: Expected, _history: History) -> str | None:
    signed = {row["key_id"]: seal_json(row["document"]) for row in one["signatures"]}
    same = signed == expected.signed
    return None if same else "a signature of it was edited, added or removed"


def _evaluations(one: Row, expected: Expected, history: History) -> str | None:
    # Their number and their reports are compared in `seals`.
    for (_, event), row in zip(
        reversed(expected.evaluated), reversed(one["evaluations"]), strict=False
    ):
        same = row["actor"] == event["actor"] and _at_once(row["at"], event["at"])
        if history.is_confirmed(event) and not same:
            return "an evaluation of it has another actor or time than its event"
        # Events of older releases have no verdict.
        if (
            history.is_confirmed(event)
            and event["payload"].get("passed", row["passed"]) != row["passed"]
        ):
            return "an evaluation of it has another verdict than its event"
    return None


def _approvals(one: Row, expected: Expected, history: History) -> str | None:
    rows, events = one["approvals"], expected.approved
    wrong = "an approval of it was edited, added or removed"
    before = rows[: len(rows) - len(events)]
    upgraded = expected.record is None and [r["reason"] for r in before] == [APPROVED_BEFORE]
    if len(rows) < len(events) or (before and not upgraded):
        return wrong
    evaluations = [row["id"] for row in one["evaluations"]]
    unknown = max(0, len(evaluations) - len(expected.evaluated))
    for (count, event), row in zip(events, rows[len(before) :], strict=True):
        newest = evaluations[: unknown + count][-1:]
        same = (row["approver"], row["reason"], [row["evaluation_id"]], row["passed"]) == (
            event["actor"],
            event["reason"],
            newest,
            True,
        )
        if history.is_confirmed(event) and not (same and _at_once(row["at"], event["at"])):
            return wrong
    return None


def _request(one: Row, expected: Expected, _history: History) -> str | None:
    if expected.request in (None, (one["row"]["request_id"],)):
        return None
    return f"its request is {shown(one['row']['request_id'])}, but by its history another"


def _parent(one: Row, expected: Expected, _history: History) -> str | None:
    # If the parent was not in this registry yet, the event of the import has its uid.
    was = one["parent uid"] or expected.parent_uid
    if one["row"]["parent_uid"] == was:
        return None
    return "the uid of its parent was edited"


def check_jobs(
    snapshot: Snapshot, model: Row, history: History, numbers: dict[int, int]
) -> Iterator[Problem]:
    """Batch jobs of a model that contradict themselves or the history of their alias."""
    own = schema.versions.c.model_id == model["id"]
    ids = schema.versions.select().with_only_columns(schema.versions.c.id).where(own)
    for row in snapshot.rows(schema.jobs, schema.jobs.c.version_id.in_(ids)):
        try:
            what = _job(row, model["name"], numbers.get(row["version_id"]), history)
        except MALFORMED as error:
            what = f"cannot be compared with the history ({error!r})"
        if what:
            yield Problem(f"job {row['id']}", "", what)


_ENDED = ("rows", "provider", "onnxruntime")


def _job(row: Row, name: str, number: int | None, history: History) -> str | None:
    alias, revision = row["alias"], row["alias_revision"]
    expected = f"{name}:{number}" if alias is None else f"{name}@{alias}"
    if row["reference"] != expected:
        return f"its reference is {shown(row['reference'])}, but {expected} was expected"
    if (alias is None) != (revision is None):
        return "it has an alias without a revision, or a revision without an alias"
    if alias is not None:
        held = history.moves.get(alias, [])
        if not 0 < revision <= len(held) or held[revision - 1] != number:
            return f"{expected} was not {name}:{number} at revision {revision}"
    if not _is_hex(row["input_sha256"]):
        return f"its input_sha256 is not a SHA-256: {shown(row['input_sha256'])}"
    return _job_end(row)


def _job_end(row: Row) -> str | None:
    state = row["state"]
    if (state == "running") != (row["finished_at"] is None):
        return f"it is {state}, but its finished_at contradicts that"
    if any((row[key] is not None) != (state == "completed") for key in _ENDED):
        return f"it is {state}, but its rows, provider or onnxruntime contradict that"
    if (row["error"] is not None) != (state == "failed"):
        return f"it is {state}, but its error contradicts that"
    if row["rows"] is not None and row["rows"] < 0:
        return f"it wrote {row['rows']} rows"
    if row["quarantined"] is not None and state != "completed":
        return f"it is {state}, which its quarantined rows contradict"
    if row["drift"] is not None and state != "completed":
        return f"it is {state}, which its report of drift contradicts"
    return None


def _plain(policy: Json) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in policy.items()
    }


def _later(row: object, event: object) -> bool:
    both = isinstance(row, int) and isinstance(event, int)
    return both and row > event + _SLACK  # type: ignore[operator]


def _at_once(row: Any, event: Any) -> bool:
    return bool(abs(row - event) <= _SLACK)


def _version(number: object) -> str:
    return "not set" if number is None else f"version {number}"


def _is_hex(text: Any) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")
