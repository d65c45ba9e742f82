"""Images of one size: arrays (`.npz`, IDX), folders of image files, or tables with their paths or
bytes.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.columns.image import refuse_options
from tasks.config import ImageSource
from tasks.errors import InputError
from tasks.files import npz, tables
from tasks.files.idx import images_in
from tasks.sources import folders, idx
from tasks.sources.folders import COLUMN, LABEL, Images
from tasks.sources.globs import patterns
from tasks.sources.raw import Origin, Raw
from tasks.sources.tabular import origins, with_typed_target


def read(source: ImageSource, path: Path, reserved: Collection[str]) -> Raw:
    """A column of images, (H, W, C) of uint8 or float32, and the target; of tables, all columns.

    Raises:
        InputError: there are no readable images, or they differ in size; names the file.
    """
    if source.column or tables.form(path):
        return _table(source, path)
    found = _images(source, path)
    if 0 in found.pixels.shape:
        raise InputError(f"{path} has no images, or images without pixels")
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(found.pixels))
    split = None
    if "test" in found.split:
        split = np.repeat(np.array(found.split, object), [o.rows for o in found.origins])
    return Raw(
        source,
        pa.table({COLUMN: column, LABEL: found.labels}),
        {COLUMN: "image"},
        LABEL,
        str(path),
        found.origins,
        split,
        changed=found.changed,
    )


def _table(source: ImageSource, path: Path) -> Raw:
    """The rows of tables with a column of paths or bytes of image files."""
    name, target = source.column or COLUMN, source.target or LABEL
    table, rows, reading = tables.read(path, text=(name, target), patterns=patterns(source))
    for column, key in ((name, "column"), (target, "target")):
        tables.named(column, table.column_names, str(path), f"prepare.source.{key}")
    table = with_typed_target(table, target, reading)
    raw = Raw(source, table, {name: "image"}, target, str(path), origins(rows), reading=reading)
    return raw.read_as(name, "image")


def _images(source: ImageSource, path: Path) -> Images:
    if not path.exists():
        raise InputError(f"{path} is missing. Put the images there, or set prepare.source.path.")
    if source.target:
        raise InputError(
            f"{path}: prepare.source.target is for tables. If these are tables, also name the "
            "column of images in prepare.source.column; otherwise remove prepare.source.target"
        )
    if path.is_dir() and not images_in(path, patterns(source)):
        return folders.read(source, path)
    refuse_options(source, str(path))
    if path.is_dir():
        return idx.read(path, patterns(source))
    if path.suffix != ".npz":
        raise InputError(
            f"{path}: a .npz file, a folder of IDX files, a folder with one sub-folder of PNG or "
            "JPEG files for each class, or a table with their paths or bytes is expected"
        )
    arrays = npz.load(path, "images")
    pixels = npz.images(arrays, path)
    labels = npz.labels(arrays, len(pixels), path)
    return Images(pixels, labels, (Origin(str(path), len(pixels), 0),), ["train"])
