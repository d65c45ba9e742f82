"""Files in the store that no version refers to: left by killed registrations, or unknown."""

from dataclasses import replace
from time import time

from registry import ownership
from registry.errors import Refused
from registry.queries import blobs
from registry.records import Stray
from registry.registry import Registry

Strays = dict[str, Stray]
"""By SHA-256."""


def find_strays(registry: Registry) -> Strays:
    """Files that no version refers to, with their age or the age of their announcement.

    `Stray.unknown` marks files that were registered, but not in this database: the database is
    older than the store, or that of another registry.
    """
    strays = _scan(registry)
    if not any(stray.unknown for stray in strays.values()):
        return strays
    # Again: another `gc` may have removed files and their note during the first scan.
    return {
        sha256: stray
        for sha256, stray in _scan(registry).items()
        if not stray.unknown or (sha256 in strays and strays[sha256].unknown)
    }


def unknown_files_message(registry: Registry, strays: Strays) -> str | None:
    """The message about files that were registered, but not in this database; None if none."""
    unknown = [stray.path for stray in strays.values() if stray.unknown]
    if not unknown:
        return None
    more = f" and {len(unknown) - 3:,} more" if len(unknown) > 3 else ""
    return (
        f"The artifact store {registry.files.root} has files that {registry.database.shown} does "
        f"not know, and that no killed registration left ({len(unknown):,}): "
        f"{', '.join(unknown[:3])}{more}. The database is an older copy, or that of another "
        "registry, so versions that it does not have may need these files. Correct "
        "MODELMINT_DATABASE_URL"
    )


def refuse_unknown(registry: Registry, strays: Strays) -> None:
    """Raises Refused if there are files that were registered, but not in this database."""
    if message := unknown_files_message(registry, strays):
        raise Refused(
            f"{message}. Nothing was removed. If you know that no database needs them (a power cut "
            "can leave them, too), remove them: `modelmint models gc --unknown`."
        )


def find_shared(registry: Registry) -> Strays:
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
    # In this order: a file that is registered meanwhile has a note or rows when these are read.
    stored = dict(registry.files.files())
    noted = ownership.noted(registry.files)
    with registry.database.read() as c:
        known = blobs.all_hashes(c)
        # Files that are marked as purged and exist were left by a killed registration.
        purged = blobs.purged(c)
        rows = blobs.unreferenced(c, registry.database.dialect.CLOCK)
    strays = {
        sha256: replace(stray, unknown=sha256 not in known | noted)
        for sha256, stray in stored.items()
        if sha256 not in known - purged
    }
    for sha256, size, age in rows:
        path = registry.files.path_of(sha256)
        strays[sha256] = Stray(path, size, max(0.0, age), removable=False)
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
