"""`verify`: check that files, versions and histories are what was registered.

`snapshot` reads the rows, `history` replays the events, `seals` computes hashes, `present` and
`tables` compare, `database_rules` checks triggers and constraints, `files` reads the store.
NOT_CHECKED in `tables` lists the columns that no event and no other row confirms.
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
    """What was checked, and what is wrong; without problems, all is well."""

    problems: list[Problem]
    versions: int = 0
    files: int = 0
    bytes: int = 0
    """Read and hashed."""
    events: int = 0
    purged: int = 0
    """Files of archived versions that `gc --purge` removed."""
    newest: int | None = None
    """The id of the newest event, for the next `since`."""
    unknown: int = 0
    """Files in the store without a version: killed registrations leave them until `gc`."""
    not_looked_at: list[str] = field(default_factory=list)
    """What was not checked because of `name` or `since`, in words."""


@checked
def verify(
    registry: Registry,
    name: str | None = None,
    *,
    since: int | None = None,
    progress: Callable[[Verification], None] = lambda so_far: None,
) -> Verification:
    """Hash every file of every version again, and check every history, of one model or of all.

    All rows are read from one state of the database, so concurrent writers cause no false alarm and
    their changes are not checked. Finds changed bytes of files; rows that were edited, added or
    removed, in all columns except `tables.NOT_CHECKED`; edited or missing events, and histories
    whose end was cut off; aliases and states that do not follow from the history; missing or
    disabled triggers and constraints; files in the store that the database does not know.

    Cannot detect a history that was rewritten from some event onwards, including its head: store
    the head (the hash of the newest event) elsewhere and compare.

    With `since`, the id of an event, checks only what later events touched: those events, the
    versions that they name with their files, and the aliases and states of their models.
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
            raise  # the database cannot be reached, or the connection was lost
        found.problems.append(Problem("the database", "", str(error)))
        found.not_looked_at = [_THE_REST]
    if found.not_looked_at:
        return found
    found.not_looked_at = _left_out(name, since)
    # After the transaction, which keeps PostgreSQL from vacuuming and SQLite's log from shrinking.
    if _look_at_store(registry, found):
        _read_files(registry, found, checks, progress)
        if name is None and since is None:
            _look_for_strays(registry, found)
    return found


_THE_REST = "rows and files, since the database cannot be read as this release wrote it"


def _look_at_rules(registry: Registry, snapshot: Snapshot, found: Verification) -> bool:
    """Check triggers and constraints; False if tables are missing, so that rows cannot be read."""
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
    """Whether the store belongs to the database; if not, that is one problem, not one per file."""
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
