"""Search: conditions as people write them, and pages that stay put while versions are added."""

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from unicodedata import normalize

from sqlalchemy import (
    BinaryExpression,
    Column,
    ColumnElement,
    CompoundSelect,
    Connection,
    Row,
    ScalarSelect,
    Select,
    Table,
    and_,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
    union,
    union_all,
)

from registry import schema
from registry.errors import InvalidQuery, choices
from registry.queries import models, summaries, unknown_keys
from registry.records import Page
from registry.schema import (
    INDEXED,
    param_values,
    start_of,
    version_metrics,
    version_state,
    version_tags,
)
from registry.values import microseconds

_CONDITION = re.compile(r"(metric|param|tag)\.(.+?)(>=|<=|=|>|<)(.*)|([a-z_]+) *(>=|<=|=|>|<)(.*)")

_ORDER = re.compile(r"newest|metric\.(.+?)(:asc)?")

_COMPARE: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": lambda column, value: column == value,
    ">": lambda column, value: column > value,
    "<": lambda column, value: column < value,
    ">=": lambda column, value: column >= value,
    "<=": lambda column, value: column <= value,
}

_v, _tag = schema.versions.c, schema.version_tags.c
_named = schema.models.alias("named").c
_STATUSES = ("candidate", "approved", "rejected", "archived")
_WHOLE = {"digest": 64, "commit": 40}
"""How many digits of a hash are compared: a shorter one would find nothing."""
_PLAIN = {"digest": _v.digest, "commit": _v.git_commit, "run": _v.flow_run_id, "by": _v.created_by}

HELP = (
    "metric.NAME>=0.9 (also > < <= =), param.NAME=VALUE as in param.train.epochs=3, "
    "tag.KEY=VALUE, alias=NAME, status=candidate|approved|rejected|archived, dataset=HASH, "
    "digest=SHA256, commit=HASH, run=FLOW_RUN_ID, by=USER, created>=2026-01-31 (also > < <=)"
)
"""The conditions there are, for help texts and errors."""


def condition(text: str) -> ColumnElement[bool]:
    """The condition on `versions` that a text such as `metric.accuracy>=0.9` stands for.

    Raises:
        InvalidQuery: it has another form.
    """
    match = _CONDITION.fullmatch(text.strip())
    _refuse_operator(text)
    if match is None:
        raise InvalidQuery(f"{text!r} is no condition. Give any of: {HELP}.")
    groups = (part and part.strip() for part in match.groups())
    kind, key, operator, value, field, plain, other = groups
    if kind == "metric":
        of_it = version_metrics.c.key == key
        of_it = and_(of_it, _COMPARE[operator](version_metrics.c.value, _number(text, value)))
        return _v.id.in_(select(version_metrics.c.version_id).where(of_it))
    if kind == "tag" and operator == "=":
        return _v.id.in_(select(_tag.version_id).where(_has(version_tags, key, value)))
    if kind == "param" and operator == "=":
        found = select(param_values.c.params_id).where(_has(param_values, key, value))
        return _v.params_id.in_(found)
    if field and field not in (*_PLAIN, "created", "dataset", "status", "alias"):
        raise InvalidQuery(
            f"{text!r}: there is no {field!r} to search by.{_meant(field, plain, other)} Give any "
            f"of: {HELP}."
        )
    if field == "created" and plain != "=":
        return _COMPARE[plain](_v.created_at, _time(text, other))
    if field and field != "created" and plain == "=":
        return _equal(text, field, other)
    if field == "created":
        raise InvalidQuery(
            f"{text!r}: a time is compared with >=, <=, > or <. Give any of: {HELP}."
        )
    raise InvalidQuery(f"{text!r}: only = compares there. Give any of: {HELP}.")


def _meant(field: str, operator: str, value: str) -> str:
    if field in ("version", "number"):
        return " A version is named, as in digits:3 for `modelmint models show`."
    key = "param" if operator == "=" else "metric"
    return f" Did you mean {key}.{field}{operator}{value}?"


def _refuse_operator(text: str) -> None:
    # The key would end with the first sign, or the value begin with the second.
    if found := re.match(r"[^=<>!]*([!=]=)", text):
        raise InvalidQuery(
            f"{text!r}: {found[1]} is not an operator of a search. Metrics compare with >= <= > < "
            f"and =, all others but `created` with = alone. Give any of: {HELP}."
        )


