"""The table `blobs`: a row for each stored file, which a collection locks before it removes one."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    TextClause,
    bindparam,
    delete,
    exists,
    or_,
    select,
    text,
    update,
)

from registry.queries import on_conflict
from registry.schema import blobs, models, version_artifacts, version_state, versions


def lease(
    c: Connection,
    files: Iterable[tuple[str, int]],
    clock: ColumnElement[int],
    *,
    stored: bool = True,
) -> None:
    """See that files, by SHA-256 and size, have rows.

    A collection waits until the transaction ends, and then leaves the files alone for its grace.
    Files that are `stored` by that end are no longer purged. One that is only announced stays so:
    it may never come.
    """
    # Sorted: two registrations of the same bytes wait for each other, but never in a circle.
    rows = [{"sha256": sha256, "size": size} for sha256, size in sorted(set(files))]
    c.execute(_announcement(clock, stored), rows)


# As text: SQLAlchemy would compile ON CONFLICT anew each time, which takes longer than the rest.
@cache
def _announcement(clock: ColumnElement[int], stored: bool) -> TextClause:
    return text(
        f"INSERT INTO blobs (sha256, size, touched) VALUES (:sha256, :size, {clock}) "
        f"ON CONFLICT (sha256) DO UPDATE SET touched = {clock}" + ", purged_at = NULL" * stored
    )


_PURGED = blobs.c.purged_at.is_not(None)
_HELD = (
    select(blobs.c.sha256)
    .where(blobs.c.sha256.in_(bindparam("wanted", expanding=True)), ~_PURGED)
    .order_by(blobs.c.sha256)
    .with_for_update(key_share=True, read=True)
)


def hold(c: Connection, digests: Iterable[str]) -> bool:
    """Whether every row is still there; none of them can be deleted in this transaction."""
    wanted = sorted(set(digests))
    return len(c.execute(_HELD, {"wanted": wanted}).all()) == len(wanted)


def known(c: Connection) -> set[str]:
    """The SHA-256 of every row."""
    return set(c.execute(select(blobs.c.sha256)).scalars())


def any_referenced(c: Connection, digests: Iterable[str]) -> bool:
    """Whether a version refers to one of these files."""
    of_versions = version_artifacts.c.sha256
    query = select(of_versions).where(of_versions.in_(list(digests))).limit(1)
    return c.execute(query).first() is not None


def purged(c: Connection) -> set[str]:
    """The SHA-256 of every file that was removed on purpose, and that no living version needs."""
    return set(c.execute(select(blobs.c.sha256).where(_PURGED, ~_living())).scalars())


def purged_of(c: Connection, name: str, version: int) -> set[str]:
    """The SHA-256 of every file of a version that was removed on purpose."""
    own = blobs.c.sha256.in_(_of_version(name, version))
    return set(c.execute(select(blobs.c.sha256).where(own, _PURGED)).scalars())


def is_purged(c: Connection, sha256: str) -> bool:
    """Whether a file was removed on purpose, and no living version needs it.

    Its row is held until the transaction ends.
    """
    here = select(blobs.c.sha256).where(blobs.c.sha256 == sha256, _PURGED)
    # Held first: what a transaction that one waited for has changed is to be seen.
    c.execute(here.with_for_update())
    return c.execute(here.where(~_living())).first() is not None


def adopt(c: Connection, sha256: str, size: int) -> None:
    """Give a file without a row one, so that removing it goes the way of all others."""
    new = on_conflict.insert(c.dialect.name, blobs).values(sha256=sha256, size=size, touched=0)
    c.execute(new.on_conflict_do_nothing())


def needed(c: Connection) -> dict[str, int]:
    """Size by SHA-256 of every file that must be there.

    Some version refers to it, and it was not purged; whatever its row says, a living version's
    file was not.
    """
    query = select(blobs.c.sha256, blobs.c.size).where(_referenced(), or_(~_PURGED, _living()))
    return {row.sha256: row.size for row in c.execute(query.order_by(blobs.c.sha256))}


def unreferenced(c: Connection, clock: ColumnElement[int]) -> list[tuple[str, int, float]]:
    """SHA-256, size and seconds since its lease of every file that no version refers to."""
    age = (clock - blobs.c.touched) / 1e6
    query = select(blobs.c.sha256, blobs.c.size, age).where(~_referenced())
    return [(sha256, size, float(seconds)) for sha256, size, seconds in c.execute(query)]


def forget(c: Connection, sha256: str, grace_s: float, clock: ColumnElement[int]) -> bool:
    """Delete the row of a file that no version refers to; False where one does, or soon may."""
    old = blobs.c.touched <= clock - int(grace_s * 1e6)
    here = blobs.c.sha256 == sha256
    # Held first: a DELETE that has to wait for a registration would look for references as of
    # before it waited.
    c.execute(select(blobs.c.sha256).where(here).with_for_update())
    return c.execute(delete(blobs).where(here, old, ~_referenced())).rowcount == 1


def outlived(c: Connection, name: str, version: int) -> dict[str, int]:
    """Size by SHA-256 of those files of a version that no living version refers to.

    Without those that were purged. Their rows are held until the transaction ends.
    """
    here = select(blobs.c.sha256, blobs.c.size).where(
        blobs.c.sha256.in_(_of_version(name, version))
    )
    here = here.order_by(blobs.c.sha256)
    # FOR UPDATE, which an UPDATE of `purged_at` alone would not take: it shuts out `hold`. First:
    # what a transaction that one waited for has changed is to be seen.
    c.execute(here.with_for_update())
    return {row.sha256: row.size for row in c.execute(here.where(~_PURGED, ~_living()))}


def purge(c: Connection, digests: Iterable[str], clock: ColumnElement[int]) -> None:
    """Mark files as removed on purpose."""
    c.execute(update(blobs).where(blobs.c.sha256.in_(list(digests))).values(purged_at=clock))


def of_version(c: Connection, name: str, version: int) -> list[str]:
    """The SHA-256 of every file of a version."""
    return list(c.execute(_of_version(name, version)).scalars())


def _of_version(name: str, version: int) -> Any:
    return (
        select(version_artifacts.c.sha256)
        .join(versions, versions.c.id == version_artifacts.c.version_id)
        .join(models, models.c.id == versions.c.model_id)
        .where(models.c.name == name, versions.c.version == version)
    )


def _referenced() -> Any:
    return exists().where(version_artifacts.c.sha256 == blobs.c.sha256)


def _living() -> Any:
    used = version_artifacts.c.sha256 == blobs.c.sha256
    same = version_state.c.version_id == version_artifacts.c.version_id
    return exists().where(used, same, version_state.c.status != "archived")
