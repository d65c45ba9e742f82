"""Does the registry still hold what was put into it? Files, versions, and every history.

`snapshot` reads the rows, `history` replays the events, `seals` hashes, `present` and `tables`
compare, `database_rules` looks at what the database refuses, `files` reads the store. `tables` has
the list of columns that nothing vouches for: NOT_CHECKED.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from registry import schema
from registry.errors import Corrupt, NotFound, Refused, SchemaMismatch, Unreachable
from registry.integrity import database_rules, files, helpers, tables
from registry.integrity.files import File
from registry.integrity.model import ModelCheck
from registry.integrity.snapshot import Row, Snapshot, taken
from registry.integrity.tables import NOT_CHECKED
from registry.queries import models
from registry.records import Problem
from registry.registry import Registry
from registry.upkeep import unreferenced
from registry.validation.arguments import checked

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
    newest: int | None = None
    """The id of the newest event, for the next `since`."""
    unknown: int = 0
    """Files in the store that no version has: what killed registrations left, until `gc`."""
    not_looked_at: list[str] = field(default_factory=list)
    """In words, what was left out because a name or `since` was given."""


@checked
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
    checks: dict[str, ModelCheck] = {}
    try:
        with taken(registry.database, found.problems) as snapshot:
            if _look_at_rules(registry, snapshot, found):
                _look_at_rows(snapshot, found, checks, name, since, progress)
    except Unreachable as error:
        if isinstance(error.__cause__, OperationalError | None):
            raise  # it was not reached, or not any more
        found.problems.append(Problem("the database", "", str(error)))
        found.not_looked_at = [_THE_REST]
    if found.not_looked_at:
        return found
    found.not_looked_at = _left_out(name, since)
    # Without the transaction, which would hold back PostgreSQL's clean-up and SQLite's log.
    if _look_at_store(registry, found):
        _read_files(registry, found, checks, progress)
        if name is None and since is None:
            _look_for_strays(registry, found)
    return found


_THE_REST = "rows and files, since the database cannot be read as this release wrote it"


def _look_at_rules(registry: Registry, snapshot: Snapshot, found: Verification) -> bool:
    """Whether the database can be read at all: what it refuses comes first, and how it is made."""
    c = snapshot.connection
    made = database_rules.Found(c)
    found.problems += database_rules.broken(c, registry.database.dialect, made)
    if not made.is_whole():
        found.not_looked_at = [_THE_REST]
    return made.is_whole()


def _look_at_rows(
    snapshot: Snapshot,
    found: Verification,
    checks: dict[str, ModelCheck],
    name: str | None,
    since: int | None,
    progress: Callable[[Verification], None],
) -> None:
    found.newest = snapshot.connection.execute(select(func.max(schema.events.c.id))).scalar()
    chosen = _models(snapshot, name, since)
    with helpers.started(_count(snapshot, chosen)) as several:
        for row in chosen:
            check = checks[row["name"]] = ModelCheck(snapshot, several, row, since or 0)
            found.events += check.events
            for some in check.run():
                found.versions += some
                progress(found)
            found.purged += check.purged
        several.finish()
        found.problems += several.problems
    if name is None and since is None:
        found.problems += list(tables.whole(snapshot))


def _look_at_store(registry: Registry, found: Verification) -> bool:
    """Whether the store is that of the database: else that is the cause, and not each file."""
    try:
        registry.check_store()
    except (Corrupt, Refused, SchemaMismatch) as error:
        found.problems.append(Problem("the store", "", str(error)))
        found.not_looked_at.append("the files")
        return False
    return True


def _look_for_strays(registry: Registry, found: Verification) -> None:
    try:
        of_no_version = unreferenced.found(registry)
    except Corrupt as error:  # the row of a file that has no name
        found.problems.append(Problem("the store", "", str(error)))
        return
    found.unknown = sum(not stray.unknown for stray in of_no_version.values())
    if said := unreferenced.alarming(registry, of_no_version):
        found.problems.append(
            Problem("the store", "", f"{said} before anything else, gc above all")
        )


def _models(snapshot: Snapshot, name: str | None, since: int | None) -> list[Row]:
    """The rows of the models to look at, by name."""
    where = []
    if name is not None:
        where.append(schema.models.c.id == models.load_id(snapshot.connection, name))
    if since is not None:
        _check_event(snapshot, since)
        later = select(schema.events.c.model_id).where(schema.events.c.id > since)
        where.append(schema.models.c.id.in_(later))
    return sorted(snapshot.rows(schema.models, *where), key=lambda row: str(row["name"]))


def _check_event(snapshot: Snapshot, since: int) -> None:
    events = schema.events.c
    if snapshot.connection.execute(select(events.id).where(events.id == since)).first():
        return
    newest = snapshot.connection.execute(select(func.max(events.id))).scalar()
    there_is = f"The newest is {newest}" if newest else "There is none yet"
    raise NotFound(
        f"There is no event {since}. {there_is}; `modelmint models history NAME --json` lists them "
        "with their ids. Without --since, everything is looked at."
    )


def _count(snapshot: Snapshot, chosen: list[Row]) -> int:
    """How many versions models have."""
    here = schema.versions.c.model_id.in_([row["id"] for row in chosen])
    query = select(func.count()).select_from(schema.versions).where(here)
    return snapshot.connection.execute(query).scalar_one()


def _read_files(
    registry: Registry,
    found: Verification,
    checks: dict[str, ModelCheck],
    progress: Callable[[Verification], None],
) -> None:
    def count(file: File) -> None:
        found.files += 1
        found.bytes += file[1]
        progress(found)

    def about(model: str, number: int) -> bool:
        return model in checks and number in checks[model].touched

    wanted = sorted({file for check in checks.values() for file in check.files})
    damaged = files.damaged(registry, wanted, count)
    found.problems += list(files.still_damaged(registry, damaged, about))


def _left_out(name: str | None, since: int | None) -> list[str]:
    """What a limited verification did not look at."""
    left_out = []
    if name is not None:
        left_out.append(f"models other than {name}")
    if since is not None:
        left_out.append(
            f"events up to {since}, and versions, files and jobs that no later event touched"
        )
    if left_out:
        left_out.append("rows of tables that belong to no one model, and files of no version")
    return left_out
