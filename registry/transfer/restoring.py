"""Restoring a registry from a backup; `backup` makes them."""

from collections.abc import Iterator
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import JSON, Connection, MetaData, insert

from registry import ownership
from registry.artifacts import MARKER, Store, open_store
from registry.databases.database import check_empty, restore_transaction, shown_url
from registry.errors import Conflict, Corrupt, InvalidCandidate
from registry.integrity import Verification, verify
from registry.ownership import Marker
from registry.queries.identity import Identity
from registry.registry import Registry
from registry.transfer.backup_folder import BackupFolder
from registry.transfer.backup_format import (
    BackupContents,
    Content,
    Progress,
    lines,
    patient,
    silent,
)
from registry.validation.arguments import checked

_AT_ONCE = 1000  # rows in memory


@checked
def restore(
    folder: str | Path,
    url: str,
    artifacts: str | Path,
    cache: str | Path | None = None,
    *,
    progress: Progress = silent,
) -> Verification:
    """Restore a registry from a backup into an empty or missing database and store.

    Copies the files first, then inserts all rows in one transaction, which also upgrades tables of
    an older schema. Then runs `verify` and returns its result: problems that the registry had when
    it was backed up remain. If this is killed, the database is empty or complete; if it is empty,
    restore again.

    The registry keeps its id. Its store gets a new id and a marker before the first file. A store
    that already has files is refused, unless its marker says that this database was being restored.

    Raises:
        Corrupt: the backup is incomplete or damaged; the message names the file.
        Conflict: the database or the store is not empty.
        Refused: the store is the backup, or one is below the other.
        SchemaMismatch: the backup was made by a newer modelmint, or the database has other tables.
        Unreachable: the folder, the database or the store cannot be used.
    """
    source = BackupFolder(folder)
    found = source.read(progress)
    files = found.content.files
    if gone := [
        source.path_of(sha256) for sha256 in files if not source.has(sha256, files[sha256])
    ]:
        raise Corrupt(
            f"Of the {len(files)} files of the backup {len(gone)} are missing or cut off: "
            f"{', '.join(gone[:5])}. Nothing was restored; take another backup."
        )
    check_empty(url)
    target = open_store(artifacts, cache)
    source.check_apart(target)
    own = _mark(target, shown_url(url), found.content)
    for done, (sha256, size) in enumerate(files.items(), 1):
        if not _is_whole(target, sha256, size):
            copy_file(source, target, sha256, size)
        progress("copied", done, len(files))
    with restore_transaction(url, found.schema, own) as connection:
        _insert(connection, found, patient(progress))
    ownership.write(target, Marker(own), anew=True)
    with Registry(url, artifacts, cache) as registry:
        return verify(
            registry, progress=lambda so_far: progress("verified", so_far.files, len(files))
        )


def copy_file(source: Store, target: Store, sha256: str, size: int) -> None:
    """Copy a file between stores. Raises Corrupt if the source has lost or damaged it."""
    try:
        staged = target.stage(source.fetch(sha256, size))
        try:
            if staged.sha256 != sha256:
                raise Corrupt(f"{source.path_of(sha256)} was changed while it was copied")
            target.publish(staged)
        finally:
            target.discard(staged)
    except InvalidCandidate as gone:  # it was removed after it was hashed
        raise Corrupt(str(gone).rstrip(".")) from gone


def _mark(target: Store, database: str, content: Content) -> Identity:
    """Mark a store as that of the restored registry; returns its ids. Raises Conflict.

    Files that a killed restore into the same database left there are used.
    """
    marker = ownership.read(target)
    if marker is None:
        if any(target.files()):
            raise Conflict(
                f"The artifact store {target.root} has files, and no {MARKER} says which registry "
                "they belong to. Give an empty or a new place: set MODELMINT_ARTIFACTS."
            )
        own = Identity(content.registry or uuid4().hex, uuid4().hex)
        marker = ownership.write(target, Marker(own, restoring=database))
    same = content.registry in (None, marker.own.registry)
    if marker.restoring != database or not same:
        whose = "this" if same else "another"
        raise Conflict(
            f"The artifact store {target.root} belongs to a registry already: to {whose} one, by "
            f"its {MARKER}, or to a copy of it"
            + (f" that was being restored into {marker.restoring}" if marker.restoring else "")
            + ". Give an empty or a new place: set MODELMINT_ARTIFACTS. To repeat a restore that "
            "was killed, use the same MODELMINT_DATABASE_URL."
        )
    others = {sha256 for sha256, _ in target.files()} - content.files.keys()
    if others:
        raise Conflict(
            f"The artifact store {target.root} has {len(others)} files that are not in the backup. "
            "Give an empty or a new place: set MODELMINT_ARTIFACTS."
        )
    return marker.own


def _is_whole(target: Store, sha256: str, size: int) -> bool:
    try:
        target.verify(sha256, size)
    except Corrupt:
        return False
    return True


def _insert(connection: Connection, source: BackupContents, progress: Progress) -> None:
    """Insert rows into the tables that the database has, which may be of an older schema."""
    found = MetaData()
    found.reflect(connection)
    for column in (column for table in found.tables.values() for column in table.columns):
        if isinstance(column.type, JSON):
            column.type.none_as_null = True  # SQL's NULL stays NULL and is not JSON's null
    done = 0
    every = (row for path in source.rows for row in lines(path))
    for name, group in groupby(every, key=itemgetter(0)):
        values: Iterator[dict[str, Any]] = (row for _, row in group)
        while batch := list(islice(values, _AT_ONCE)):
            connection.execute(insert(found.tables[name]), batch)
            done += len(batch)
            progress("rows", done, source.content.tables.total())