def built_on(md5: str) -> ColumnElement[bool]:
    """Whether a version was made from a dataset or a raw file, by DVC's hash of it."""
    # Not OR, for which PostgreSQL would look at every version.
    return _v.id.in_(union_all(*built_on_ids(md5)))


def built_on_ids(md5: str) -> tuple[Select[tuple[int]], Select[tuple[int]]]:
    """The ids of the versions behind `built_on`: by their dataset, and by a raw file."""
    any_, data = schema.versions.alias("any_version").c, schema.version_data.c
    return (
        select(any_.id).where(any_.dataset.in_(_spellings(md5))),
        select(data.version_id).where(data.md5.in_(_spellings(md5))),
    )


def is_built_on(md5: str) -> ColumnElement[bool]:
    """`built_on` for rows of `versions` that are looked at one after the other anyway."""
    data, spelled = schema.version_data.c, _spellings(md5)
    raw = exists().where(data.version_id == _v.id, data.md5.in_(spelled))
    return or_(_v.dataset.in_(spelled), raw)


def built_on_page(
    c: Connection, md5: str, *, limit: int, after: str | None
) -> tuple[Sequence[Row[Any]], str | None]:
    """Rows of a `SUMMARY`, newest first, of versions built on data; and where to go on."""
    top = []
    any_, data = schema.versions.alias("any_version").c, schema.version_data.c
    for hash_ in _spellings(md5):
        for id_, column in ((any_.id, any_.dataset), (data.version_id, data.md5)):
            # Each from an index that has the ids in order, so that the first few are enough.
            ids = select(id_.label("id")).where(column == hash_).distinct()
            if after is not None:
                ids = ids.where(id_ < _cursor(after, by_metric=False)[1])
            ids = ids.order_by(id_.desc()).limit(limit + 1)
            top.append(select(ids.subquery().c.id))
    query = summaries.SUMMARY.where(_v.id.in_(union(*top))).order_by(_v.id.desc())
    rows = c.execute(query.limit(limit + 1)).all()
    return rows[:limit], f":{rows[limit - 1].id}" if len(rows) > limit else None


def _spellings(md5: str) -> list[str]:
    """DVC marks the hash of a folder; people copy it with and without the mark."""
    bare = md5.removesuffix(".dir")
    return [bare, f"{bare}.dir"]


@dataclass(frozen=True)
class _Order:
    """A total order, so that a page can begin behind the last row of the one before."""

    metric: str | None
    ascending: bool
    newest: ColumnElement[int]
    """Within a model its number, which an index has in order. Across models the id; and with a
    tag, whose index has the ids of those that carry it in order."""

    few: bool
    """Whether few versions are to be put in order: their metrics are looked up one by one. Of
    many, the index of the metric has them in order, and those that are not asked for are passed
    over."""

    def apply(self, query: Select[Any], after: str | None, *, rare: bool = False) -> Select[Any]:
        if self.metric is None:
            newest = self.newest + 0 if rare else self.newest
            if after is not None:
                query = query.where(newest < _cursor(after, by_metric=False)[1])
            return query.order_by(newest.desc())
        of_it = and_(version_metrics.c.version_id == _v.id, version_metrics.c.key == self.metric)
        value: Any = version_metrics.c.value
        id_: Any = version_metrics.c.version_id
        if self.few:
            value, id_ = select(value).where(of_it).scalar_subquery(), _v.id
            query = query.add_columns(value.label("value")).where(value.is_not(None))
        else:
            query = query.add_columns(value).join(version_metrics, of_it)
        if self.ascending:
            query = query.order_by(value, id_)
        else:
            query = query.order_by(value.desc(), id_.desc())
        if after is None:
            return query
        last_value, last_id = _cursor(after, by_metric=True)
        here, there = tuple_(value, id_), tuple_(literal(last_value), literal(last_id))
        return query.where(here > there if self.ascending else here < there)

    def cursor(self, row: Row[Any]) -> str:
        if self.metric is not None:
            return f"{row.value}:{row.id}"
        return f":{row.number if self.newest is _v.version else row.id}"


