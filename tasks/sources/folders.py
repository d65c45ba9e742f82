"""PNG and JPEG files, in one folder for each class."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.columns.image import decode_all
from tasks.config import ImageSource
from tasks.errors import InputError
from tasks.files import images, tables
from tasks.sources.globs import patterns
from tasks.sources.raw import Origin

COLUMN, LABEL = "image", "label"


@dataclass(frozen=True)
class Images:
    """`pixels` (N, H, W, C), a label for each; `split` is `train` or `test` for each origin."""

    pixels: NDArray[np.generic]
    labels: pa.Array
    origins: tuple[Origin, ...]
    split: list[str]
    changed: Mapping[str, int] = field(default_factory=dict)
    """How many images were changed, by a description of the change."""


def read(source: ImageSource, path: Path) -> Images:
    """All images as uint8, ordered by the names of splits, classes and files.

    Raises:
        InputError: a file is not an image, or differs from the first in size or colour and `source`
            does not set it; a folder has no images.
    """
    found = [
        (split, label.name, file)
        for split, folder in _splits(path).items()
        for label in _subfolders(folder)
        for file in _files(label)
        if tables.matches_patterns(file, path, patterns(source))
    ]
    if not found:
        raise InputError(f"{path} has no image that matches prepare.source.pattern")
    pixels, notes = decode_all(
        source, COLUMN, ((str(file), images.read_file(file)) for _, _, file in found), len(found)
    )
    notes.refuse_dark(str(path))
    return Images(
        pixels,
        pa.array([label for _, label, _ in found]),
        tuple(Origin(str(file), 1, 0) for _, _, file in found),
        [split for split, _, _ in found],
        notes.counts,
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
                f"{path} has the folders {names}; only train and test are allowed together, "
                "because they mark the splits. The validation split is drawn from train"
            )
    for folder in splits.values():
        for file in folder.glob("[!.]*"):
            if file.suffix.lower() in images.SUFFIXES:
                raise InputError(f"{file} is not in the folder of a class; move it into one")
        if not _subfolders(folder):
            raise InputError(
                f"{folder} has no images; one sub-folder for each class, or IDX files, are "
                "expected. For tables, name the column of images in prepare.source.column"
            )
    return splits


def _files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("[!.]*"))
    if not found:
        raise InputError(f"{folder} has no images; remove it, or put PNG or JPEG files there")
    for file in found:
        if file.suffix.lower() not in images.SUFFIXES or not file.is_file():
            raise InputError(f"{file} is not a PNG or JPEG file; convert, move or remove it")
    return found
