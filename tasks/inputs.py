"""Files that a batch inference job reads: found, counted, fingerprinted, and read in batches."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.dataset import KEY
from tasks.encoding import Arrays, Encoder, Place
from tasks.errors import InputError
from tasks.files import npz, tables
from tasks.files.convert import Kind
from tasks.signature import CategoryColumn, NumberColumn, Signature, TextColumn
from tasks.snapshot import Stamp

SUFFIXES = (*tables.SUFFIXES, ".npz")
Batch = tuple[pa.Array | None, Arrays]


@dataclass(frozen=True)
class InputFile:
    """One file, by content, and how many rows it has."""

    path: Path
    sha256: str
    rows: int
    stamp: Stamp = field(compare=False, repr=False)
    """Of the file that was hashed, taken before that."""

    def described(self) -> dict[str, Any]:
        """As a manifest names it."""
        return {"path": str(self.path), "sha256": self.sha256, "rows": self.rows}


def find(paths: Iterable[Path]) -> list[InputFile]:
    """Every readable file that `paths` name, folders included, in the order of their names.

    Raises:
        InputError: a path is missing, a folder has nothing readable, or a file is broken.
    """
    files: list[Path] = []
    for path in paths:
        found = [path]
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if tables.form(p, SUFFIXES))
        if not found:
            raise InputError(f"{path} holds no file ending in {', '.join(SUFFIXES)}")
        files += found
    return [_inspect(path) for path in files]


def fingerprint(files: Iterable[InputFile]) -> str:
    """SHA-256 over the files' contents, in order; their names do not count."""
    return hashlib.sha256("\n".join(file.sha256 for file in files).encode()).hexdigest()


@contextmanager
def held_still(files: Iterable[InputFile]) -> Iterator[None]:
    """The block reads `files`; what it read is what was hashed, or it ends with an error.

    Raises:
        InputError: a file was written, replaced or removed since it was found; instead of what the
            block raised, for half a file can look broken in any way.
    """
    try:
        yield
    except Exception as error:
        refuse_changed(files, error)
        raise
    refuse_changed(files)


def refuse_changed(files: Iterable[InputFile], cause: Exception | None = None) -> None:
    """Raises `InputError` if a file is not what it was when it was found."""
    for file in files:
        if not _unchanged(file):
            raise InputError(
                f"{file.path} changed while it was read, so nothing was predicted. Write files "
                "under another name and move them into place; the same command predicts what is "
                "there now."
            ) from cause


def batches(file: InputFile, encoder: Encoder, size: int) -> Iterator[Batch]:
    """The file's `key` column (None where it has none) and inputs, at most `size` rows a time.

    Keys of CSV and JSON Lines are text.

    Raises:
        InputError: a column is missing, has the wrong type or shape, or a value is missing or no
            such value; names file, row and column.
    """
    if file.path.suffix == ".npz":
        rows = _npz_batches(file.path, encoder.signature, size)
    else:
        rows = tables.stream(file.path, size, _kinds(encoder.signature))
    done = tables.first_row(file.path)
    for batch in rows:
        arrays = encoder.encode(batch, Place(str(file.path), done))
        done += batch.num_rows
        yield batch[KEY] if KEY in batch.schema.names else None, arrays


def _inspect(path: Path) -> InputFile:
    if not tables.form(path, SUFFIXES):
        raise InputError(
            f"{path}: a file must end in {', '.join(SUFFIXES)}, to be read by that form"
        )
    with tables.reading(path), path.open("rb") as stream:
        stamp = Stamp.of(stream.fileno())
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if path.suffix == ".npz":
        arrays = npz.load(path, "images", "sequences")
        rows = len(npz.images(arrays, path) if "images" in arrays else npz.sequences(arrays, path))
    else:
        rows = tables.count(path)
    return InputFile(path, sha256, rows, stamp)


def _unchanged(file: InputFile) -> bool:
    """By its stamp, and by its content where that cannot tell."""
    try:
        now = Stamp.of(file.path)
        if not now.only_touched(file.stamp):
            return False
        if now == file.stamp and not file.stamp.young:
            return True
        with file.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def _kinds(signature: Signature) -> dict[str, Kind]:
    """What columns of a form without types of its own are to be read as."""
    kinds: dict[str, Kind] = {KEY: "text"}
    for column in signature.columns:
        if isinstance(column, NumberColumn | CategoryColumn | TextColumn):
            kinds[column.name] = column.kind
    return kinds


def _npz_batches(path: Path, signature: Signature, size: int) -> Iterator[pa.RecordBatch]:
    if signature.kind not in ("image", "sequence"):
        names = ", ".join(column.name for column in signature.columns)
        raise InputError(f"{path}: the model takes a table of {names}; name a file of rows")
    column = signature.columns[0].name
    if signature.kind == "sequence":
        sequences = npz.sequences(npz.load(path, "sequences"), path)
        for start in range(0, len(sequences), size):
            yield pa.record_batch({column: sequences[start : start + size]})
        return
    images = npz.images(npz.load(path, "images"), path)
    for start in range(0, len(images), size):
        part = np.ascontiguousarray(images[start : start + size])
        yield pa.record_batch({column: pa.FixedShapeTensorArray.from_numpy_ndarray(part)})
