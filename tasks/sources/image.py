"""Images of one size: arrays (`.npz`, IDX), folders of image files, or tables that name or hold
such files.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.config import ImageSource
from tasks.errors import InputError
from tasks.files import images, npz, tables
from tasks.files.idx import images_in
from tasks.sources import folders, idx
from tasks.sources.folders import COLUMN, LABEL, Images, pixels_of
from tasks.sources.globs import patterns
from tasks.sources.raw import Origin, Raw
from tasks.sources.tabular import origins, with_typed_target


def read(source: ImageSource, path: Path, reserved: Collection[str]) -> Raw:
    """A column of images, (H, W, C) of uint8 or float32, and the target; in tables, all others.

    Raises:
        InputError: nothing readable lies there, or images differ in size; names the file.
    """
    if source.column or tables.form(path):
        return _table(source, path)
    found = _images(source, path)
    if 0 in found.pixels.shape:
        raise InputError(f"{path} holds no images, or images without pixels")
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(found.pixels))
    split = None
    if "test" in found.split:
        split = np.repeat(np.array(found.split, object), [o.rows for o in found.origins])
    return Raw(
        pa.table({COLUMN: column, LABEL: found.labels}),
        {COLUMN: "image"},
        LABEL,
        str(path),
        found.origins,
        split,
        changed=found.changed,
    )


def _table(source: ImageSource, path: Path) -> Raw:
    """The rows of tables, one column of which holds image files: their paths or their bytes."""
    name, target = source.column or COLUMN, source.target or LABEL
    table, rows, reading = tables.read(path, text=(name, target), patterns=patterns(source))
    for column, key in ((name, "column"), (target, "target")):
        tables.named(column, table.column_names, str(path), f"prepare.source.{key}")
    table = with_typed_target(table, target, reading)
    raw = Raw(table, {name: "image"}, target, str(path), origins(rows), reading=reading)
    index = table.column_names.index(name)
    images_column, changed = _column(source, path, raw, name)
    return replace(raw, table=table.set_column(index, name, images_column), changed=changed)


def _column(
    source: ImageSource, path: Path, raw: Raw, name: str
) -> tuple[pa.Array, Mapping[str, int]]:
    """The column `name` as arrays of pixels, null where it is empty."""
    column = raw.table[name]
    if isinstance(column.type, pa.FixedShapeTensorType):
        _refuse_options(source, path)
        return column.combine_chunks(), {}
    if not images.holds_files(column.type):
        raise InputError(
            f"{path}: column {name!r} is {column.type}; paths of PNG or JPEG files, their bytes, "
            "or a fixed-shape tensor are wanted"
        )
    found = list(images.cells(column))
    present = np.array([not cell.missing for cell in found])
    if not present.any():
        raise InputError(f"{path}: column {name!r} names no image in any row")

    def contents() -> Iterator[tuple[str, bytes]]:
        for row, cell in enumerate(found):
            where = f"{raw.describe(row)}, column {name!r}"
            if cell.path is not None:
                yield f"{where} ({cell.path})", images.read_file(_tracked(path, cell.path, where))
            elif cell.content is not None:
                yield where, cell.content

    pixels, notes = pixels_of(source, name, contents(), int(present.sum()))
    notes.refuse_dark(str(path))
    return images.as_column(pixels, present), notes.counts


def _tracked(folder: Path, named: str, where: str) -> Path:
    """The file that a row names, which must lie in the folder that DVC tracks."""
    if not folder.is_dir():
        raise InputError(
            f"{where} names {named}, and DVC would track {folder.name} alone, not the images: a "
            "change in them would go unnoticed. Put table and images into one folder, name it in "
            f"prepare.source.path, and {folder.name} in prepare.source.pattern"
        )
    file = Path(os.path.normpath(folder / named))
    if not file.is_relative_to(os.path.normpath(folder)):
        raise InputError(
            f"{where} names {named}, which lies outside of {folder}, where DVC would not track "
            "it. Move it into that folder"
        )
    return file


def _images(source: ImageSource, path: Path) -> Images:
    if not path.exists():
        raise InputError(
            f"{path} is missing. Put the images there, or name another place in "
            "prepare.source.path."
        )
    if source.target:
        raise InputError(
            f"{path}: prepare.source.target names a column, and this is no table. Name the column "
            "of images in prepare.source.column too, or remove it: labels are the names of "
            "folders, or arrays"
        )
    if path.is_dir() and not images_in(path, patterns(source)):
        return folders.read(source, path)
    _refuse_options(source, path)
    if path.is_dir():
        return idx.read(path, patterns(source))
    if path.suffix != ".npz":
        raise InputError(
            f"{path}: images are a .npz file, a folder of IDX files, a folder with one "
            "sub-folder of PNG or JPEG files for each class, or a table with their paths or bytes"
        )
    arrays = npz.load(path, "images")
    pixels = npz.images(arrays, path)
    labels = npz.labels(arrays, len(pixels), path)
    return Images(pixels, labels, (Origin(str(path), len(pixels), 0),), ["train"])


def _refuse_options(source: ImageSource, path: Path) -> None:
    if source.size or source.colour:
        raise InputError(
            f"{path}: prepare.source.size and prepare.source.colour are for folders of image "
            "files, and these images are arrays. Remove them"
        )
