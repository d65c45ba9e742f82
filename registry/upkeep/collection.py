"""Collection: remove files of the artifact store that no version needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from registry import ownership
from registry.errors import Unreachable
from registry.queries import blobs, events, models, retention
from registry.records import Stray
from registry.registry import Registry
from registry.upkeep import unreferenced as of_no_version
from registry.upkeep.unreferenced import Strays
from registry.validation.arguments import checked

DAY_S = 86_400
_TOO_MANY = 10


@checked
def gc(
    registry: Registry, *, dry_run: bool, grace_s: float = DAY_S, unknown: bool = False
) -> list[Stray]:
    """Remove files that no version refers to and leftovers of interrupted registrations.

    Whatever is younger than `grace_s` seconds, or was announced since, stays and is listed as not
    removable; so does what may be another registry's (`Stray.perhaps_foreign`). Returns what was
    found, oldest first; of that, the removable ones are gone unless `dry_run`.

    Files that were registered, and not in this database (`Stray.unknown`), say that it is older
    than the store. They go only with `unknown`.

    Raises:
        Refused: the store is another registry's; or the database knows none of its files, or not
            those that were registered.
        Unreachable: the database or the store cannot be written. A file that cannot be removed is
            named after all others were.
    """
    registry.check_store()
    strays = of_no_version.found(registry)
    if not unknown:
        of_no_version.check(registry, strays)
    if not dry_run:
        ownership.claim(registry.database, registry.files)
    found = [replace(s, removable=s.age_s >= grace_s) for s in registry.files.leftovers()]
    failures = _Failures()
    collected = _collect(registry, strays, grace_s, failures, dry_run=dry_run)
    if not dry_run:
        for stray in found:
            if stray.removable:
                with failures.noted():
                    registry.files.remove(stray.path)
        _drop_notes(registry, {sha256 for sha256, s in collected.items() if not s.removable})
    failures.end()
    return sorted(found + list(collected.values()), key=lambda stray: -stray.age_s)


@checked
def purge(registry: Registry, *, actor: str, dry_run: bool, unknown: bool = False) -> list[Stray]:
    """Remove the files that archived versions alone refer to; returns those.

    Rows, digests and numbers stay, and registering the same bytes restores the files. What may be
    another registry's stays, too, and is listed as not removable. Killed, it may leave files that
    are purged and there still: those `gc` removes.

    Raises:
        Refused, Unreachable: as for `gc`, whose `unknown` is this one.
    """
    registry.check_store()
    if not unknown:
        of_no_version.check(registry, of_no_version.found(registry))
    if not dry_run:
        ownership.claim(registry.database, registry.files)
    shared = of_no_version.shared(registry)
    with registry.database.read() as c:
        archived = retention.with_files(c)
    found: dict[str, Stray] = {}
    failures = _Failures()
    for name, version in archived:
        with registry.database.write() as c:
            model = models.lock(c, name)
            outlived = blobs.outlived(c, name, version)
            found |= {sha256: shared[sha256] for sha256 in outlived if sha256 in shared}
            strays = {
                sha256: Stray(registry.files.place(sha256), size, 0.0, removable=True)
                for sha256, size in outlived.items()
                if sha256 not in shared
            }
            found |= strays
            if strays and not dry_run:
                blobs.purge(c, strays, registry.database.dialect.CLOCK)
                kept = {"files": list(strays)}
                events.add(c, model, "purged", actor, version=version, payload=kept)
        # Once that is certain: undone by a kill, it would leave a version that lacks its files.
        for sha256 in () if dry_run else strays:
            with failures.noted(), registry.database.write() as c:
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
            with failures.noted():
                old = _remove(registry, sha256, stray, grace_s)
        collected[sha256] = replace(stray, removable=old)
    return collected


def _remove(registry: Registry, sha256: str, stray: Stray, grace_s: float) -> bool:
    """Remove a file unless a version needs it, or soon may."""
    # Row, file, commit: the row is locked until the file is gone, so a registration of the same
    # bytes waits, finds neither, and stores them anew. Killed in between, a row without a file
    # stays, which the next collection finds.
    with registry.database.write() as c:
        old = blobs.is_purged(c, sha256)  # which keeps its row: versions refer to it
        if not old:
            blobs.insert_missing(c, sha256, stray.size)
            old = blobs.delete_if_unused(c, sha256, grace_s, registry.database.dialect.CLOCK)
        if old:
            registry.files.remove(stray.path)
        return old


class _Failures:
    """What could not be removed: it does not stop the rest, and is named in the end."""

    def __init__(self) -> None:
        self._said: list[str] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        try:
            yield
        except Unreachable as error:
            self._said.append(str(error))
            if len(self._said) == _TOO_MANY:  # then it is not the file
                self.end()

    def end(self) -> None:
        """Raises Unreachable if there is any."""
        if self._said:
            raise Unreachable(" ".join(self._said))


def _drop_notes(registry: Registry, kept: set[str]) -> None:
    """Remove notes of registrations that ended somehow and left none of the files that are kept."""
    for note, digests in list(registry.files.notes()):
        # Whatever the grace: the registration may be about to put files there.
        if note.age_s >= DAY_S and digests.isdisjoint(kept):
            registry.files.remove(note.path)