def page(
    c: Connection,
    name: str | None,
    where: Sequence[str],
    *,
    order: str,
    limit: int,
    after: str | None,
) -> Page:
    """The versions of a model, or of all, that meet every condition."""
    lead = _lead(where)
    rest = [text for text in where if lead is None or text is not lead.text]
    looked_up = [text for text in rest if _ids_of(condition(text)) is not None]
    model, size = None, 0
    if name is not None and (order != "newest" or looked_up):
        model, size = models.find_size(c, name)
    few = order != "newest" and (0 < size <= _FEW or _are_few(c, lead))
    common = frozenset(t for t in looked_up if not few and _is_common(c, condition(t)))
    rare = lead is None and not few and len(common) < len(looked_up)
    known = {"few": few, "common": common, "rare": rare, "model": model}
    rows = c.execute(_statement(name, tuple(where), order, after, limit=limit + 1, **known)).all()
    if not rows:
        # Whatever was found has the keys that were asked for: only now it is worth a look.
        if name is not None:
            models.load_id(c, name)
        for kind, key in _asked_for(where, order):
            unknown_keys.refuse(c, name, kind, key)
    shown = rows[:limit]
    more = _order(order, name, lead).cursor(shown[-1]) if len(rows) > limit else None
    return Page(summaries.load(c, shown), more)


def _asked_for(where: Sequence[str], order: str) -> list[tuple[str, str]]:
    """Kind and name of what conditions and an order ask for: ("metric", "accuracy")."""
    found = []
    for match in filter(None, (_CONDITION.fullmatch(text.strip()) for text in where)):
        if match[1]:
            found.append((match[1], match[2].strip()))
        elif match[5] in ("alias", "dataset"):
            found.append((match[5], match[7].strip()))
    ordered = _ORDER.fullmatch(order)
    return found + ([("metric", ordered[1])] if ordered and ordered[1] else [])


_FEW = 4000
"""Versions to look up one by one, in 10 ms. Among 200,000, a page of 50 passes over as many when
it is of a model of more, in the order of a metric."""


def _are_few(c: Connection, lead: "_Lead | None") -> bool:
    """Whether few versions carry the tag to begin with."""
    if lead is None:
        return False
    carry = select(_tag.version_id).where(_has(version_tags, lead.key, lead.value))
    return not _has_many(c, carry)


def _is_common(c: Connection, met: Any) -> bool:
    """Whether many versions meet a condition that looks ids up."""
    ids: Any = _ids_of(met)
    own: Any = met.left
    if own is not _v.id:  # of documents of parameters, each of which may have many versions
        any_ = schema.versions.alias("any_version").c
        ids = select(any_.id).where(any_[own.name].in_(ids))
    return _has_many(c, ids)


def _has_many(c: Connection, ids: Select[Any] | CompoundSelect[Any]) -> bool:
    """Whether a query finds many rows; it looks at the first few thousand."""
    some = ids.limit(_FEW + 1).subquery()
    return c.execute(select(func.count()).select_from(some)).scalar_one() > _FEW


def _ids_of(met: ColumnElement[bool]) -> Select[Any] | CompoundSelect[Any] | None:
    """The query behind a condition that looks ids up; None of another condition."""
    if not isinstance(met, BinaryExpression) or not isinstance(met.right, ScalarSelect):
        return None
    ids: Any = met.right.element
    return ids if isinstance(met.left, Column) else None


def _asked_of_each(met: ColumnElement[bool]) -> ColumnElement[bool]:
    """A condition that looks ids up, asked of one row after the other instead."""
    ids: Any = _ids_of(met)
    own: Any = met.left
    parts: Any = ids.selects if isinstance(ids, CompoundSelect) else [ids]
    # Not EXISTS, which PostgreSQL would turn into a join that begins with all who meet it.
    found = (one.where(one.selected_columns[0] == own) for one in parts)
    asked = (one.correlate(schema.versions).limit(1).scalar_subquery() for one in found)
    return or_(*(one.is_not(None) for one in asked))


# Pages and dashboards ask the same again and again, and building a statement takes 1.1 of the 10 ms
# of a search by tag on PostgreSQL.
@lru_cache(maxsize=256)
def _statement(*given: Any, limit: int, **known: Any) -> Select[Any]:
    return page_query(*given, **known).limit(limit)


