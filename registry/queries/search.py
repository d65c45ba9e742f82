"""Search: conditions as text, and pages that do not shift while versions are added."""

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
from registry.queries.rows import AnyRow, AnySelect
from registry.records import Page
from registry.schema import (
    INDEXED,
    param_values,
    start_of,
    version_metrics,
    version_state,
    version_tags,
)
from registry.values import microseconds, spellings

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
"""The number of digits of each hash: a shorter hash would find nothing."""
_PLAIN = {"digest": _v.digest, "commit": _v.git_commit, "run": _v.flow_run_id, "by": _v.created_by}

HELP = (
    "metric.NAME>=0.9 (also > < <= =), param.NAME=VALUE as in param.train.epochs=3, "
    "tag.KEY=VALUE, alias=NAME, status=candidate|approved|rejected|archived, dataset=HASH, "
    "digest=SHA256, commit=HASH, run=FLOW_RUN_ID, by=USER, created>=2026-01-31 (also > < <=)"
)
"""All conditions, for help texts and errors."""


def condition(text: str) -> ColumnElement[bool]:
    """Parse a condition on `versions`, such as `metric.accuracy>=0.9`.

    Raises:
        InvalidQuery: it has another form.
    """
    match = _CONDITION.fullmatch(text.strip())
    _refuse_operator(text)
    if match is None:
        raise InvalidQuery(f"{text!r} is not a condition. Give any of: {HELP}.")
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
            f"{text!r}: {field!r} cannot be searched.{_meant(field, plain, other)} Give any of: "
            f"{HELP}."
        )
    if field == "created" and plain != "=":
        return _COMPARE[plain](_v.created_at, _time(text, other))
    if field and field != "created" and plain == "=":
        return _equal(text, field, other)
    if field == "created":
        raise InvalidQuery(f"{text!r}: compare a time with >=, <=, > or <. Give any of: {HELP}.")
    raise InvalidQuery(f"{text!r}: only = is allowed here. Give any of: {HELP}.")


def _meant(field: str, operator: str, value: str) -> str:
    if field in ("version", "number"):
        return " To see a version by its number: `modelmint models show digits:3`."
    key = "param" if operator == "=" else "metric"
    return f" Did you mean {key}.{field}{operator}{value}?"


def _refuse_operator(text: str) -> None:
    # Otherwise != or == would be parsed as =, with a sign left in the key or value.
    if found := re.match(r"[^=<>!]*([!=]=)", text):
        raise InvalidQuery(
            f"{text!r}: {found[1]} is not an operator of a search. Metrics can be compared with >= "
            f"<= > < and =, other keys except `created` only with =. Give any of: {HELP}."
        )


def built_on(md5: str) -> ColumnElement[bool]:
    """Whether a version was made from a dataset or a file, by its hash."""
    # Not OR: with it, PostgreSQL would read every version.
    return _v.id.in_(union_all(*built_on_ids(md5)))


def built_on_ids(md5: str) -> tuple[Select[int], Select[int]]:
    """The ids of the versions behind `built_on`: by their dataset, and by a file."""
    any_, data = schema.versions.alias("any_version").c, schema.version_data.c
    return (
        select(any_.id).where(any_.dataset.in_(spellings(md5))),
        select(data.version_id).where(data.md5.in_(spellings(md5))),
    )


def is_built_on(md5: str) -> ColumnElement[bool]:
    """`built_on` as a condition that is checked row by row, for queries that read all rows."""
    data, spelled = schema.version_data.c, spellings(md5)
    raw = exists().where(data.version_id == _v.id, data.md5.in_(spelled))
    return or_(_v.dataset.in_(spelled), raw)


def built_on_page(
    c: Connection, md5: str, *, limit: int, after: str | None
) -> tuple[Sequence[AnyRow], str | None]:
    """Rows of a `SUMMARY`, newest first, of versions built on data; and the next page's cursor."""
    top = []
    any_, data = schema.versions.alias("any_version").c, schema.version_data.c
    for hash_ in spellings(md5):
        for id_, column in ((any_.id, any_.dataset), (data.version_id, data.md5)):
            # Each from an index with ordered ids, so that only the first few are read.
            ids = select(id_.label("id")).where(column == hash_).distinct()
            if after is not None:
                ids = ids.where(id_ < _cursor(after, by_metric=False)[1])
            ids = ids.order_by(id_.desc()).limit(limit + 1)
            top.append(select(ids.subquery().c.id))
    query = summaries.SUMMARY.where(_v.id.in_(union(*top))).order_by(_v.id.desc())
    rows = c.execute(query.limit(limit + 1)).all()
    return rows[:limit], f":{rows[limit - 1].id}" if len(rows) > limit else None


