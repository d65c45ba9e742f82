"""IDX files, the format of MNIST (http://yann.lecun.com/exdb/mnist/), compressed or not."""

import gzip
import math
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.files import suffixes
from tasks.files.tables import matches_patterns, reading

IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
SUFFIXES = suffixes.IDX


def is_images(path: Path) -> bool:
    return path.name.endswith(SUFFIXES)


def is_labels(path: Path) -> bool:
    return path.name.endswith((LABELS, f"{LABELS}.gz"))


def is_test(path: Path) -> bool:
    """Whether a file belongs to the test split, by its name."""
    return "t10k-" in path.name or "test-" in path.name


def images_in(folder: Path, patterns: Collection[str] = ()) -> list[Path]:
    """The image files of a folder that match one of the globs; those of the test split are last.

    Raises:
        InputError: a file is there twice, compressed and uncompressed.
    """
    found = [
        p for p in folder.glob("[!.]*") if is_images(p) and matches_patterns(p, folder, patterns)
    ]
    for path in found:
        if path.with_name(f"{path.name}.gz") in found:
            raise InputError(
                f"{path} and {path.name}.gz are duplicates of the same images; remove one of them"
            )
    return sorted(found, key=lambda path: (is_test(path), path.name))


def labels_of(images: Path) -> Path:
    """The label file of an image file. Raises `InputError` if there is none."""
    name = images.name.removesuffix(".gz").replace(IMAGES, LABELS)
    for path in (images.with_name(name), images.with_name(f"{name}.gz")):
        if path.exists():
            return path
    raise InputError(f"{images} has no labels: {name} or {name}.gz is expected beside it")


def stream(path: Path, dimensions: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """The entries of a file, (N, ...) with `dimensions` axes, in batches of at most `size`.

    Raises:
        InputError: the file is missing or broken, or has another number of axes.
    """
    with reading(path), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        header = np.frombuffer(file.read(4 + 4 * dimensions), ">i4")
        # Two zero bytes, 8 for unsigned bytes, and the number of dimensions.
        if len(header) <= dimensions or header[0] != 0x800 + dimensions:
            raise ValueError(f"the header is not that of unsigned bytes with {dimensions} axes")
        shape = [int(length) for length in header[1:]]
        if min(shape) < 0:
            raise ValueError(f"the header has a negative length: {shape}")
        entry = math.prod(shape[1:])
        for start in range(0, max(1, shape[0]), size):
            rows = min(size, shape[0] - start)
            content = file.read(rows * entry)
            if len(content) < rows * entry:
                raise ValueError(f"it has less data than the {shape[0]} entries in its header")
            yield np.frombuffer(content, np.uint8).reshape(rows, *shape[1:])
        if file.read(1):
            raise ValueError(f"it has more data than the {shape[0]} entries in its header")


def read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """All entries of a file. Raises `InputError` as `stream` does."""
    return np.concatenate(list(stream(path, dimensions, 2**16)))


def count(path: Path) -> int:
    """The number of images of a file. Reads them all, to detect a truncated file."""
    return sum(len(part) for part in stream(path, 3, 2**12))
