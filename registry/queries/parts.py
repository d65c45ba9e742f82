"""Everything that has several rows a version, in one query: a round trip costs more than a row."""

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    CompoundSelect,
    Connection,
    Double,
    Integer,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    func,
    literal,
    null,
    select,
    union_all,
)

from registry import schema
from registry.queries import rows
from registry.records import Artifact
from registry.schema import versions
from registry.values import to_json

POINTS_HERE = and_(
    schema.aliases.c.model_id == versions.c.model_id,
    schema.aliases.c.version == versions.c.version,
)
"""That a row of `aliases` is of a row of `versions`."""


@dataclass(slots=True)
class Parts:
    """The rows of one version."""

    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    data: dict[str, str] = field(default_factory=dict)
    artifacts: list[Artifact] = field(default_factory=list)
    metric: str | None = None

    def take(
        self, kind: str, key: str, text: str, number: float, size: int = 0, flag: bool = False
    ) -> None:
        """Put a row where it belongs; which columns count depends on its kind."""
        if kind == "metric":
            self.metrics[key] = rows.typed(float, number)
        elif kind == "tag":
            self.tags[key] = rows.typed(str, text)
        elif kind == "alias":
            self.aliases.append(key)
        elif kind == "compared by":
            self.metric = None if text in (None, "null") else text
        elif kind == "data":
            self.data[key] = text
        else:
            self.artifacts.append(Artifact(key, text, size, bool(flag)))


def load(c: Connection, ids: list[int], *, documents: bool = True) -> dict[int, Parts]:
    """What hangs on versions, by their ids; without `documents`, no data and no files, and of the
    parameters the metric to compare versions by.
    """
    found: dict[int, Parts] = defaultdict(Parts)
    on_postgresql = c.dialect.name == "postgresql"
    query = _query(on_postgresql, documents)
    # all: a result that is iterated over asks the driver for each row apart.
    there = c.execute(query, {"ids": ids if on_postgresql else to_json(ids)}).all()
    for id_, *row in sorted(there, key=itemgetter(2)):
        found[id_].take(*row)
    return found


# Built once: that takes longer than SQLite needs to answer.
@cache
def _query(on_postgresql: bool, documents: bool) -> CompoundSelect[Any]:
    types = {"text": Text, "number": Double}
    kinds = [_metrics, _tags, _aliases]
    if documents:
        types |= {"size": BigInteger, "flag": Boolean}
        kinds += [_data, _artifacts]
    else:
        kinds.append(_compared_by)
    found = (kind(types) for kind in kinds)
    return union_all(*(one.where(_among(one.selected_columns[0], on_postgresql)) for one in found))


def _among(id_: ColumnElement[int], on_postgresql: bool) -> ColumnElement[bool]:
    """One parameter, however many ids: one for each would take longer than the query."""
    if on_postgresql:
        return id_ == any_(bindparam("ids", type_=ARRAY(Integer)))
    return id_.in_(select(func.json_each(bindparam("ids")).table_valued("value").c.value))


_Types = dict[str, Any]
"""The columns that every kind of row has in this query, used by it or not."""


def _columns(types: _Types, kind: str, id_: Any, key: Any, **given: Any) -> Select[Any]:
    rest = (given.get(name, cast(null(), type_)) for name, type_ in types.items())
    return select(id_, literal(kind), key, *rest)


def _metrics(types: _Types) -> Select[Any]:
    t = schema.version_metrics.c
    return _columns(types, "metric", t.version_id, t.key, number=t.value)


def _tags(types: _Types) -> Select[Any]:
    t = schema.version_tags.c
    return _columns(types, "tag", t.version_id, t.key, text=t.value)


def _compared_by(types: _Types) -> Select[Any]:
    # Not joined: SQLite would begin with every document of parameters that has the key.
    t, key = schema.param_values.c, "registration.metric"
    value = select(t.value).where(t.params_id == versions.c.params_id, t.key == key)
    text = value.scalar_subquery()
    return _columns(types, "compared by", versions.c.id, literal(key), text=text)


def _data(types: _Types) -> Select[Any]:
    t = schema.version_data.c
    return _columns(types, "data", t.version_id, t.path, text=t.md5)


def _artifacts(types: _Types) -> Select[Any]:
    t = schema.version_artifacts.c
    given = {"text": t.sha256, "size": t.size, "flag": t.identity}
    return _columns(types, "file", t.version_id, t.path, **given)


def _aliases(types: _Types) -> Select[Any]:
    columns = _columns(types, "alias", versions.c.id, schema.aliases.c.alias)
    return columns.select_from(versions.join(schema.aliases, POINTS_HERE))
