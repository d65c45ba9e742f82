"""Folders of IDX files: image files, and a label file for each."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.files import idx
from tasks.sources.folders import Images
from tasks.sources.raw import Origin


def read(folder: Path, patterns: Collection[str]) -> Images:
    """All pairs of image and label files in a folder; images are grey, (N, H, W, 1).

    Raises:
        InputError: a file is missing, broken or a duplicate; image sizes or row counts differ.
    """
    files = idx.images_in(folder, patterns)
    pixels: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.uint8]] = []
    origins = []
    for path in files:
        images, numbers = idx.read(path, 3), idx.read(idx.labels_of(path), 1)
        if len(images) != len(numbers):
            raise InputError(
                f"{path} has {len(images)} images and {idx.labels_of(path)} {len(numbers)} labels; "
                "one label for each image is expected"
            )
        if pixels and images.shape[1:] != pixels[0].shape[1:]:
            raise InputError(
                f"{path}: images of {images.shape[1]}x{images.shape[2]} pixels, but those of "
                f"{files[0]} have {pixels[0].shape[1]}x{pixels[0].shape[2]}; one size is expected"
            )
        pixels.append(images)
        labels.append(numbers)
        origins.append(Origin(str(path), len(images), 0))
    return Images(
        np.concatenate(pixels)[..., np.newaxis],
        pa.array(np.concatenate(labels).astype(np.int64)),
        tuple(origins),
        ["test" if idx.is_test(path) else "train" for path in files],
    )
