"""The folder of a backup: writing, reading and checking it.

    folder/README.txt           says that this is a backup
    folder/sha256/ab/<digest>   the files of all versions except purged ones, and the segments
    folder/manifest.json        lists the segments in order, with the totals of their rows
    folder/manifest-copy.json   a copy, in case the first is damaged
    folder/last-hashed.txt      the time until which the content of all files is known

Rows are plain JSON, the same for every database; see `backup_format`. The manifest is written last,
in one step: until then, the folder has the earlier backup.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from registry import schema
from registry.artifacts import BACKUP_README, MANIFEST, MARKER, Folder, Staged, Store, sync
from registry.digests import seal_json
from registry.errors import Conflict, Corrupt, Refused, Unreachable
from registry.records import Json
from registry.transfer.backup_format import (
    FORMAT,
    BackupContents,
    Content,
    Manifest,
    Progress,
    Segment,
    add_up,
    lines,
    patient,
    read_manifest,
)
from registry.values import MALFORMED

COPY = "manifest-copy.json"

_README = "README.txt"
_HASHED = "last-hashed.txt"
_EXPLANATION = f"""\
{BACKUP_README.decode()} {MANIFEST} is written last: without it this is no backup yet.
Making a backup here again copies what is new and removes what the registry no longer has.

    modelmint models restore FOLDER
