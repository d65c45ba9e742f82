"""Everything that has several rows a version, in one query: a round trip costs more than a row."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    Double,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    literal,
    null,
    select,
    union_all,
)

from registry import schema
from registry.records import Artifact
from registry.schema import versions

# SQLite takes some 32,000 parameters a statement.
_AT_ONCE = 1000

_points_here = and_(
    schema.aliases.c.model_id == versions.c.model_id,
    schema.aliases.c.version == versions.c.version,
)


@dataclass(slots=True)
class Parts:
    """The rows of one version."""

    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    data: dict[str, str] = field(default_factory=dict)
    artifacts: list[Artifact] = field(default_factory=list)

    def take(self, kind: str, key: str, text: str, number: float, size: int, flag: bool) -> None:
        """Put a row where it belongs; which columns count depends on its kind."""
        if kind == "metric":
            self.metrics[key] = number
        elif kind == "tag":
            self.tags[key] = text
        elif kind == "alias":
            self.aliases.append(key)
        elif kind == "data":
            self.data[key] = text
        else:
            self.artifacts.append(Artifact(key, text, size, bool(flag)))


def load(c: Connection, ids: list[int], *, documents: bool = True) -> dict[int, Parts]:
    """What hangs on versions, by their ids; without `documents`, no data and no files."""
    found: dict[int, Parts] = defaultdict(Parts)
    query = _EVERYTHING if documents else _IN_LISTS
    for start in range(0, len(ids), _AT_ONCE):
        rows = c.execute(query, {"ids": ids[start : start + _AT_ONCE]})
        for row in sorted(rows, key=lambda row: (row[1], row[2])):
            found[row[0]].take(*row[1:])
    return found


def _columns(kind: str, id_: Any, key: Any, **given: Any) -> Select[Any]:
    types = {"text": Text, "number": Double, "size": BigInteger, "flag": Boolean}
    rest = (given.get(name, cast(null(), type_)) for name, type_ in types.items())
    return select(id_, literal(kind), key, *rest).where(id_.in_(bindparam("ids", expanding=True)))


def _metrics() -> Select[Any]:
    t = schema.version_metrics.c
    return _columns("metric", t.version_id, t.key, number=t.value)


def _tags() -> Select[Any]:
    t = schema.version_tags.c
    return _columns("tag", t.version_id, t.key, text=t.value)


def _data() -> Select[Any]:
    t = schema.version_data.c
    return _columns("data", t.version_id, t.path, text=t.md5)


def _artifacts() -> Select[Any]:
    t = schema.version_artifacts.c
    return _columns("file", t.version_id, t.path, text=t.sha256, size=t.size, flag=t.identity)


def _aliases() -> Select[Any]:
    columns = _columns("alias", versions.c.id, schema.aliases.c.alias)
    return columns.select_from(versions.join(schema.aliases, _points_here))


# Built once: that takes longer than SQLite needs to answer.
_IN_LISTS = union_all(_metrics(), _tags(), _aliases())
_EVERYTHING = union_all(_metrics(), _tags(), _aliases(), _data(), _artifacts())
