"""The table `blobs`: a row for each stored file; `gc` locks the row before it removes the file."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    delete,
    exists,
    or_,
    select,
    update,
)

from registry.queries import on_conflict
from registry.schema import blobs, models, version_artifacts, version_state, versions

_PURGED = blobs.c.purged_at.is_not(None)


def touch(
    c: Connection,
    files: Iterable[tuple[str, int]],
    clock: ColumnElement[int],
    *,
    stored: bool = True,
) -> None:
    """Give each file, by SHA-256 and size, a row with the present time.

    `gc` waits for the end of this transaction, then keeps the files for its grace period. Files
    that are `stored` no longer count as purged; a file that is only announced may never arrive, so
    it stays purged.
    """
    # Sorted, so that two registrations of the same bytes cannot deadlock.
    rows = [{"sha256": sha256, "size": size} for sha256, size in sorted(set(files))]
    new = on_conflict.insert(c.dialect.name, blobs).values(touched=clock)
    changed = {"touched": clock} | ({"purged_at": None} if stored else {})
    c.execute(new.on_conflict_do_update(index_elements=[blobs.c.sha256], set_=changed), rows)


def keep(c: Connection, files: Iterable[tuple[str, int]], clock: ColumnElement[int]) -> None:
    """Give each file, by SHA-256 and size, a row that stays until this transaction ends.

    For files of a version: `gc` waits for the end of this transaction, and then finds the version.
    Rows that exist are only locked, with a lock that other registrations share. `touch` would
    change them, and every version with the same `model-card.md` would wait for the one before it.
    """
    sizes = dict(files)
    rows = select(blobs.c.sha256, blobs.c.purged_at).where(blobs.c.sha256.in_(list(sizes)))
    locked = rows.order_by(blobs.c.sha256).with_for_update(key_share=True, read=True)
    kept = {row.sha256 for row in c.execute(locked) if row.purged_at is None}
    if other := sizes.keys() - kept:
        touch(c, [(sha256, sizes[sha256]) for sha256 in other], clock)


def lock_rows(c: Connection, digests: Iterable[str]) -> bool:
    """Whether every file has a row and is not purged; no row is deleted in this transaction."""
    needed = sorted(set(digests))
    query = select(blobs.c.sha256).where(blobs.c.sha256.in_(needed), ~_PURGED)
    locked = query.order_by(blobs.c.sha256).with_for_update(key_share=True, read=True)
    return len(c.execute(locked).all()) == len(needed)


def all_hashes(c: Connection) -> set[str]:
    """The SHA-256 of every row."""
    return set(c.execute(select(blobs.c.sha256)).scalars())


def any_referenced(c: Connection, digests: Iterable[str]) -> bool:
    """Whether a version refers to one of these files."""
    of_versions = version_artifacts.c.sha256
    query = select(of_versions).where(of_versions.in_(list(digests))).limit(1)
    return c.execute(query).first() is not None


def purged(c: Connection) -> set[str]:
    """The SHA-256 of every purged file that only archived versions need."""
    return set(c.execute(select(blobs.c.sha256).where(_PURGED, ~_in_use())).scalars())


def purged_of(c: Connection, name: str, version: int) -> set[str]:
    """The SHA-256 of every purged file of a version."""
    own = blobs.c.sha256.in_(_of_version(name, version))
    return set(c.execute(select(blobs.c.sha256).where(own, _PURGED)).scalars())


def is_purged(c: Connection, sha256: str) -> bool:
    """Whether a file was purged and only archived versions need it.

    Its row is locked until the transaction ends.
    """
    here = select(blobs.c.sha256).where(blobs.c.sha256 == sha256, _PURGED)
    # Locked first: the second query then sees the changes of a transaction we had to wait for.
    c.execute(here.with_for_update())
    return c.execute(here.where(~_in_use())).first() is not None


def insert_missing(c: Connection, sha256: str, size: int) -> None:
    """Insert a row for a file without one, so that all files are removed in the same way."""
    new = on_conflict.insert(c.dialect.name, blobs).values(sha256=sha256, size=size, touched=0)
    c.execute(new.on_conflict_do_nothing())


def needed(c: Connection) -> dict[str, int]:
    """Size by SHA-256 of every file that must exist.

    These are the files of versions, except purged ones. The file of a version that is not archived
    must exist even if its row says that it was purged.
    """
    query = select(blobs.c.sha256, blobs.c.size).where(_referenced(), or_(~_PURGED, _in_use()))
    return {row.sha256: row.size for row in c.execute(query.order_by(blobs.c.sha256))}


def unreferenced(c: Connection, clock: ColumnElement[int]) -> list[tuple[str, int, float]]:
    """SHA-256, size and seconds since the last `touch` of every file that no version refers to."""
    age = (clock - blobs.c.touched) / 1e6
    query = select(blobs.c.sha256, blobs.c.size, age).where(~_referenced())
    return [(sha256, size, float(seconds)) for sha256, size, seconds in c.execute(query)]


def delete_if_unused(c: Connection, sha256: str, grace_s: float, clock: ColumnElement[int]) -> bool:
    """Delete the row of an unreferenced file; False if a version refers to it, or soon may."""
    old = blobs.c.touched <= clock - int(grace_s * 1e6)
    here = blobs.c.sha256 == sha256
    # Locked first: a DELETE that had to wait for a registration would not see its references.
    c.execute(select(blobs.c.sha256).where(here).with_for_update())
    return c.execute(delete(blobs).where(here, old, ~_referenced())).rowcount == 1


def only_archived(c: Connection, name: str, version: int) -> dict[str, int]:
    """Size by SHA-256 of the files of a version that only archived versions refer to.

    Without purged files. The rows are locked until the transaction ends.
    """
    here = select(blobs.c.sha256, blobs.c.size).where(
        blobs.c.sha256.in_(_of_version(name, version))
    )
    here = here.order_by(blobs.c.sha256)
    # FOR UPDATE, which an UPDATE of `purged_at` alone would not take, keeps `lock_rows` out. First:
    # the second query then sees the changes of a transaction we had to wait for.
    c.execute(here.with_for_update())
    return {row.sha256: row.size for row in c.execute(here.where(~_PURGED, ~_in_use()))}


def purge(c: Connection, digests: Iterable[str], clock: ColumnElement[int]) -> None:
    """Mark files as purged."""
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


def _in_use() -> Any:
    """Whether a version that is not archived refers to the file."""
    used = version_artifacts.c.sha256 == blobs.c.sha256
    same = version_state.c.version_id == version_artifacts.c.version_id
    return exists().where(used, same, version_state.c.status != "archived")
