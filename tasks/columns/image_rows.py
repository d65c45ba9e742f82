"""Image rows for prediction, from image files, IDX files, and tables with paths or image bytes."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.errors import BadRows, InputError
from tasks.files import idx, images, npz
from tasks.files.chunks import KEY
from tasks.reasons import UNREADABLE_IMAGE, WRONG_IMAGE

if TYPE_CHECKING:
    from tasks.columns.image import ImageColumn


def _batch(name: str, pixels: NDArray[np.generic]) -> pa.RecordBatch:
    """Images (N, H, W, C) as the column `name`."""
    part = np.ascontiguousarray(pixels)
    return pa.record_batch({name: pa.FixedShapeTensorArray.from_numpy_ndarray(part)})


def of_files(names: Sequence[str], column: str, size: int) -> Iterator[pa.RecordBatch]:
    """The paths of image files, which are also their keys; `with_pixels` reads the files."""
    for start in range(0, len(names), size):
        part = pa.array(names[start : start + size], pa.string())
        yield pa.record_batch({column: part, KEY: part})


def of_npz(path: Path, column: str, start: int, size: int) -> Iterator[pa.RecordBatch]:
    """The array `images` of a NumPy file."""
    found = npz.images(npz.load(path, "images"), path)
    for place in range(start, len(found), size):
        yield _batch(column, found[place : place + size])


def of_idx(path: Path, column: str, start: int, size: int) -> Iterator[pa.RecordBatch]:
    """The images of an IDX file, (H, W, 1)."""
    for place, part in zip(itertools.count(0, size), idx.stream(path, 3, size), strict=False):
        if place + len(part) > start:
            yield _batch(column, part[max(0, start - place) :, ..., np.newaxis])


def with_pixels(
    rows: pa.RecordBatch,
    folder: Path,
    members: Mapping[str, str] | None,
    column: "ImageColumn",
    describe: Callable[[int], str],
) -> pa.RecordBatch:
    """Rows with pixels in place of paths and bytes of image files; others stay as they are.

    `members` has the SHA-256 of every file that was there; None if files were not hashed.

    Raises:
        BadRows: images are broken or do not fit; names row and file of the first.
        InputError: a file is not the one whose SHA-256 `members` has.
    """
    name, names = column.name, rows.schema.names
    if name not in names or not images.holds_files(rows[name].type):
        return rows
    cells = list(images.cells(rows[name]))
    form, keyed = column.form(), KEY in names and rows[name].equals(rows[KEY])

    def where(row: int) -> str:
        if keyed:  # files of a folder, not of a table
            return str(folder / str(cells[row].path))
        path = cells[row].path
        return f"{describe(row)}, column {name!r}" + ("" if path is None else f" ({path})")

    present = np.array([not cell.missing for cell in cells])
    pixels, errors = [], dict[int, tuple[str, str]]()
    for row in np.flatnonzero(present).tolist():
        found = _pixels(cells[row], folder, members, form, where(row))
        if isinstance(found, tuple):
            errors[row] = found
        else:
            pixels.append(found)
    if errors:
        message, reason = next(iter(errors.values()))
        bad = np.zeros(len(cells), bool)
        bad[[row for row, error in errors.items() if error[1] == reason]] = True
        raise BadRows(message, bad, reason, name)
    tensor = images.as_column(np.array(pixels, np.uint8).reshape(-1, *column.shape), present)
    return rows.set_column(names.index(name), name, tensor)


def _pixels(
    cell: images.Cell,
    folder: Path,
    members: Mapping[str, str] | None,
    form: images.Form,
    where: str,
) -> NDArray[np.uint8] | tuple[str, str]:
    """The pixels (H, W, C), or why there are none: a message and the reason."""
    if cell.content is None:
        named = str(cell.path)
        if members is not None and named not in members:
            return f"{where} is missing", UNREADABLE_IMAGE
        sha256 = None if members is None else members[named]
        content = images.read_file(folder / named, sha256)
    else:
        content = cell.content
    try:
        image = images.decode(content, where)
    except InputError as error:
        return str(error), UNREADABLE_IMAGE
    try:
        return images.pixels_of(image, form, where)
    except InputError as error:
        return str(error), WRONG_IMAGE
