"""Versions that a policy no longer keeps, and archived versions that still have files."""

from sqlalchemy import Connection, select

from registry.queries import events, summaries
from registry.queries import models as named
from registry.queries.jobs import dead
from registry.queries.rows import AnyRow
from registry.records import Model
from registry.schema import aliases, blobs, jobs, models, version_artifacts, version_state
from registry.schema import versions as table
from registry.values import now

USES = ("running", "completed")
"""The states of jobs that keep their version: its predictions exist, or are being made. The rule
`version_state_keeps_what_is_used` has the same states."""


_DAY = 86_400_000_000  # microseconds


def unkept(c: Connection, model: Model, version: int | None = None) -> list[AnyRow]:
    """The versions that nothing uses and the policy does not keep: rows for `summaries`.

    With `version`, only that version, if it is one of them.
    """
    child = table.alias("child")
    pointed_to = aliases.select().where(
        aliases.c.model_id == table.c.model_id, aliases.c.version == table.c.version
    )
    used = (
        pointed_to,
        jobs.select().where(jobs.c.version_id == table.c.id, jobs.c.state.in_(USES), ~dead()),
        child.select().where(child.c.parent_uid == table.c.uid),
    )
    joined = summaries.SUMMARY.join(version_state, version_state.c.version_id == table.c.id)
    query = joined.where(
        models.c.name == model.name,
        version_state.c.status != "archived",
        table.c.version.not_in(_to_roll_back_to(c, model)),
        *(~by.exists() for by in used),
    )
    if version is not None:
        query = query.where(table.c.version == version)
    policy = model.policy
    if policy.keep_last is not None:
        query = query.where(table.c.version <= model.last_version - policy.keep_last)
    if policy.keep_days is not None:
        # Older releases accepted more days than there have been since 1970.
        since = max(0, now() - int(policy.keep_days) * _DAY)
        query = query.where(table.c.created_at < since)
    return list(c.execute(query.order_by(table.c.version)))


def _to_roll_back_to(c: Connection, model: Model) -> set[int]:
    """The versions that the next `keep_holders` rollbacks of each protected alias would reach.

    Includes as many of the latest holders: a version that was rolled back may be needed again.
    """
    id_, keep = named.load_id(c, model.name), model.policy.keep_holders
    present = {alias.name: alias.version for alias in model.aliases}
    may_hold = select(version_state.c.version).where(
        version_state.c.model_id == id_, version_state.c.status.in_(("approved", "candidate"))
    )
    kept: set[int] = set()
    for alias in model.policy.protected:
        reached, latest = events.former_holders(c, id_, alias), events.latest_holders(c, id_, alias)
        # A rollback skips versions that were archived or rejected since.
        still = set(c.execute(may_hold.where(version_state.c.version.in_(latest))).scalars())
        still.discard(present.get(alias, 0))
        for before in (reached, latest):
            kept.update([v for v in before if v in still][:keep])
    return kept


def with_files(c: Connection) -> list[tuple[str, int]]:
    """Model and number of every archived version with a file that was not purged yet."""
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
