"""What the folder of a backup looks like: how it is written, read and checked.

    folder/README.txt           what the folder is
    folder/sha256/ab/<digest>   the files of all versions but purged ones; and the rows, as one
                                file of lines {"table": ..., "row": {...}}
    folder/manifest.json        which of those are the rows, and what they add up to

Rows are plain JSON, the same for every database. The manifest is written last, and in one step:
until then the folder holds the backup that it held before.
"""

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, select

from registry import schema
from registry.artifacts import Folder, sync
from registry.errors import Conflict, Corrupt, Refused, SchemaMismatch, Unreachable
from registry.records import Artifact, Json
from registry.values import to_json

FORMAT = 1
"""Of the folder and the manifest; the tables have a revision of their own."""

MANIFEST = "manifest.json"

AT_ONCE = 1000
"""Rows in memory."""

_README = "README.txt"
_EXPLANATION = f"""\
A backup of a modelmint registry. {MANIFEST} is written last: without it this is no backup yet.
Making a backup here again copies what is new and removes what the registry no longer has.

    modelmint models restore FOLDER
"""


@dataclass
class Content:
    """What rows add up to; the manifest says the same."""

    tables: Counter[str] = field(default_factory=Counter)
    """Rows by table."""
    heads: dict[str, str] = field(default_factory=dict)
    """The hash of the newest event, by model."""
    files: dict[str, int] = field(default_factory=dict)
    """Size by SHA-256 of what is stored: no file that was purged, which is absent on purpose."""

    @property
    def summary(self) -> Json:
        """As the manifest has it."""
        return {
            "tables": dict(self.tables),
            "files": {"count": len(self.files), "bytes": sum(self.files.values())},
            "heads": self.heads,
        }


@dataclass(frozen=True)
class Opened:
    """A backup whose manifest and rows were checked; its other files were not."""

    schema: str
    """The revision of the tables that the rows are from."""
    rows: Path
    content: Content


class BackupFolder(Folder):
    """A backup: files by their digests as in a registry's store, and a manifest."""

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder).absolute()
        super().__init__(self.path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other backups out of the folder, which is made, or else must be a backup's."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse_strange()
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                self._lock(descriptor)
                (self.path / _README).write_text(_EXPLANATION)
                (self.path / "tmp").mkdir(exist_ok=True)
                for stray in self.leftovers():
                    self.remove(stray.path)
                yield
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._unwritable(error) from error

    def write_rows(self, c: Connection) -> Artifact:
        """Store all rows that a transaction sees."""
        written = self.path / "tmp" / "rows"
        with written.open("w", encoding="utf-8") as file:
            for table in schema.metadata.sorted_tables:  # each after those that it refers to
                query = select(table).order_by(*table.primary_key)
                for row in c.execute(query, execution_options={"yield_per": AT_ONCE}).mappings():
                    file.write(to_json({"table": table.name, "row": dict(row)}) + "\n")
        staged = self.stage(written)
        self.publish(staged)
        written.unlink()
        return Artifact("rows", staged.sha256, staged.size, identity=False)

    def complete(self, rows: Artifact, content: Content) -> None:
        """Put the manifest in its place; from now on this is the backup that the folder holds.

        Files that only the backup before needed are removed.
        """
        from importlib.metadata import version  # here: it takes long

        manifest = {
            "format": FORMAT,
            "modelmint": version("modelmint"),
            "created_at": datetime.now(UTC).isoformat(),
            "schema": schema.HEAD,
            "rows": {"sha256": rows.sha256, "size": rows.size},
            **content.summary,
        }
        written = self.path / "tmp" / MANIFEST
        with written.open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=2, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(written, self.path / MANIFEST)
        sync(self.path)
        for sha256, stray in list(self.files()):
            if sha256 not in content.files and sha256 != rows.sha256:
                self.remove(stray.path)

    def opened(self) -> Opened:
        """The backup that the folder holds.

        Raises:
            Corrupt: there is none, or the manifest or the rows were changed; names the file.
            SchemaMismatch: it was made by a newer modelmint.
        """
        path = self.path / MANIFEST
        try:
            manifest = json.loads(path.read_bytes())
            format_, revision = int(manifest["format"]), str(manifest["schema"])
            sha256, size = str(manifest["rows"]["sha256"]), int(manifest["rows"]["size"])
        except OSError as error:
            raise Corrupt(
                f"{self.path} holds no backup, or an unfinished one: {path} cannot be read "
                f"({error.strerror})."
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise Corrupt(f"{path} is no manifest of a backup: {error!r}.") from error
        if format_ > FORMAT or revision > schema.HEAD:
            raise SchemaMismatch(
                f"{path} has format {format_} and schema {revision}; this release reads them up "
                f"to {FORMAT} and {schema.HEAD}: upgrade modelmint."
            )
        try:
            rows = self.fetch(sha256, size)
        except Corrupt as corrupt:
            raise Corrupt(f"The rows of the backup cannot be trusted: {corrupt}.") from corrupt
        content = add_up(rows)
        for name, said in content.summary.items():
            if manifest.get(name) != said:
                raise Corrupt(f"{path} was changed: its {name!r} is not what {rows} adds up to.")
        return Opened(revision, rows, content)

    def _refuse_strange(self) -> None:
        if any(self.path.iterdir()) and not (self.path / _README).exists():
            raise Refused(
                f"{self.path} holds something that is no backup of a registry (there is no "
                f"{_README}). Give an empty folder, a new one, or that of an earlier backup."
            )

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
            "you may write, with room for all files of the registry."
        )


def lines(rows: Path) -> Iterator[tuple[str, Json]]:
    """Table and row of every line."""
    with rows.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            document = json.loads(line)
            yield document["table"], document["row"]


def add_up(rows: Path) -> Content:
    """Read all rows once."""
    content, purged = Content(), set()
    for table, row in lines(rows):
        content.tables[table] += 1
        if table == "models":
            content.heads[row["name"]] = row["last_event"]
        elif table == "blobs" and row["purged_at"] is not None:
            purged.add(row["sha256"])
        elif table == "version_artifacts":
            content.files[row["sha256"]] = row["size"]
    for sha256 in purged:
        content.files.pop(sha256, None)
    return content
