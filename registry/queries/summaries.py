"""Versions as lists show them: without documents and files."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from registry import schema
from registry.queries import parts
from registry.queries.rows import typed
from registry.queries.states import STATUS
from registry.records import Summary
from registry.schema import versions
from registry.values import moment

SUMMARY = select(
    versions.c.id,
    schema.models.c.name.label("model"),
    versions.c.version.label("number"),
    versions.c.digest,
    versions.c.dataset,
    versions.c.created_at,
    versions.c.created_by,
    STATUS,
    versions.c.params_id,
).join(schema.models, schema.models.c.id == versions.c.model_id)
"""The rows that `load` wants; conditions and order are the caller's."""


def load(c: Connection, rows: Sequence[Row[Any]]) -> tuple[Summary, ...]:
    """The rows of a `SUMMARY`, with metrics, tags and aliases."""
    found = parts.load_for_lists(c, [row.id for row in rows])
    # Asked for once per document of parameters: most versions of a page share theirs.
    compare_by = parts.load_metric_names(c, sorted({row.params_id for row in rows}))
    return tuple(
        Summary(
            model=row.model,
            version=row.number,
            digest=row.digest,
            dataset=row.dataset,
            status=typed(str, row.status),
            metrics=found[row.id].metrics,
            tags=found[row.id].tags,
            aliases=tuple(found[row.id].aliases),
            created_at=moment(row.created_at),
            created_by=row.created_by,
            metric=compare_by.get(row.params_id),
        )
        for row in rows
    )