@dataclass(frozen=True)
class _Order:
    """A total order, so that a page can begin after the last row of the previous page."""

    metric: str | None
    ascending: bool
    newest: ColumnElement[int]
    """The column that orders by age: the number within a model, the id across models or with a tag.
    For each, an index has the rows in this order."""

    few: bool
    """Whether few versions are sorted: their metrics are then looked up one by one. For many, the
    index of the metric is read in order, skipping the versions that do not match."""

    def apply(self, query: AnySelect, after: str | None, *, rare: bool = False) -> AnySelect:
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

    def cursor(self, row: AnyRow) -> str:
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
    lead = _leading_tag(where)
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
        # Only now: if a version was found, all keys of the search exist.
        if name is not None:
            models.load_id(c, name)
        for kind, key in _keys_in(where, order):
            unknown_keys.refuse_unknown(c, name, kind, key)
    shown = rows[:limit]
    more = _order(order, name, lead).cursor(shown[-1]) if len(rows) > limit else None
    return Page(summaries.load(c, shown), more)


def _keys_in(where: Sequence[str], order: str) -> list[tuple[str, str]]:
    """Kind and name of the keys in conditions and an order: ("metric", "accuracy")."""
    found = []
    for match in filter(None, (_CONDITION.fullmatch(text.strip()) for text in where)):
        if match[1]:
            found.append((match[1], match[2].strip()))
        elif match[5] in ("alias", "dataset"):
            found.append((match[5], match[7].strip()))
    ordered = _ORDER.fullmatch(order)
    return found + ([("metric", ordered[1])] if ordered and ordered[1] else [])


_FEW = 4000
"""The most versions to look up one by one, in 10 ms. For a model with more versions, among 200,000
in all, a page of 50 in the order of a metric skips about as many."""


def _are_few(c: Connection, lead: "_LeadingTag | None") -> bool:
    """Whether few versions have the leading tag."""
    if lead is None:
        return False
    tagged = select(_tag.version_id).where(_has(version_tags, lead.key, lead.value))
    return not _has_many(c, tagged)


def _is_common(c: Connection, met: Any) -> bool:
    """Whether many versions meet a condition that looks ids up."""
    ids: Any = _ids_of(met)
    own: Any = met.left
    if own is not _v.id:  # ids of parameters, which many versions may share
        any_ = schema.versions.alias("any_version").c
        ids = select(any_.id).where(any_[own.name].in_(ids))
    return _has_many(c, ids)


def _has_many(c: Connection, ids: AnySelect | CompoundSelect[*tuple[Any, ...]]) -> bool:
    """Whether a query finds more than _FEW rows; it reads no more than that."""
    some = ids.limit(_FEW + 1).subquery()
    return c.execute(select(func.count()).select_from(some)).scalar_one() > _FEW


def _ids_of(met: ColumnElement[bool]) -> AnySelect | CompoundSelect[*tuple[Any, ...]] | None:
    """The query in a condition that looks ids up; None for another condition."""
    if not isinstance(met, BinaryExpression) or not isinstance(met.right, ScalarSelect):
        return None
    ids: Any = met.right.element
    return ids if isinstance(met.left, Column) else None


def _checked_by_row(met: ColumnElement[bool]) -> ColumnElement[bool]:
    """A condition that looks ids up, changed into one that is checked row by row."""
    ids: Any = _ids_of(met)
    own: Any = met.left
    parts: Any = ids.selects if isinstance(ids, CompoundSelect) else [ids]
    # Not EXISTS: PostgreSQL would turn it into a join that starts with all matching rows.
    found = (one.where(one.selected_columns[0] == own) for one in parts)
    queries = (one.correlate(schema.versions).limit(1).scalar_subquery() for one in found)
    return or_(*(one.is_not(None) for one in queries))


