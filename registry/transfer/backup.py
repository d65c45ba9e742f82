"""Backup of a whole registry, and restoring it. `backup_folder` describes the folder.

A backup of a registry in SQLite can be restored into PostgreSQL, and the other way: that is also
how a registry moves from one to the other.
"""

import dataclasses
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from registry import schema
from registry.errors import (
    Conflict,
    Corrupt,
    Refused,
    RegistryError,
    Unreachable,
)
from registry.registry import Registry
from registry.transfer import segments
from registry.transfer.backup_folder import BackupFolder
from registry.transfer.backup_format import (
    Content,
    Manifest,
    Progress,
    silent,
)
from registry.transfer.restoring import copy_file, restore
from registry.transfer.segments import Known, State, differences
from registry.validation.arguments import checked

__all__ = ["BackupReport", "backup", "restore", "verify_backup"]

PATIENCE = 3
"""Attempts to copy the files of one state before `gc` and `purge` are made to wait."""

_TRIES = 20  # for a user whose role cannot make them wait


@dataclass
class BackupReport:
    """The content of a backup."""

    registry: str | None = None
    """The id of the registry; None in a backup of an early release, which had no ids."""
    models: int = 0
    versions: int = 0
    rows: int = 0
    """Of all tables."""
    files: int = 0
    """Of versions, each once."""
    bytes: int = 0
    copied: int = 0
    """Files that the earlier backup did not have."""
    repaired: int = 0
    """Files that were damaged in the earlier backup."""
    heads: dict[str, str] = field(default_factory=dict)
    """The hash of the newest event, by model. Keep it elsewhere to notice a changed history."""
    problems: list[str] = field(default_factory=list)
    """What `verify_backup` found, each naming a file."""


@checked
def backup(
    registry: Registry,
    folder: str | Path,
    *,
    replace: bool = False,
    progress: Progress = silent,
) -> BackupReport:
    """Copy one state of all rows, and the files they need, into a new folder or an older backup.

    The registry may be in use, and may be read-only. Files of an older backup in the folder are not
    copied again, nor are rows of append-only tables; so an edited row of such a table does not
    change an earlier backup. A file in the folder that was modified since is hashed again, and
    repaired if it is damaged. Damage without a new modification time is found by `verify_backup`
    and repaired by the next backup. If this is killed at any moment, the older backup is unchanged,
    and the next backup uses what was copied.

    Raises:
        NoRegistry: there is no registry to back up.
        Refused: the folder has something else, or a backup of another registry or of a later state
            (`replace` overwrites it); or the store belongs to another registry.
        Conflict: another process is making a backup in the folder.
        Corrupt: a file of the registry is damaged; the older backup is unchanged.
        SchemaMismatch: the backup in the folder was made by a newer modelmint.
        Unreachable: the folder cannot be written, or the registry cannot be read.
    """
    target = BackupFolder(folder)
    target.check_apart(registry.files)
    registry.check_store()
    with target.locked():
        before = None if replace else _earlier_backup(registry, target)
        made = BackupReport()
        state = _copy_state(registry, target, before, made, progress)
        target.complete(state.segments, state.content)
    return _report(state.content, made)


@checked
def verify_backup(
    folder: str | Path, registry: Registry | None = None, *, progress: Progress = silent
) -> BackupReport:
    """Read and check every file of a backup; the report's `problems` lists what is wrong.

    With a registry, also checks that the backup is of this registry, and that the registry's
    histories continue those in the backup. After a problem, the next backup reads all files and
    repairs damaged ones.
    """
    source, manifest = BackupFolder(folder), None
    try:
        manifest = source.manifest()
        content = source.read(progress).content
    except RegistryError as error:
        report = BackupReport(problems=[str(error)])
    else:
        report = _report(content, BackupReport())
        _verify_files(source, content, report, progress)
    if report.problems:
        if manifest is not None and _was_replaced(source, manifest):
            return verify_backup(folder, registry, progress=progress)
        _request_repair(source, report)
    if registry is not None and manifest is not None:
        with registry.database.read() as c:
            found = differences(c, source, manifest)
            report.problems += [f"{source.path}: {what}." for what in found]
    return report


