"""Backups of a whole registry, and registries made from them; the folder: `backup_folder`.

A backup of a registry in SQLite can be restored into PostgreSQL, and the other way: that is also
how a registry moves from one to the other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, MetaData, insert

from registry.artifacts import Store, open_store
from registry.database import check_empty, filling
from registry.errors import Conflict, Corrupt, Refused, RegistryError
from registry.integrity import Verification, verify
from registry.records import Artifact
from registry.store import Registry
from registry.transfer.backup_folder import AT_ONCE, BackupFolder, Content, add_up, lines

Progress = Callable[[str, int, int], None]
"""Called with what is being done, and to how many of how many files it was."""


def _silent(_doing: str, _done: int, _total: int) -> None:
    pass


@dataclass
class BackupReport:
    """What a backup holds."""

    rows: int = 0
    files: int = 0
    """Of versions, each once."""
    bytes: int = 0
    copied: int = 0
    """Files that the backup before did not have."""
    heads: dict[str, str] = field(default_factory=dict)
    """The hash of the newest event, by model: noted elsewhere, it vouches for the history."""
    problems: list[str] = field(default_factory=list)
    """What `verify_backup` found, each naming a file."""


def backup(registry: Registry, folder: str | Path, *, progress: Progress = _silent) -> BackupReport:
    """Copy one state of all rows, and the files they need, into a new folder or onto a backup.

    The registry may be used meanwhile. Files that the folder holds from the backup before are not
    copied or read again (`verify_backup` reads them). Killed at any moment, it leaves the backup
    before as it was, and what it copied is used by the next.

    Raises:
        Refused: the folder holds something else.
        Conflict: another backup is being made into it.
        Corrupt: a file of the registry is damaged; what the folder held before is still there.
        Unreachable: the folder cannot be written, or the registry not be read.
    """
    target = BackupFolder(folder)
    if target.path.resolve() == Path(registry.files.root).resolve():
        raise Refused(f"{target.path} is where the registry keeps its files. Give another folder.")
    with target.held():
        before = {sha256 for sha256, _ in target.files()}
        try:
            rows, content = _copy_state(registry, target, progress)
        except Corrupt:
            # A purge may have removed the file since the rows were read. Then they do not need it
            # any more.
            rows, content = _copy_state(registry, target, progress)
        target.complete(rows, content)
    return _report(content, copied=len(content.files.keys() - before))


def verify_backup(folder: str | Path, *, progress: Progress = _silent) -> BackupReport:
    """Read every file of a backup and compare it; what is wrong is in the report's `problems`."""
    source = BackupFolder(folder)
    try:
        content = source.opened().content
    except RegistryError as error:
        return BackupReport(problems=[str(error)])
    report = _report(content)
    for done, (sha256, size) in enumerate(content.files.items(), 1):
        try:
            source.verify(sha256, size)
        except Corrupt as corrupt:
            report.problems.append(f"{corrupt}.")
        progress("read", done, report.files)
    return report


def restore(
    folder: str | Path,
    url: str,
    artifacts: str | Path,
    cache: str | Path | None = None,
    *,
    progress: Progress = _silent,
) -> Verification:
    """Make a registry from a backup, in an empty or missing database and store.

    Files first, then all rows in one transaction, which brings tables of an older schema to this
    release's. Then everything is verified, as `verify` does, and what that found is returned: what
    was wrong with the registry when it was backed up is wrong with this one. Killed at any moment,
    it leaves the database empty or complete; if empty, it can be done again.

    Raises:
        Corrupt: the backup is incomplete or damaged; the message names the file.
        Conflict: the database or the store holds something already.
        SchemaMismatch: the backup was made by a newer modelmint, or the database holds tables of
            something else.
        Unreachable: the folder, the database or the store cannot be used.
    """
    source = BackupFolder(folder)
    found = source.opened()
    files = found.content.files
    if gone := [source.place(sha256) for sha256 in files if not source.has(sha256, files[sha256])]:
        raise Corrupt(
            f"Of the {len(files)} files of the backup {len(gone)} are missing or cut off: "
            f"{', '.join(gone[:5])}. Nothing was restored; take another backup."
        )
    check_empty(url)
    target = open_store(artifacts, cache)
    _check_store(target, found.content)
    for done, (sha256, size) in enumerate(files.items(), 1):
        if not _is_whole(target, sha256, size):
            _copy(source, target, sha256, size)
        progress("copied", done, len(files))
    with filling(url, found.schema) as connection:
        _insert(connection, found.rows)
    with Registry(url, artifacts, cache) as registry:
        return verify(
            registry, progress=lambda so_far: progress("verified", so_far.files, len(files))
        )


def _report(content: Content, copied: int = 0) -> BackupReport:
    size = sum(content.files.values())
    return BackupReport(content.tables.total(), len(content.files), size, copied, content.heads)


def _copy_state(
    registry: Registry, target: BackupFolder, progress: Progress
) -> tuple[Artifact, Content]:
    """Store one state of the rows, and the files they need: where the rows are, and what."""
    with registry.database.read() as c:
        rows = target.write_rows(c)
    content = add_up(Path(target.place(rows.sha256)))
    for done, (sha256, size) in enumerate(content.files.items(), 1):
        if not target.has(sha256, size):
            try:
                _copy(registry.files, target, sha256, size)
            except Corrupt as corrupt:
                raise Corrupt(
                    f"No backup was made: {corrupt}. `modelmint models verify` says which "
                    "versions need that file; register the same files again to restore it."
                ) from corrupt
        progress("copied", done, len(content.files))
    return rows, content


def _copy(source: Store, target: Store, sha256: str, size: int) -> None:
    staged = target.stage(source.fetch(sha256, size))
    try:
        if staged.sha256 != sha256:
            raise Corrupt(f"{source.place(sha256)} was changed while it was copied")
        target.publish(staged)
    finally:
        target.discard(staged)


def _check_store(target: Store, content: Content) -> None:
    # What an interrupted restore left is welcome.
    others = {sha256 for sha256, _ in target.files()} - content.files.keys()
    if others:
        raise Conflict(
            f"The artifact store {target.root} holds files that are not in the "
            f"backup ({len(others)}). Give an empty or a new place: set MODELMINT_ARTIFACTS."
        )


def _is_whole(target: Store, sha256: str, size: int) -> bool:
    try:
        target.verify(sha256, size)
    except Corrupt:
        return False
    return True


def _insert(connection: Connection, rows: Path) -> None:
    """Insert rows into tables as they are in the database, which may be of an older schema."""
    found = MetaData()
    found.reflect(connection)
    for column in (column for table in found.tables.values() for column in table.columns):
        if isinstance(column.type, JSON):
            column.type.none_as_null = True  # what was empty stays so, and is not JSON's null
    for name, group in groupby(lines(rows), key=itemgetter(0)):
        values: Iterator[dict[str, Any]] = (row for _, row in group)
        while batch := list(islice(values, AT_ONCE)):
            connection.execute(insert(found.tables[name]), batch)
