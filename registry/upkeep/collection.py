"""Collection: remove files of the artifact store that no version needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from registry import ownership
from registry.errors import Unreachable
from registry.queries import blobs, events, models, retention
from registry.records import Stray
from registry.registry import Registry
from registry.upkeep import unreferenced
from registry.upkeep.unreferenced import Strays
from registry.validation.arguments import checked

DAY_S = 86_400
_TOO_MANY = 10


@checked
def gc(
    registry: Registry, *, dry_run: bool, grace_s: float = DAY_S, unknown: bool = False
) -> list[Stray]:
    """Remove files that no version refers to, and leftovers of interrupted registrations.

    Files that were written or announced less than `grace_s` seconds ago are kept and listed as not
    removable; so are files that may belong to another registry (`Stray.perhaps_foreign`). Returns
    all these files, oldest first; unless `dry_run`, the removable ones have been removed.

    Files that were registered, but not in this database (`Stray.unknown`), show that the database
    is older than the store. They are removed only with `unknown`.

    Raises:
        Refused: the store belongs to another registry; or the database knows none of its files; or
            there are unknown files.
        Unreachable: the database or the store cannot be written. A file that cannot be removed is
            reported after all others were removed.
    """
    registry.check_store()
    strays = unreferenced.find_strays(registry)
    if not unknown:
        unreferenced.refuse_unknown(registry, strays)
    if not dry_run:
        ownership.claim(registry.database, registry.files)
    found = [replace(s, removable=s.age_s >= grace_s) for s in registry.files.leftovers()]
    failures = _Failures()
    collected = _collect(registry, strays, grace_s, failures, dry_run=dry_run)
    if not dry_run:
        for stray in found:
            if stray.removable:
                with failures.collect():
                    registry.files.remove(stray.path)
        _drop_notes(registry, {sha256 for sha256, s in collected.items() if not s.removable})
    failures.end()
    return sorted(found + list(collected.values()), key=lambda stray: -stray.age_s)


@checked
def purge(registry: Registry, *, actor: str, dry_run: bool, unknown: bool = False) -> list[Stray]:
    """Remove files that only archived versions refer to; returns them.

    Rows, digests and numbers stay; registering the same bytes restores the files. Files that may
    belong to another registry are kept and listed as not removable. If the process is killed, some
    files may be marked as purged and still exist: `gc` removes them.

    Raises:
        Refused, Unreachable: as for `gc`; `unknown` means the same.
    """
    registry.check_store()
    if not unknown:
        unreferenced.refuse_unknown(registry, unreferenced.find_strays(registry))
    if not dry_run:
        ownership.claim(registry.database, registry.files)
    shared = unreferenced.find_shared(registry)
    with registry.database.read() as c:
        archived = retention.with_files(c)
    found: dict[str, Stray] = {}
    failures = _Failures()
    for name, version in archived:
        with registry.database.write() as c:
            # The rows of files before that of the model, as in a registration.
            unused = blobs.only_archived(c, name, version)
            model = models.lock(c, name)
            found |= {sha256: shared[sha256] for sha256 in unused if sha256 in shared}
            strays = {
                sha256: Stray(registry.files.path_of(sha256), size, 0.0, removable=True)
                for sha256, size in unused.items()
                if sha256 not in shared
            }
            found |= strays
            if strays and not dry_run:
                blobs.purge(c, strays, registry.database.dialect.CLOCK)
                kept = {"files": list(strays)}
                events.add(c, model, "purged", actor, version=version, payload=kept)
        # After the commit: a rollback would leave a version without its files.
        for sha256 in () if dry_run else strays:
            with failures.collect(), registry.database.write() as c:
                if blobs.is_purged(c, sha256):  # and was not registered again since
                    registry.files.remove(strays[sha256].path)
    failures.end()
    return list(found.values())


def _collect(
    registry: Registry, strays: Strays, grace_s: float, failures: "_Failures", *, dry_run: bool
) -> Strays:
    collected = {}
    for sha256, stray in strays.items():
        old = stray.age_s >= grace_s and not stray.perhaps_foreign
        if old and not dry_run:
            old = False
            with failures.collect():
                old = _remove(registry, sha256, stray, grace_s)
        collected[sha256] = replace(stray, removable=old)
    return collected


def _remove(registry: Registry, sha256: str, stray: Stray, grace_s: float) -> bool:
    """Remove a file unless a version needs it, or may need it soon."""
    # Row, file, commit: the row is locked until the file is removed, so a registration of the same
    # bytes waits, finds neither and stores them again. If the process is killed before the commit,
    # the row stays without a file, and the next `gc` removes it.
    with registry.database.write() as c:
        old = blobs.is_purged(c, sha256)  # its row stays, since versions refer to it
        if not old:
            blobs.insert_missing(c, sha256, stray.size)
            old = blobs.delete_if_unused(c, sha256, grace_s, registry.database.dialect.CLOCK)
        if old:
            registry.files.remove(stray.path)
        return old


class _Failures:
    """Collects errors of files that could not be removed, and reports them at the end."""

    def __init__(self) -> None:
        self._messages: list[str] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        try:
            yield
        except Unreachable as error:
            self._messages.append(str(error))
            if len(self._messages) == _TOO_MANY:  # the store itself has a problem
                self.end()

    def end(self) -> None:
        """Raises Unreachable if there were any."""
        if self._messages:
            raise Unreachable(" ".join(self._messages))


def _drop_notes(registry: Registry, kept: set[str]) -> None:
    """Remove notes of ended registrations, unless they name a file that is kept."""
    for note, digests in list(registry.files.notes()):
        # A day, whatever the grace period: the registration may not have published its files yet.
        if note.age_s >= DAY_S and digests.isdisjoint(kept):
            registry.files.remove(note.path)
