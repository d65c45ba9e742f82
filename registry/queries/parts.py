"""What has several rows a version: metrics, tags, aliases, data and files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Integer,
    Select,
    and_,
    any_,
    bindparam,
    func,
    select,
)

from registry import schema
from registry.queries.rows import typed
from registry.records import Artifact
from registry.schema import version_artifacts, version_data, version_metrics, version_tags, versions
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
    """What its parameters name to compare versions by (`registration.metric`), if they do."""


def load(c: Connection, ids: list[int]) -> dict[int, Parts]:
    """Everything that hangs on versions, by their ids."""
    found = _listed(c, ids)
    for id_, path, md5 in _by_key(c, "data", ids):
        found[id_].data[path] = md5
    for id_, path, sha256, size, identity in _by_key(c, "artifacts", ids):
        found[id_].artifacts.append(Artifact(path, sha256, size, bool(identity)))
    return found


def load_for_lists(c: Connection, ids: list[int]) -> dict[int, Parts]:
    """What lists show of versions, by their ids: no data and no files, but the metric to compare
    versions by.
    """
    found = _listed(c, ids)
    for id_, metric in _rows(c, "compared_by", ids):
        found[id_].metric = None if metric in (None, "null") else metric
    return found


def _listed(c: Connection, ids: list[int]) -> dict[int, Parts]:
    found = {id_: Parts() for id_ in ids}
    for id_, key, number in _by_key(c, "metrics", ids):
        found[id_].metrics[key] = typed(float, number)
    for id_, key, text in _by_key(c, "tags", ids):
        found[id_].tags[key] = typed(str, text)
    for id_, alias in _by_key(c, "aliases", ids):
        found[id_].aliases.append(alias)
    return found


def _by_key(c: Connection, kind: str, ids: list[int]) -> list[Any]:
    """Rows in the order of their keys: a database's own order of text depends on its settings."""
    return sorted(_rows(c, kind, ids), key=itemgetter(1))


def _rows(c: Connection, kind: str, ids: list[int]) -> Sequence[Any]:
    on_postgresql = c.dialect.name == "postgresql"
    # all: a result that is iterated over asks the driver for each row apart.
    given = {"ids": ids if on_postgresql else to_json(ids)}
    return c.execute(_queries(on_postgresql)[kind], given).all()


# Built once: that takes longer than SQLite needs to answer.
@cache
def _queries(on_postgresql: bool) -> dict[str, Select[Any]]:
    def rows_of(id_: Column[Any], *columns: Any) -> Select[Any]:
        return select(id_, *columns).where(_among(id_, on_postgresql))

    metrics, tags, data = version_metrics.c, version_tags.c, version_data.c
    files, values, alias = version_artifacts.c, schema.param_values.c, schema.aliases.c.alias
    metric = select(values.value).where(
        values.params_id == versions.c.params_id, values.key == "registration.metric"
    )
    return {
        "metrics": rows_of(metrics.version_id, metrics.key, metrics.value),
        "tags": rows_of(tags.version_id, tags.key, tags.value),
        "data": rows_of(data.version_id, data.path, data.md5),
        "artifacts": rows_of(
            files.version_id, files.path, files.sha256, files.size, files.identity
        ),
        "aliases": rows_of(versions.c.id, alias).join(schema.aliases, POINTS_HERE),
        # Not joined: SQLite would begin with every document of parameters that has the key.
        "compared_by": rows_of(versions.c.id, metric.scalar_subquery().label("metric")),
    }


def _among(id_: Column[Any], on_postgresql: bool) -> ColumnElement[bool]:
    """One parameter, however many ids: one for each would take longer than the query."""
    if on_postgresql:
        return id_ == any_(bindparam("ids", type_=ARRAY(Integer)))
    return id_.in_(select(func.json_each(bindparam("ids")).table_valued("value").c.value))
