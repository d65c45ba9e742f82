"""Images of one size: a NumPy `.npz` file, a folder of IDX files, or folders of image files."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.config import ImageSource
from tasks.errors import InputError
from tasks.files import npz
from tasks.sources import folders, idx
from tasks.sources.folders import Images
from tasks.sources.globs import patterns
from tasks.sources.raw import Origin, Raw


def read(source: ImageSource, path: Path, reserved: Collection[str]) -> Raw:
    """Columns `image`, (H, W, C) of uint8 or float32, and `label`.

    Raises:
        InputError: nothing readable lies there, or images differ in size; names the file.
    """
    found = _images(source, path)
    if 0 in found.pixels.shape:
        raise InputError(f"{path} holds no images, or images without pixels")
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(found.pixels))
    split = None
    if "test" in found.split:
        split = np.repeat(np.array(found.split, object), [o.rows for o in found.origins])
    return Raw(
        pa.table({"image": column, "label": found.labels}),
        {"image": "image"},
        "label",
        str(path),
        found.origins,
        split,
    )


def _images(source: ImageSource, path: Path) -> Images:
    if not path.exists():
        raise InputError(
            f"{path} is missing. Put the images there, or name another place in "
            "prepare.source.path."
        )
    if path.is_dir() and not idx.images_in(path, patterns(source)):
        return folders.read(source, path)
    if source.size or source.colour:
        raise InputError(
            f"{path}: prepare.source.size and prepare.source.colour are for folders of image "
            "files, and these images are arrays. Remove them"
        )
    if path.is_dir():
        return idx.read(path, patterns(source))
    if path.suffix != ".npz":
        raise InputError(
            f"{path}: images are a .npz file, a folder of IDX files, or a folder with one "
            "sub-folder of PNG or JPEG files for each class"
        )
    arrays = npz.load(path, "images")
    pixels = npz.images(arrays, path)
    labels = npz.labels(arrays, len(pixels), path)
    return Images(pixels, labels, (Origin(str(path), len(pixels), 0),), ["train"])