# Pages and dashboards repeat their searches, and building a statement takes 1.1 ms of the 10 ms of
# a search by tag on PostgreSQL.
@lru_cache(maxsize=256)
def _statement(*given: Any, limit: int, **known: Any) -> AnySelect:
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
) -> AnySelect:
    """The statement of a page, for `page` and for tests of its query plan.

    `few` says that few versions are sorted by a metric. Many versions meet the conditions in
    `common`, so these are checked row by row. If few versions meet another condition (`rare`), they
    are looked up and sorted instead of reading in order until enough match. `model` is the id of
    the model with that name, if known: PostgreSQL then knows how many versions it has.
    """
    lead = _leading_tag(where)
    rest = [text for text in where if lead is None or text is not lead.text]
    query = summaries.SUMMARY.where(
        *(_checked_by_row(condition(t)) if t in common else condition(t) for t in rest)
    )
    if lead is not None:
        query = query.join(version_tags, _tag.version_id == _v.id)
        query = query.where(_has(version_tags, lead.key, lead.value))
    if name is not None:
        # A subquery: loading the id first would be another round trip.
        named = select(_named.id).where(_named.name == name).scalar_subquery()
        # `+ 0` prevents the use of an index: SQLite then starts with the rare condition.
        own = _v.model_id + 0 if rare else _v.model_id
        query = query.where(own == (named if model is None else model))
    return _order(order, name, lead, few=few).apply(query, after, rare=rare)


@dataclass(frozen=True)
class _LeadingTag:
    """The tag condition that a query starts with: its index has the versions in order."""

    text: str
    key: str
    value: str


def _leading_tag(where: Sequence[str]) -> _LeadingTag | None:
    for text in where:
        match = _CONDITION.fullmatch(text.strip())
        if match and match[1] == "tag" and match[3] == "=":
            _refuse_operator(text)
            return _LeadingTag(text, match[2].strip(), match[4].strip())
    return None


def _order(text: str, name: str | None, lead: _LeadingTag | None, *, few: bool = False) -> _Order:
    match = _ORDER.fullmatch(text)
    if match is None:
        raise InvalidQuery(
            f"{text!r} is not an order. Give newest, metric.NAME (highest first) or "
            "metric.NAME:asc (lowest first)."
        )
    newest = _tag.version_id if lead else _v.id if name is None else _v.version
    return _Order(match[1], ascending=bool(match[2]), newest=newest, few=few)


def _cursor(after: str, *, by_metric: bool) -> tuple[float, int]:
    match = re.fullmatch(r"(-?[0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?)?:([0-9]{1,9})", after)
    if match is None or by_metric != bool(match[1]):
        raise InvalidQuery(
            f"{after!r} is not the end of a page in this order. Give the value that the previous "
            "page named, or nothing."
        )
    return float(match[1] or 0), int(match[2])


def _has(table: Table, key: str, value: str) -> ColumnElement[bool]:
    """Whether a row of keys and values has this key and value."""
    of_it = and_(table.c.key == key, start_of(table) == value[:INDEXED])
    # A value shorter than the indexed part is completely in the index.
    return of_it if len(value) < INDEXED else and_(of_it, table.c.value == value)


def _equal(text: str, field: str, value: str) -> ColumnElement[bool]:
    if not value:
        raise InvalidQuery(f"{text!r} has no value. Give any of: {HELP}.")
    if field == "dataset":
        return built_on(value)
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
        raise InvalidQuery(f"{text!r} has {len(value)} digits. Give all {digits} digits.")
    return _PLAIN[field] == (normalize("NFC", value) if field == "by" else value)


def _number(text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise InvalidQuery(f"{text!r}: compare a metric with a number.") from error
    if not math.isfinite(number):
        raise InvalidQuery(f"{text!r}: compare a metric with a finite number, not {number}.")
    return number


def _time(text: str, value: str) -> int:
    try:
        return microseconds(datetime.fromisoformat(value))
    except ValueError as error:
        raise InvalidQuery(
            f"{text!r}: give a date or a time in ISO form, in UTC: 2026-01-31 or 2026-01-31T09:00."
        ) from error
