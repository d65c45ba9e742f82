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
from registry.integrity.snapshot import Row, Snapshot, take_snapshot
from registry.integrity.tables import NOT_CHECKED
from registry.queries import models
from registry.records import Problem
from registry.registry import Registry
from registry.upkeep import unreferenced
from registry.validation.arguments import checked

__all__ = ["NOT_CHECKED", "Verification", "verify"]


@dataclass
class Verification:
    """What was checked, and the problems that were found."""

    problems: list[Problem]
    versions: int = 0
    files: int = 0
    bytes: int = 0
    """Bytes that were read and hashed."""
    events: int = 0
    purged: int = 0
    """Files of archived versions that `gc --purge` removed."""
    newest: int | None = None
    """The id of the newest event, for the next `since`."""
    unknown: int = 0
    """Files in the store without a version: killed registrations leave them until `gc`."""
    not_looked_at: list[str] = field(default_factory=list)
    """Descriptions of what was not checked, because of `name` or `since`."""


@checked
def verify(
    registry: Registry,
    name: str | None = None,
    *,
    since: int | None = None,
    progress: Callable[[Verification], None] = lambda so_far: None,
) -> Verification:
    """Hash every file of every version again, and check every history, of one model or of all.

    All rows are read from one state of the database, so concurrent writers cause no false problem,
    and their changes are not checked. Finds changed bytes of files; rows that were edited, added or
    removed, in all columns except `tables.NOT_CHECKED`; edited or missing events, and histories
    whose end was cut off; aliases and states that do not follow from the history; missing or
    disabled triggers and constraints; files in the store that the database does not know.

    Cannot detect a history that was rewritten from some event onwards, including its head: store
    the head (the hash of the newest event) elsewhere and compare.

    With `since`, the id of an event, checks only what later events touched: those events, the
    versions that they name with their files, and the aliases and states of their models.
    `not_looked_at` says what was left out.

    Raises:
        NotFound: the model or the event does not exist.
        Unreachable: the database or the store cannot be read.
    """
    found = Verification([])
    checks: dict[str, ModelCheck] = {}
    try:
        with take_snapshot(registry.database, found.problems) as snapshot:
            if _check_rules(registry, snapshot, found):
                _check_rows(snapshot, found, checks, name, since, progress)
    except Unreachable as error:
        if isinstance(error.__cause__, OperationalError | None):
            raise  # the database cannot be reached, or the connection was lost
        found.problems.append(Problem("the database", "", str(error)))
        found.not_looked_at = [_THE_REST]
    if found.not_looked_at:
        return found
    found.not_looked_at = _left_out(name, since)
    # After the transaction: an open one stops PostgreSQL's vacuum and lets SQLite's log grow.
    if _check_store(registry, found):
        _read_files(registry, found, checks, progress)
        if name is None and since is None:
            _count_strays(registry, found)
    return found


_THE_REST = "rows and files, since the database does not have the tables of this release"


def _check_rules(registry: Registry, snapshot: Snapshot, found: Verification) -> bool:
    """Check triggers and constraints; False if tables are missing, so that rows cannot be read."""
    c = snapshot.connection
    tables_found = database_rules.FoundTables(c)
    found.problems += database_rules.broken_rules(c, registry.database.dialect, tables_found)
    if not tables_found.is_complete():
        found.not_looked_at = [_THE_REST]
    return tables_found.is_complete()


def _check_rows(
    snapshot: Snapshot,
    found: Verification,
    checks: dict[str, ModelCheck],
    name: str | None,
    since: int | None,
    progress: Callable[[Verification], None],
) -> None:
    found.newest = snapshot.connection.execute(select(func.max(schema.events.c.id))).scalar()
    chosen = _models(snapshot, name, since)
    with helpers.start_helpers(_count_versions(snapshot, chosen)) as several:
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
        found.problems += list(tables.check_tables(snapshot))


def _check_store(registry: Registry, found: Verification) -> bool:
    """Whether the store belongs to the database; if not, adds one problem, not one per file."""
    try:
        registry.check_store()
    except (Corrupt, Refused, SchemaMismatch) as error:
        found.problems.append(Problem("the store", "", str(error)))
        found.not_looked_at.append("the files")
        return False
    return True


def _count_strays(registry: Registry, found: Verification) -> None:
    try:
        strays = unreferenced.find_strays(registry)
    except Corrupt as error:  # the row of a file whose SHA-256 is invalid
        found.problems.append(Problem("the store", "", str(error)))
        return
    found.unknown = sum(not stray.unknown for stray in strays.values())
    if message := unreferenced.unknown_files_message(registry, strays):
        found.problems.append(
            Problem("the store", "", f"{message} before any other command, above all gc")
        )


def _models(snapshot: Snapshot, name: str | None, since: int | None) -> list[Row]:
    """The rows of the models to check, by name."""
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
        f"There is no event {since}. {there_is}; `modelmint models history NAME --json` lists "
        "events with their ids. Without --since, everything is checked."
    )


def _count_versions(snapshot: Snapshot, chosen: list[Row]) -> int:
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

    needed = sorted({file for check in checks.values() for file in check.files})
    damaged = files.find_damaged(registry, needed, count)
    found.problems += list(files.report_damaged(registry, damaged, about))


def _left_out(name: str | None, since: int | None) -> list[str]:
    """What a limited verification did not check."""
    left_out = []
    if name is not None:
        left_out.append(f"models other than {name}")
    if since is not None:
        left_out.append(
            f"events up to {since}, and versions, files and jobs that no later event touched"
        )
    if left_out:
        left_out.append("tables that belong to no single model, and files without a version")
    return left_out
