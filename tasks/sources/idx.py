"""IDX files, the format of the MNIST family (http://yann.lecun.com/exdb/mnist/), `.gz` or not."""

import gzip
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.files.tables import chosen, reading
from tasks.sources.folders import Images
from tasks.sources.raw import Origin

IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


def images_in(folder: Path, patterns: Collection[str] = ()) -> list[Path]:
    """Its files of images that one of the globs fits, those of the test split last."""
    found = [*folder.glob(f"*{IMAGES}"), *folder.glob(f"*{IMAGES}.gz")]
    found = [path for path in found if chosen(path, folder, patterns)]
    return sorted(found, key=lambda path: (_split(path) == "test", path.name))


def read(folder: Path, patterns: Collection[str]) -> Images:
    """Every pair of files in a folder; images grey, (N, H, W, 1).

    Raises:
        InputError: a file is missing, broken, or there twice; sizes or numbers of rows differ.
    """
    files = images_in(folder, patterns)
    pixels: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.uint8]] = []
    origins = []
    for path in files:
        images, numbers = _array(path, 3), _array(_labels(path), 1)
        if len(images) != len(numbers):
            raise InputError(
                f"{path} has {len(images)} images and {_labels(path)} {len(numbers)} labels; "
                "one for each is wanted"
            )
        if pixels and images.shape[1:] != pixels[0].shape[1:]:
            raise InputError(
                f"{path}: images of {images.shape[1]}x{images.shape[2]} pixels; those of "
                f"{files[0]} are {pixels[0].shape[1]}x{pixels[0].shape[2]}"
            )
        pixels.append(images)
        labels.append(numbers)
        origins.append(Origin(str(path), len(images), 0))
    return Images(
        np.concatenate(pixels)[..., np.newaxis],
        pa.array(np.concatenate(labels).astype(np.int64)),
        tuple(origins),
        [_split(path) for path in files],
    )


def _split(path: Path) -> str:
    return "test" if "t10k-" in path.name or "test-" in path.name else "train"


def _labels(images: Path) -> Path:
    """The file of labels that belongs to a file of images."""
    name = images.name.removesuffix(".gz")
    if images.suffix == ".gz" and images.with_name(name).exists():
        raise InputError(f"{images} and {name} are the same images twice; remove one of them")
    name = name.replace(IMAGES, LABELS)
    for path in (images.with_name(name), images.with_name(f"{name}.gz")):
        if path.exists():
            return path
    raise InputError(f"{images} has no labels: {name} or {name}.gz is wanted beside it")


def _array(path: Path, dimensions: int) -> NDArray[np.uint8]:
    with reading(path):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        header = np.frombuffer(content[: 4 + 4 * dimensions], ">i4")
        # Two zero bytes, 8 for unsigned bytes, and the number of dimensions.
        if len(header) <= dimensions or header[0] != 0x800 + dimensions:
            raise ValueError(f"it does not begin as one of unsigned bytes in {dimensions} axes")
        values: NDArray[np.uint8] = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
        return values.reshape(header[1:])
