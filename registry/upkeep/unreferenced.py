"""Files of the store that no version refers to: of killed registrations, or unknown."""

from dataclasses import replace
from time import time

from registry import ownership
from registry.errors import Refused
from registry.queries import blobs
from registry.records import Stray
from registry.registry import Registry

Strays = dict[str, Stray]
"""By SHA-256."""


def found(registry: Registry) -> Strays:
    """Files that no version refers to, with their age or the age of their announcement.

    `Stray.unknown` marks files that were registered, but not in this database: the database is
    older than the store, or another registry's.
    """
    strays = _scan(registry)
    if not any(stray.unknown for stray in strays.values()):
        return strays
    # Twice: another collection may have removed files and their note in between.
    return {
        sha256: stray
        for sha256, stray in _scan(registry).items()
        if not stray.unknown or (sha256 in strays and strays[sha256].unknown)
    }


def alarming(registry: Registry, strays: Strays) -> str | None:
    """The message about files that were registered, but not in this database; None without any."""
    unknown = [stray.path for stray in strays.values() if stray.unknown]
    if not unknown:
        return None
    more = f" and {len(unknown) - 3:,} more" if len(unknown) > 3 else ""
    return (
        f"The artifact store {registry.files.root} has files that {registry.database.shown} does "
        f"not know, and that no killed registration left ({len(unknown):,}): "
        f"{', '.join(unknown[:3])}{more}. The database is an older copy of that of the store, or "
        "another's: versions that it does not have may need them. Correct MODELMINT_DATABASE_URL"
    )


def check(registry: Registry, strays: Strays) -> None:
    """Raises Refused if there are files that were registered, but not in this database."""
    if said := alarming(registry, strays):
        raise Refused(
            f"{said}. Nothing was removed. If you know that no database needs them (a power cut "
            "may leave such files, too): `modelmint models gc --unknown` removes them."
        )


def shared(registry: Registry) -> Strays:
    """Files that were in the store before it got its marker: another registry may need them."""
    adopted_s = _adopted_s(registry)
    if adopted_s is None:
        return {}
    return {
        sha256: replace(stray, perhaps_foreign=True)
        for sha256, stray in registry.files.files()
        if stray.age_s >= adopted_s
    }


def _scan(registry: Registry) -> Strays:
    # In this order: a file that is registered in between has a note or rows by then.
    stored = dict(registry.files.files())
    noted = ownership.noted(registry.files)
    with registry.database.read() as c:
        known = blobs.all_hashes(c)
        # Purged and there again: left by a registration that was killed.
        purged = blobs.purged(c)
        rows = blobs.unreferenced(c, registry.database.dialect.CLOCK)
    strays = {
        sha256: replace(stray, unknown=sha256 not in known | noted)
        for sha256, stray in stored.items()
        if sha256 not in known - purged
    }
    for sha256, size, age in rows:
        place = registry.files.place(sha256)
        strays[sha256] = Stray(place, size, max(0.0, age), removable=False)
    adopted_s = _adopted_s(registry)
    if adopted_s is None:
        return strays
    return {
        sha256: replace(stray, unknown=False, perhaps_foreign=True)
        if sha256 in stored and stored[sha256].age_s >= adopted_s
        else stray
        for sha256, stray in strays.items()
    }


def _adopted_s(registry: Registry) -> float | None:
    """How many seconds ago the store got its marker, if it already had files; else None."""
    adopted = ownership.adopted_at(registry.files)
    return time() - adopted if adopted else None