def _earlier_backup(registry: Registry, target: BackupFolder) -> Manifest | None:
    """The backup in the folder. Raises Refused unless the registry is a later state of it."""
    try:
        before = target.known_manifest()
    except Corrupt as corrupt:
        raise Refused(
            f"{corrupt} So it is unknown which registry the backup in {target.path} is of. Give "
            "another folder, or replace the backup: --replace."
        ) from corrupt
    if before is None:
        return None
    with registry.database.read() as c:
        found = differences(c, target, before)
    if found:
        more = f"; and {len(found) - 5} more differences" if len(found) > 5 else ""
        raise Refused(
            f"The backup in {target.path}, made at {before.made_at}, would be lost: "
            f"{'; '.join(found[:5])}{more}. Give another folder, or replace it: --replace."
        )
    return before if before.schema == schema.HEAD else None


def _report(content: Content, made: BackupReport) -> BackupReport:
    tables = content.tables
    return dataclasses.replace(
        made,
        registry=content.registry,
        models=tables["models"],
        versions=tables["versions"],
        rows=tables.total(),
        files=len(content.files),
        bytes=sum(content.files.values()),
        heads=content.heads,
    )


def _verify_files(
    source: BackupFolder, content: Content, report: BackupReport, progress: Progress
) -> None:
    for done, (sha256, size) in enumerate(content.files.items(), 1):
        try:
            source.verify(sha256, size)
        except Corrupt as corrupt:
            report.problems.append(f"{corrupt}.")
        progress("read", done, report.files)


def _was_replaced(source: BackupFolder, manifest: Manifest) -> bool:
    """Whether another backup was made meanwhile, which removes files that it does not need."""
    try:
        return source.manifest() != manifest
    except RegistryError:
        return False


def _request_repair(source: BackupFolder, report: BackupReport) -> None:
    try:
        source.forget_hashed()
    except Unreachable as error:
        report.problems.append(f"The next backup would not repair this: {error}")


def _copy_state(
    registry: Registry,
    target: BackupFolder,
    known: Known | None,
    made: BackupReport,
    progress: Progress,
) -> State:
    """Store the rows of one state, and the files they need.

    A purge may remove files after the rows were read. The rows are then read again, which is fast
    since little has changed. After PATIENCE attempts, purges have to wait.
    """
    for attempt in range(_TRIES):
        still = False
        try:
            with ExitStack() as stack:
                c, still = _begin_read(registry, stack, still=attempt >= PATIENCE)
                state = segments.write(c, target, known, progress)
                if not still:
                    stack.close()
                missing = _copy_files(registry, target, state.content.files, made, progress)
        except Conflict:  # a SQLite file that we may only read was written meanwhile
            if attempt == _TRIES - 1:
                raise
        else:
            if not missing:
                return state
            if still:
                break
            known = state
        time.sleep(0.02 * attempt)
    raise Corrupt(
        f"No backup was made: {missing[0]}. `modelmint models verify` names the versions that need "
        "that file; register the same files again to restore it."
    ) from missing[0]


def _begin_read(registry: Registry, stack: ExitStack, *, still: bool) -> tuple[Connection, bool]:
    """A transaction that sees one state; and whether `gc` and `purge` wait for its end."""
    if still:
        try:
            return stack.enter_context(registry.database.read_locked()), True
        except (Refused, Unreachable):
            pass  # this user may only read
    return stack.enter_context(registry.database.read()), False


def _copy_files(
    registry: Registry,
    target: BackupFolder,
    files: Mapping[str, int],
    made: BackupReport,
    progress: Progress,
) -> list[Corrupt]:
    """Copy new and damaged files; returns errors for files that the registry lost or damaged."""
    missing = []
    for done, (sha256, size) in enumerate(files.items(), 1):
        if not target.is_intact(sha256, size):
            damaged = os.path.exists(target.path_of(sha256))
            try:
                copy_file(registry.files, target, sha256, size)
            except Corrupt as corrupt:
                missing.append(corrupt)
            else:
                made.repaired += damaged
                made.copied += not damaged
        progress("copied", done, len(files))
    return missing
