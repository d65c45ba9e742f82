"""The manifest of a backup, and its rows in files, in both formats.

Format 2 has segments: files of lines, first {"table": ..., "columns": [...]}, then a list of values
for each row. Format 1, of earlier releases, has all rows in one file of lines
{"table": ..., "row": {...}}, and a manifest without the registry's id.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry import schema
from registry.digests import seal_json
from registry.errors import Corrupt, SchemaMismatch
from registry.records import Json
from registry.values import MALFORMED, parse_object, shown

FORMAT = 2
"""The format number of the folder and the manifest; the tables have their own revision."""

Progress = Callable[[str, int, int], None]
"""Called with the name of the step, how much of it is done, and the total."""

_QUIET_S = 2.0


@dataclass(frozen=True)
class Segment:
    """Some rows of a table, in one file."""

    table: str
    """Empty in format 1, whose only segment has the rows of all tables."""
    span: int | None
    """Which range of keys; None if the table is not split by its key."""
    rows: int
    sha256: str
    size: int
    """Bytes."""


@dataclass
class Content:
    """The totals of the rows of a backup; the manifest must have the same."""

    registry: str | None = None
    """The registry's id; None in a backup of an early release, which had no ids."""
    tables: Counter[str] = field(default_factory=Counter)
    """Rows by table."""
    heads: dict[str, str] = field(default_factory=dict)
    """The hash of the newest event, by model."""
    files: dict[str, int] = field(default_factory=dict)
    """Size by SHA-256 of the stored files; purged files are absent."""

    @property
    def summary(self) -> Json:
        """The totals as the manifest has them."""
        return {
            "registry": self.registry,
            "tables": dict(self.tables),
            "files": {"count": len(self.files), "bytes": sum(self.files.values())},
            "heads": self.heads,
        }


@dataclass(frozen=True)
class Manifest:
    """The manifest of a backup; its other files were not read."""

    format: int
    schema: str
    """The revision of the tables that the rows are from."""
    segments: tuple[Segment, ...]
    registry: str | None
    tables: dict[str, int]
    heads: dict[str, str]
    summary: Json
    made_at: str


@dataclass(frozen=True)
class BackupContents:
    """A backup whose manifest and rows were checked, but not its other files."""

    schema: str
    """The revision of the tables that the rows are from."""
    rows: tuple[Path, ...]
    """The files with the rows; a row comes after the rows that it refers to."""
    content: Content


def silent(_doing: str, _done: int, _total: int) -> None:
    """Report no progress."""


def patient(progress: Progress) -> Progress:
    """Report progress only after two seconds."""
    begun = time.monotonic()

    def report(doing: str, done: int, total: int) -> None:
        if time.monotonic() - begun > _QUIET_S:
            progress(doing, done, total)

    return report


def read_manifest(path: Path) -> Manifest:
    """Read a manifest, and compare it with the hash that it names.

    Raises:
        Corrupt: it is missing or was changed.
        SchemaMismatch: it was made by a newer modelmint.
    """
    try:
        document, wrong = parse_object(path.read_bytes().decode())
        format_, revision = document.get("format", 0), str(document.get("schema"))
        numbered = type(format_) is int and re.fullmatch("[0-9]{4}", revision)
        if wrong is not None or not numbered or format_ < 1 or revision < "0001":
            wrong = wrong or f"has format {shown(format_)} and schema {shown(revision)}"
            raise Corrupt(f"{path} is not the manifest of a backup: it {wrong}.")
        if format_ > FORMAT or revision > schema.HEAD:
            raise SchemaMismatch(
                f"{path} has format {shown(format_)} and schema {revision}; this release reads "
                f"them up to {FORMAT} and {schema.HEAD}: upgrade modelmint."
            )
        if format_ > 1 and document.pop("seal") != seal_json(document):
            raise Corrupt(f"{path} was changed: it does not match the hash that it names.")
        return _manifest(document, format_, revision)
    except OSError as error:
        if not path.parent.is_dir():
            raise Corrupt(
                f"There is no folder {path.parent}. Give the folder of a backup; `modelmint models "
                "backup FOLDER` makes one."
            ) from error
        raise Corrupt(
            f"{path.parent} is not a backup, or an unfinished one: {path} cannot be read "
            f"({error.strerror})."
        ) from error
    except MALFORMED as error:
        raise Corrupt(f"{path} is not the manifest of a backup: {error!r}.") from error


def _manifest(document: Json, format_: int, revision: str) -> Manifest:
    if format_ == 1:
        document["registry"] = None
        rows = document["rows"]
        segments = [Segment("", None, 0, str(rows["sha256"]), int(rows["size"]))]
    else:
        segments = [_segment(**one) for one in document["segments"]]
    heads = {name: str(head) for name, head in document["heads"].items()}
    tables = {name: int(count) for name, count in document["tables"].items()}
    made_at, id_ = str(document["created_at"]), document["registry"]
    return Manifest(format_, revision, tuple(segments), id_, tables, heads, document, made_at)


def _segment(
    *, table: Any, span: Any, rows: Any, sha256: Any, size: Any, **_further: Any
) -> Segment:
    """Parse a segment of a manifest that may have been edited; a later release may add fields."""
    span = None if span is None else int(span)
    return Segment(str(table), span, int(rows), str(sha256), int(size))


def header(table: str, columns: Iterable[str]) -> Json:
    """The first line of a segment."""
    return {"table": table, "columns": list(columns)}


def lines(rows: Path) -> Iterator[tuple[str, Json]]:
    """Table and row of every row of a file, in either format."""
    table, columns = "", list[str]()
    with rows.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            document: Any = json.loads(line)
            if isinstance(document, list):
                yield table, dict(zip(columns, document, strict=True))
            elif "row" in document:
                yield document["table"], document["row"]
            else:
                table, columns = document["table"], document["columns"]


def add_up(files: Iterable[Path]) -> Content:
    """Read all rows once; returns their totals."""
    content, unused = Content(), set[str]()
    purged, archived = dict[str, tuple[int, list[int]]](), set[int]()  # size and versions
    for table, row in (row for rows in files for row in lines(rows)):
        content.tables[table] += 1
        if table == "models":
            content.heads[row["name"]] = row["last_event"]
        elif table == "registry":
            content.registry = row["id"]
        elif table == "blobs" and row["purged_at"] is None:
            content.files[row["sha256"]] = row["size"]
            unused.add(row["sha256"])
        elif table == "blobs":
            purged[row["sha256"]] = row["size"], []
        elif table == "version_artifacts":  # after `blobs`, which these rows refer to
            unused.discard(row["sha256"])
            if row["sha256"] in purged:
                purged[row["sha256"]][1].append(row["version_id"])
        elif table == "version_state" and row["status"] == "archived":
            archived.add(row["version_id"])
    for sha256 in unused:  # announced, and never registered
        del content.files[sha256]
    for sha256, (size, versions) in purged.items():
        if not archived.issuperset(versions):
            content.files[sha256] = size
    return content
