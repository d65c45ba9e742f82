"""Files that a batch inference job reads: found, counted, fingerprinted, and read in batches."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.dataset import KEY
from tasks.encoding import Arrays, Encoder, Place
from tasks.errors import InputError
from tasks.files import npz, suffixes, tables
from tasks.files.convert import Kind
from tasks.signature import CategoryColumn, NumberColumn, Signature, TextColumn

SUFFIXES = suffixes.PREDICTED
Batch = tuple[pa.Array | None, Arrays]


@dataclass(frozen=True)
class InputFile:
    """One file, by content, and how many rows it has."""

    path: Path
    sha256: str
    rows: int


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
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if path.suffix == ".npz":
        arrays = npz.load(path, "images", "sequences")
        rows = len(npz.images(arrays, path) if "images" in arrays else npz.sequences(arrays, path))
    else:
        rows = tables.count(path)
    return InputFile(path, sha256, rows)


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
