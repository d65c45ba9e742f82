"""Which versions a policy no longer keeps, and which of the archived ones still have files."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select

from registry.queries import summaries
from registry.records import Model
from registry.schema import aliases, blobs, jobs, models, version_artifacts, version_state
from registry.schema import versions as table
from registry.values import microseconds


def outlived(c: Connection, model: Model) -> list[Row[Any]]:
    """The versions that nothing uses and the policy does not keep: rows for `summaries`."""
    child = table.alias("child")
    pointed_to = aliases.select().where(
        aliases.c.model_id == table.c.model_id, aliases.c.version == table.c.version
    )
    used = (
        pointed_to,
        jobs.select().where(jobs.c.version_id == table.c.id),
        child.select().where(child.c.parent_id == table.c.id),
    )
    joined = summaries.SUMMARY.join(version_state, version_state.c.version_id == table.c.id)
    query = joined.where(
        models.c.name == model.name,
        version_state.c.status != "archived",
        *(~by.exists() for by in used),
    )
    policy = model.policy
    if policy.keep_last is not None:
        query = query.where(table.c.version <= model.last_version - policy.keep_last)
    if policy.keep_days is not None:
        since = datetime.now(UTC) - timedelta(days=policy.keep_days)
        query = query.where(table.c.created_at < microseconds(since))
    return list(c.execute(query.order_by(table.c.version)))


def with_files(c: Connection) -> list[tuple[str, int]]:
    """Model and number of every archived version of which a file was not purged yet."""
    query = (
        select(models.c.name, table.c.version)
        .join(models, models.c.id == table.c.model_id)
        .join(version_state, version_state.c.version_id == table.c.id)
        .join(version_artifacts, version_artifacts.c.version_id == table.c.id)
        .join(blobs, blobs.c.sha256 == version_artifacts.c.sha256)
        .where(version_state.c.status == "archived", blobs.c.purged_at.is_(None))
        .distinct()
        .order_by(models.c.name, table.c.version)
    )
    return [(row.name, row.version) for row in c.execute(query)]
