"""Versions for lists: without documents and files."""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from registry import schema
from registry.queries import parts
from registry.queries.rows import AnyRow, typed
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
    parts.ALIASES,
).join(schema.models, schema.models.c.id == versions.c.model_id)
"""The rows that `load` expects; the caller adds conditions and an order."""


def load(c: Connection, rows: Sequence[AnyRow]) -> tuple[Summary, ...]:
    """The rows of a `SUMMARY`, with metrics, tags and aliases."""
    found = parts.load_for_lists(c, [row.id for row in rows])
    # Once per document of parameters: most versions of a page share one.
    compare_by = parts.load_metric_names(c, sorted({row.params_id for row in rows}))
    # Unpacked: with row.model and so on, a list of 100 versions takes a sixth longer.
    return tuple(
        Summary(
            model=model,
            version=number,
            digest=digest,
            dataset=dataset,
            status=typed(str, status),
            metrics=found[id_].metrics,
            tags=found[id_].tags,
            aliases=tuple(sorted(aliases.split("\n"))) if aliases else (),
            created_at=moment(at),
            created_by=created_by,
            metric=compare_by.get(params),
        )
        for id_, model, number, digest, dataset, at, created_by, status, params, aliases, *_ in rows
    )