"""


class BackupFolder(Folder):
    """A backup: files by their digests as in a registry's store, and a manifest."""

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder).absolute()
        super().__init__(self.path, "the folder of the backup")
        self._hashed_until = 0
        self._hashed: set[str] = set()
        """Files that were written or hashed since then."""

    def check_apart(self, store: Store) -> None:
        """Raises Refused if a store is this folder, or one of them is below the other."""
        if store.remote:
            return
        backup, files = self.path.resolve(), Path(store.root).resolve()
        if backup.is_relative_to(files) or files.is_relative_to(backup):
            where = "is" if backup == files else "is not apart from"
            raise Refused(
                f"{self.path} {where} the folder {files}, where the registry keeps its files. Give "
                "a folder for backups that is neither below that one nor above it."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other backups. It is created, or must be that of a backup."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                self._lock(descriptor)
                self._claim()
                (self.path / "tmp").mkdir(exist_ok=True)
                for stray in self.leftovers():
                    self.remove(stray.path)
                self._hashed_until = self._read_hashed()
                yield
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._unwritable(error) from error

    def is_intact(self, sha256: str, size: int) -> bool:
        """Whether a file exists with the content of its SHA-256.

        The file is hashed only if it was written, renamed or given other times since the earlier
        backup ended: its ctime shows that, which no user can set. Decay of the disk does not change
        the ctime; `verify_backup` finds it.
        """
        try:
            found = os.stat(self.path_of(sha256))
        except OSError:
            return False
        known = sha256 in self._hashed or found.st_ctime_ns < self._hashed_until
        if found.st_size == size and known:
            return True
        try:
            self.verify(sha256, size)
        except Corrupt:
            return False
        self._hashed.add(sha256)
        return True

    def publish(self, *staged: Staged) -> None:
        """As in every store; the published files need not be hashed again."""
        super().publish(*staged)
        self._hashed.update(one.sha256 for one in staged)

    def forget_hashed(self) -> None:
        """Make the next backup read every file again and repair damaged ones.

        Does nothing in a folder that is not a backup.

        Raises:
            Unreachable: the folder cannot be written.
        """
        if self._is_backup():
            self.remove(str(self.path / _HASHED))

    def store_lines(self, lines: Iterable[bytes]) -> Staged:
        """Store lines as a file, unless that file exists."""
        staged = self.take(lines)
        try:
            if not self.is_intact(staged.sha256, staged.size):
                self.publish(staged)
        finally:
            self.discard(staged)
        return staged

    def complete(self, segments: Iterable[Segment], content: Content) -> None:
        """Write the manifest: from now on the folder has this backup.

        Files that only the earlier backup needed are removed.
        """
        from importlib.metadata import version  # here: the import is slow

        segments = list(segments)
        manifest = {
            "format": FORMAT,
            "modelmint": version("modelmint"),
            "created_at": datetime.now(UTC).isoformat(),
            "schema": schema.HEAD,
            **content.summary,
            "segments": [asdict(segment) for segment in segments],
        }
        manifest["seal"] = seal_json(manifest)
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        self._replace(COPY, text)
        self._replace(MANIFEST, text)
        needed = content.files.keys() | {segment.sha256 for segment in segments}
        for sha256, found in self.files():
            if sha256 not in needed:
                self.remove(found.path)
        self._note_hashed()

    def manifest(self) -> Manifest:
        """The manifest of the backup.

        Raises:
            Corrupt: there is none, or it was changed; names the file.
            SchemaMismatch: it was made by a newer modelmint.
        """
        return read_manifest(self.path / MANIFEST)

    def known_manifest(self) -> Manifest | None:
        """The manifest, or its copy if the manifest is damaged; None if no backup was finished yet.

        Raises:
            Corrupt, SchemaMismatch: as for `manifest`.
        """
        there = [path for path in (self.path / MANIFEST, self.path / COPY) if path.exists()]
        if not there:
            return None
        try:
            return read_manifest(there[0])
        except Corrupt:
            return read_manifest(there[-1])

    def read(self, progress: Progress) -> BackupContents:
        """Read every row of the backup.

        Raises:
            Corrupt: there is none, or the manifest or the rows were changed; names the file.
            SchemaMismatch: it was made by a newer modelmint.
        """
        manifest, path = self.manifest(), self.path / MANIFEST
        try:
            content = add_up(self._segments(manifest, patient(progress)))
            if manifest.format == 1:
                content.registry = None
            summary = content.summary
        except (OSError, *MALFORMED) as error:
            raise Corrupt(
                f"{path} names a file that does not have the rows of a backup: {error!r}."
            ) from error
        for name, total in summary.items():
            if manifest.summary.get(name) != total:
                raise Corrupt(f"{path} was changed: its {name!r} differs from the sum of its rows.")
        rows = tuple(Path(self.path_of(one.sha256)) for one in manifest.segments)
        return BackupContents(manifest.schema, rows, content)

    def rows(self, manifest: Manifest, table: str) -> Iterator[Json]:
        """The rows of a table, without those of damaged files, which cannot be restored."""
        for one in manifest.segments:
            if one.table in ("", table):
                with suppress(Corrupt, OSError, *MALFORMED):
                    path = self.fetch(one.sha256, one.size)
                    yield from (row for name, row in lines(path) if name == table)

    def _segments(self, manifest: Manifest, progress: Progress) -> Iterator[Path]:
        """The files with the rows, each verified by its hash."""
        done, total = 0, sum(manifest.tables.values())
        for one in manifest.segments:
            try:
                yield self.fetch(one.sha256, one.size)
            except Corrupt as corrupt:
                raise Corrupt(f"The rows of the backup cannot be trusted: {corrupt}.") from corrupt
            done += one.rows
            progress("rows", done, total)

    def _replace(self, name: str, text: str) -> None:
        written = self.path / "tmp" / name
        with written.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(written, self.path / name)
        sync(self.path)

    def _note_hashed(self) -> None:
        """Record the time, by the clock of the file system: all files were hashed or written."""
        if self._hashed_until and not (self.path / _HASHED).exists():
            return  # `verify_backup` found damage meanwhile
        written = self.path / "tmp" / _HASHED
        with written.open("w", encoding="utf-8") as file:
            file.write(str(os.fstat(file.fileno()).st_ctime_ns))
        os.replace(written, self.path / _HASHED)

    def _read_hashed(self) -> int:
        with suppress(OSError, ValueError):
            noted = int((self.path / _HASHED).read_text())
            if noted <= time.time_ns():  # otherwise a clock was wrong
                return noted
        return 0

    def _is_backup(self) -> bool:
        return (self.marker(_README) or b"").startswith(BACKUP_README)

    def _claim(self) -> None:
        """Check that the folder is empty or a backup; an empty one gets its README first."""
        if self.marker() is not None:
            raise Refused(
                f"{self.path} has the files of a registry, as its {MARKER} says. Give an empty "
                "folder, a new one, or that of an earlier backup."
            )
        if self._is_backup():
            return
        # A folder with an incomplete README alone is that of a killed first backup.
        begun = _EXPLANATION.encode().startswith(self.marker(_README) or b"")
        if not begun or set(os.listdir(self.path)) - {_README}:
            raise Refused(
                f"{self.path} is not empty and not a backup of a registry (no {_README} begins "
                f"with {BACKUP_README.decode()!r}). Give an empty folder, a new one, or that of an "
                "earlier backup."
            )
        (self.path / _README).write_text(_EXPLANATION)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"Another process is making a backup into {self.path}. Wait for it to end."
            ) from error

    def _unwritable(self, error: OSError) -> Unreachable:
        return Unreachable(
            f"The backup folder {self.path} cannot be written ({error.strerror}). Give a folder "
            "that you may write, with room for all files of the registry."
        )
