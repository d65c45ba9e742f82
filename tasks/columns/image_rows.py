"""Batches of images for prediction: from image files, arrays, IDX files and tables."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.files import idx, images, npz, tables
from tasks.files.delimited import KEY

if TYPE_CHECKING:
    from tasks.columns.image import ImageColumn


def batch(name: str, pixels: NDArray[np.generic]) -> pa.RecordBatch:
    """Images (N, H, W, C) as the column `name`."""
    part = np.ascontiguousarray(pixels)
    return pa.record_batch({name: pa.FixedShapeTensorArray.from_numpy_ndarray(part)})


def of_files(
    folder: Path, members: Mapping[str, str], column: "ImageColumn", size: int
) -> Iterator[pa.RecordBatch]:
    """Image files of a folder; `members` has the SHA-256 of each. The file names are the keys.

    Raises:
        InputError: a file is broken, does not fit `column`, or has another hash; names the file.
    """
    form, files = column.form(), iter(members.items())
    while part := list(itertools.islice(files, size)):
        pixels = [images.load(folder / n, form, str(folder / n), sha256) for n, sha256 in part]
        names = pa.array([name for name, _ in part], pa.string())
        yield batch(column.name, np.stack(pixels)).append_column(KEY, names)


def of_npz(path: Path, column: "ImageColumn", size: int) -> Iterator[pa.RecordBatch]:
    """The array `images` of a NumPy file."""
    found = npz.images(npz.load(path, "images"), path)
    for start in range(0, len(found), size):
        yield batch(column.name, found[start : start + size])


def of_idx(path: Path, column: "ImageColumn", size: int) -> Iterator[pa.RecordBatch]:
    """The images of an IDX file, (H, W, 1)."""
    for part in idx.stream(path, 3, size):
        yield batch(column.name, part[..., np.newaxis])


def of_table(
    rows: Iterator[pa.RecordBatch], table: Path, members: Mapping[str, str], column: "ImageColumn"
) -> Iterator[pa.RecordBatch]:
    """The rows of a table, with paths or bytes of images replaced by their pixels.

    Raises:
        InputError: an image is broken, does not fit, or has another hash than in `members`; names
            table, row and file.
    """
    form, name, first = column.form(), column.name, tables.first_row(table)
    for part in rows:
        if name in part.schema.names and images.holds_files(part[name].type):
            found = list(images.cells(part[name]))
            wheres = [f"{table}, row {first + i}, column {name!r}" for i in range(len(found))]
            pixels = [
                _pixels(cell, table.parent, members, form, where)
                for cell, where in zip(found, wheres, strict=True)
                if not cell.missing
            ]
            present = np.array([not cell.missing for cell in found])
            whole = np.array(pixels, np.uint8).reshape(-1, *column.shape)
            tensor = images.as_column(whole, present)
            part = part.set_column(part.schema.names.index(name), name, tensor)
        first += part.num_rows
        yield part


def _pixels(
    cell: images.Cell, folder: Path, members: Mapping[str, str], form: images.Form, where: str
) -> NDArray[np.uint8]:
    if cell.content is not None:
        return images.pixels_of(images.decode(cell.content, where), form, where)
    named = str(cell.path)
    return images.load(folder / named, form, f"{where} ({named})", members.get(named))