def page_query(
    name: str | None,
    where: Sequence[str],
    order: str,
    after: str | None,
    *,
    few: bool = False,
    common: Collection[str] = (),
    rare: bool = False,
    model: int | None = None,
) -> Select[Any]:
    """The statement behind a page, for `page` and for those who ask how it is executed.

    In the order of a metric, `few` says that few versions are to be put in order. Many versions
    meet the conditions in `common`: most rows that are looked at do, so each is asked. Where few
    meet another, it is `rare`: they are looked up and put in order, not waited for. `model` is the
    id of the one with that name, if known: PostgreSQL then knows how many versions it has.
    """
    lead = _lead(where)
    rest = [text for text in where if lead is None or text is not lead.text]
    query = summaries.SUMMARY.where(
        *(_asked_of_each(condition(t)) if t in common else condition(t) for t in rest)
    )
    if lead is not None:
        query = query.join(version_tags, _tag.version_id == _v.id)
        query = query.where(_has(version_tags, lead.key, lead.value))
    if name is not None:
        # Asked for here, not before: that would be a round trip more.
        named = select(_named.id).where(_named.name == name).scalar_subquery()
        # No index serves a sum: so SQLite begins with the few, not with the model's newest.
        own = _v.model_id + 0 if rare else _v.model_id
        query = query.where(own == (named if model is None else model))
    return _order(order, name, lead, few=few).apply(query, after, rare=rare)


@dataclass(frozen=True)
class _Lead:
    """The tag to begin with: its index finds few versions, and in order."""

    text: str
    key: str
    value: str


def _lead(where: Sequence[str]) -> _Lead | None:
    for text in where:
        match = _CONDITION.fullmatch(text.strip())
        if match and match[1] == "tag" and match[3] == "=":
            _refuse_operator(text)
            return _Lead(text, match[2].strip(), match[4].strip())
    return None


def _order(text: str, name: str | None, lead: _Lead | None, *, few: bool = False) -> _Order:
    match = _ORDER.fullmatch(text)
    if match is None:
        raise InvalidQuery(
            f"{text!r} is no order. Give newest, metric.NAME (highest first) or metric.NAME:asc "
            "(lowest first)."
        )
    newest = _tag.version_id if lead else _v.id if name is None else _v.version
    return _Order(match[1], ascending=bool(match[2]), newest=newest, few=few)


def _cursor(after: str, *, by_metric: bool) -> tuple[float, int]:
    match = re.fullmatch(r"(-?[0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?)?:([0-9]{1,9})", after)
    if match is None or by_metric != bool(match[1]):
        raise InvalidQuery(
            f"{after!r} is no place to go on from in this order. Give what the page before named, "
            "or nothing."
        )
    return float(match[1] or 0), int(match[2])


def _has(table: Table, key: str, value: str) -> ColumnElement[bool]:
    """Whether a row of keys and values is of that key and has that value."""
    of_it = and_(table.c.key == key, start_of(table) == value[:INDEXED])
    # What is shorter than its indexed part is whole in the index.
    return of_it if len(value) < INDEXED else and_(of_it, table.c.value == value)


def _equal(text: str, field: str, value: str) -> ColumnElement[bool]:
    if not value:
        raise InvalidQuery(f"{text!r}: there is nothing to compare with. Give any of: {HELP}.")
    if field == "dataset":
        return built_on(value.removeprefix("dvc:"))
    if field == "status":
        if value not in _STATUSES:
            raise InvalidQuery(f"{text!r}: {value!r} is not a status. {choices(value, _STATUSES)}")
        return _v.id.in_(select(version_state.c.version_id).where(version_state.c.status == value))
    if field == "alias":
        a = schema.aliases.c
        held = select(a.model_id, a.version).where(a.alias == value)
        return tuple_(_v.model_id, _v.version).in_(held)
    digits = _WHOLE.get(field, 0)
    if len(value) < digits and re.fullmatch("[0-9a-f]{4,}", value):
        raise InvalidQuery(f"{text!r} has {len(value)} digits. Give all {digits} of them.")
    return _PLAIN[field] == (normalize("NFC", value) if field == "by" else value)


def _number(text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise InvalidQuery(f"{text!r}: a metric is compared with a number.") from error
    if not math.isfinite(number):
        raise InvalidQuery(f"{text!r}: a metric is compared with a finite number, not {number}.")
    return number


def _time(text: str, value: str) -> int:
    try:
        return microseconds(datetime.fromisoformat(value))
    except ValueError as error:
        raise InvalidQuery(
            f"{text!r}: give a date or a time in ISO form, in UTC: 2026-01-31 or 2026-01-31T09:00."
        ) from error
