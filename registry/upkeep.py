"""Looking after a whole registry: collecting what nobody needs, and retention."""

import time
from collections.abc import Iterable
from dataclasses import replace

from registry import belonging
from registry.arguments import checked
from registry.errors import Refused
from registry.queries import blobs, events, jobs, models, retention, states, summaries
from registry.records import Stray, Summary
from registry.store import Registry

DAY_S = 86_400


@checked
def gc(registry: Registry, *, dry_run: bool, grace_s: float = DAY_S) -> list[Stray]:
    """Remove files that no version refers to and leftovers of interrupted registrations.

    Whatever is younger than `grace_s` seconds, or was announced since, stays and is listed as not
    removable; so does what may be another registry's (`Stray.perhaps_foreign`). Returns what was
    found, oldest first; of that, the removable ones are gone unless `dry_run`.

    Raises:
        Refused: the store is another registry's, or the database knows none of its files.
        Unreachable: the database or the store cannot be written.
    """
    registry.check_store()
    if not dry_run:
        belonging.claim(registry.database, registry.files)
    found = [replace(s, removable=s.age_s >= grace_s) for s in registry.files.leftovers()]
    if not dry_run:
        for stray in found:
            if stray.removable:
                registry.files.remove(stray.path)
    found += _collect(registry, _unreferenced(registry), grace_s, dry_run=dry_run)
    return sorted(found, key=lambda stray: -stray.age_s)


@checked
def purge(registry: Registry, *, actor: str, dry_run: bool) -> list[Stray]:
    """Remove the files that archived versions alone refer to; returns those.

    Rows, digests and numbers stay, and registering the same bytes restores the files.

    Raises:
        Refused: the store is another registry's, or the database knows none of its files.
        Unreachable: the database or the store cannot be written.
    """
    registry.check_store()
    if not dry_run:
        belonging.claim(registry.database, registry.files)
    with registry.database.read() as c:
        archived = retention.with_files(c)
    found = []
    for name, version in archived:
        with registry.database.write() as c:
            model = models.lock(c, name)
            files = blobs.purge(c, name, version, registry.database.dialect.CLOCK)
            strays = [
                Stray(registry.files.place(sha256), size, 0.0, removable=True)
                for sha256, size in files
            ]
            found += strays
            if dry_run:
                c.rollback()
            elif strays:
                kept = {"files": [sha256 for sha256, _ in files]}
                events.add(c, model, "purged", actor, version=version, payload=kept)
                for stray in strays:
                    registry.files.remove(stray.path)
    return found


@checked
def retain(
    registry: Registry, name: str | None = None, *, actor: str, dry_run: bool
) -> list[Summary]:
    """Archive the versions that their model's policy no longer keeps; returns those.

    Of a model with a policy stay: the newest `keep_last`, those younger than `keep_days`, the
    `keep_holders` that held a protected alias before, and every version that an alias, predictions
    or another version use. A job without a flow run that was begun a week ago and never ended was
    killed: it keeps no version, and becomes lost with it.

    Raises:
        NotFound: there is no such model.
    """
    chosen = registry.models() if name is None else [registry.model(name)]
    retired = []
    for model in chosen:
        if model.policy.keep_last is None and model.policy.keep_days is None:
            continue
        with registry.database.read() as c:
            outlived = summaries.load(c, retention.outlived(c, model))
        for summary in outlived:
            if not dry_run:
                try:
                    if not _retire(registry, model.name, summary.version, actor):
                        continue
                except Refused:
                    continue  # somebody began to use it since it was looked at
            retired.append(summary)
    return retired


def _retire(registry: Registry, name: str, version: int, actor: str) -> bool:
    """Archive a version unless its model's policy, or who held an alias, changed meanwhile."""
    with registry.database.write() as c:
        locked = models.lock(c, name)
        still = retention.outlived(c, models.load(c, name), version)
        if still:
            jobs.lose_dead(c, still[0].id)
            states.change(c, still[0].id, "archived")
            events.add(c, locked, "archived", actor, version=version, reason="retention policy")
        return bool(still)


def _unreferenced(registry: Registry) -> list[tuple[str, Stray]]:
    """Files that no version refers to, with the age of their announcement or of themselves."""
    # Listed before the rows are read: what is registered in between has its rows by then.
    stored = dict(registry.files.files())
    with registry.database.read() as c:
        # Removed on purpose, and there again: of a registration that was killed.
        known = blobs.known(c) - blobs.purged(c)
        rows = blobs.unreferenced(c, registry.database.dialect.CLOCK)
    found = [
        (sha256, Stray(registry.files.place(sha256), size, max(0.0, age), removable=False))
        for sha256, size, age in rows
    ]
    adopted_s = time.time() - belonging.adopted_at(registry.files)
    return found + [
        (sha256, replace(stray, perhaps_foreign=stray.age_s >= adopted_s))
        for sha256, stray in stored.items()
        if sha256 not in known
    ]


def _collect(
    registry: Registry, strays: Iterable[tuple[str, Stray]], grace_s: float, *, dry_run: bool
) -> list[Stray]:
    found = []
    clock = registry.database.dialect.CLOCK
    for sha256, stray in strays:
        old = stray.age_s >= grace_s and not stray.perhaps_foreign
        if old and not dry_run:
            # Row, file, commit: the row is locked until the file is gone, so a registration of
            # the same bytes waits, finds neither, and stores them anew. Killed in between, a row
            # without a file stays, which the next collection finds.
            with registry.database.write() as c:
                old = blobs.is_purged(c, sha256)  # which keeps its row: versions refer to it
                if not old:
                    blobs.adopt(c, sha256, stray.size)
                    old = blobs.forget(c, sha256, grace_s, clock)
                if old:
                    registry.files.remove(stray.path)
        found.append(replace(stray, removable=old))
    return found
