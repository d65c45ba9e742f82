"""Does the registry still hold what was put into it? Files, versions, and every history.

`snapshot` reads the rows, `history` replays the events, `seals` hashes, `present` and `tables`
compare, `database_rules` looks at what the database refuses, `files` reads the store. `tables` has
the list of columns that nothing vouches for: NOT_CHECKED.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import func, select

from registry import schema
from registry.errors import NotFound
from registry.integrity import database_rules, files, model, tables
from registry.integrity.files import File
from registry.integrity.model import Scope
from registry.integrity.snapshot import Snapshot, taken
from registry.integrity.tables import NOT_CHECKED
from registry.queries import models
from registry.records import Problem
from registry.store import Registry

__all__ = ["NOT_CHECKED", "Verification", "verify"]


@dataclass
class Verification:
    """What was looked at, and what is wrong; no problem is good news."""

    problems: list[Problem]
    versions: int = 0
    files: int = 0
    bytes: int = 0
    """Read and hashed."""
    events: int = 0
    purged: int = 0
    """Files that archived versions gave up on purpose."""
    unknown: int = 0
    """Files in the store that no version has: what killed registrations left, until `gc`."""
    not_looked_at: list[str] = field(default_factory=list)
    """In words, what was left out because a name or `since` was given."""


def verify(
    registry: Registry,
    name: str | None = None,
    *,
    since: int | None = None,
    progress: Callable[[Verification], None] = lambda so_far: None,
) -> Verification:
    """Hash every file of every version again, and check every history, of one model or of all.

    All rows are those of one moment: whoever writes meanwhile causes no false alarm, and what he
    adds is not looked at. Finds a byte that changed; a row that was edited, added or removed where
    an event or another row vouches for it, which all columns are but those in
    `tables.NOT_CHECKED`; an event that was edited or left out, and a history whose end was cut off;
    a present that does not follow from its history; triggers and constraints of the database that
    are missing or switched off; a store that is full of files that the database does not know.

    Not found is a history that was written anew from some event on, its head included: compare the
    head, the hash of the newest event, with one that was noted elsewhere.

    With `since`, the id of an event, only what later events touched is looked at: those events,
    the versions that they name with their files, and the present of their models.
    `not_looked_at` says what was left out.

    Raises:
        NotFound: there is no such model, or no such event.
        Unreachable: the database or the store cannot be read.
    """
    found = Verification([])
    wanted: set[File] = set()
    scopes: dict[str, Scope] = {}
    with taken(registry.database, found.problems) as snapshot:
        found.problems += database_rules.broken(snapshot.connection, registry.database.dialect)
        for row in _models(snapshot, name, since):
            scope = model.check(snapshot, row, since or 0)
            scopes[row["name"]] = scope
            found.events += scope.events
            found.purged += scope.purged
            for some in scope.versions():
                found.versions += some
                progress(found)
            wanted |= scope.files
        if name is None and since is None:
            found.problems += tables.whole(snapshot)
    found.problems += _files(registry, found, wanted, scopes, progress)
    if name is None and since is None:
        found.unknown, alarming = files.unknown(registry)
        if alarming:
            found.problems.append(Problem("the store", "", alarming))
    found.not_looked_at = _left_out(name, since)
    return found
