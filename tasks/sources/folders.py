"""PNG and JPEG files in one folder for each class."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tasks.config import ImageSource
from tasks.errors import InputError
from tasks.files import tables
from tasks.sources.globs import patterns
from tasks.sources.raw import Origin

SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Images:
    """`pixels` (N, H, W, C), a label for each; a split, `train` or `test`, for each origin."""

    pixels: NDArray[np.generic]
    labels: pa.Array
    origins: tuple[Origin, ...]
    split: list[str]


def read(source: ImageSource, path: Path) -> Images:
    """Every image as uint8, in the order of the names of splits, classes and files.

    Raises:
        InputError: a file is no image, or is of another size or colour than the first and
            `source` does not say what to make of it; a folder holds none.
    """
    found = [
        (split, label.name, file)
        for split, folder in _splits(path).items()
        for label in _subfolders(folder)
        for file in _files(label)
        if tables.chosen(file, path, patterns(source))
    ]
    if not found:
        raise InputError(f"{path} holds no image that prepare.source.pattern fits")
    mode = {"grey": "L", "rgb": "RGB"}.get(source.colour or "")
    pixels: NDArray[np.uint8] | None = None
    for row, (_, _, file) in enumerate(found):
        image = _open(file)
        mode = mode or image.mode
        if image.mode != mode and mode == "L" and source.colour is None:
            raise InputError(
                f"{file} has colours and {found[0][2]} has none; set prepare.source.colour to "
                "grey or rgb"
            )
        image = image.convert(mode)
        if source.size:
            height, width = source.size
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        array = np.asarray(image).reshape(image.height, image.width, -1)
        if pixels is None:
            pixels = np.empty((len(found), *array.shape), np.uint8)
        if array.shape != pixels.shape[1:]:
            raise InputError(
                f"{file} is {image.height}x{image.width} pixels (height x width); {found[0][2]} "
                f"is {pixels.shape[1]}x{pixels.shape[2]}. Set prepare.source.size to [height, "
                "width] to resize all images"
            )
        pixels[row] = array
    assert pixels is not None
    return Images(
        pixels,
        pa.array([label for _, label, _ in found]),
        tuple(Origin(str(file), 1, 0) for _, _, file in found),
        [split for split, _, _ in found],
    )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("[!.]*") if p.is_dir())


def _splits(path: Path) -> dict[str, Path]:
    folders = _subfolders(path)
    splits = {"train": path}
    if {"train", "test"} <= {folder.name for folder in folders}:
        splits = {"train": path / "train", "test": path / "test"}
        if len(folders) > 2:
            names = ", ".join(folder.name for folder in folders)
            raise InputError(
                f"{path} holds the folders {names}; beside train and test, which mark the "
                "splits, there can be no other. The validation split is drawn from train"
            )
    for folder in splits.values():
        for file in folder.glob("[!.]*"):
            if file.suffix.lower() in SUFFIXES:
                raise InputError(f"{file} lies in no folder of a class; move it into one")
        if not _subfolders(folder):
            raise InputError(
                f"{folder} holds no images; one sub-folder for each class is wanted, or IDX files"
            )
    return splits


def _files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("[!.]*"))
    if not found:
        raise InputError(f"{folder} holds no images; remove it, or put PNG or JPEG files there")
    for file in found:
        if file.suffix.lower() not in SUFFIXES or not file.is_file():
            raise InputError(f"{file} is no PNG or JPEG file; convert, move or remove it")
    return found


def _open(path: Path) -> Image.Image:
    """An image as it is to be looked at: upright, of mode `L` or `RGB`, 8 bits a channel."""
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as file:
            image = ImageOps.exif_transpose(file)
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} is not a readable PNG or JPEG file: {error}. Mend or remove it"
        ) from error
    if image.mode.startswith("I"):
        # 16 bits of grey: Pillow would cut them off at 255.
        return Image.fromarray((np.asarray(image).astype(np.int64) // 257).astype(np.uint8))
    if image.mode in ("L", "LA", "1"):
        return image.convert("L")
    return image.convert("RGB")
