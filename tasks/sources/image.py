"""Images of one size in a NumPy `.npz` file: arrays `images` and `labels`."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from tasks.errors import InputError
from tasks.sources.raw import Raw


def read(path: Path) -> Raw:
    """Images (N, H, W) or (N, H, W, C), uint8 or floating point, become (N, H, W, C)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise InputError(
            f"{path} is missing. Put the file there, or name another in prepare.source.path."
        ) from error
    except (OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is not a NumPy .npz file of plain arrays: {error}") from error
    if not {"images", "labels"} <= arrays.keys():
        raise InputError(
            f"{path} holds the arrays {', '.join(sorted(arrays)) or 'none'}; "
            "`images` and `labels` are wanted"
        )
    images, labels = arrays["images"], arrays["labels"]
    if images.ndim not in (3, 4) or not (images.dtype == np.uint8 or images.dtype.kind == "f"):
        raise InputError(
            f"{path}: images is {images.dtype}{list(images.shape)}; uint8 or floating point of "
            "shape (N, H, W) or (N, H, W, C) is wanted"
        )
    if labels.shape != (len(images),) or labels.dtype.kind not in "iuUS":
        raise InputError(
            f"{path}: labels is {labels.dtype}{list(labels.shape)}; {len(images)} integers or "
            "strings are wanted, one for each image"
        )
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
    try:
        named = labels.astype(str).astype(object)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: a label of bytes must be ASCII: {error}") from error
    named[named == ""] = None
    return Raw({"image": images}, named, str(path))
