"""Selects the files of a folder that a source reads, and those that are the test split."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.config import ImageSource, SequenceSource, TabularSource, TextSource
from tasks.errors import InputError
from tasks.files.tables import matches_patterns
from tasks.sources.raw import Raw

Files = TabularSource | TextSource | ImageSource | SequenceSource


def patterns(source: Files) -> list[str]:
    """The globs for `tables.files`; empty for all files. Test files are always included."""
    if source.pattern is None:
        return []
    return [source.pattern, *([source.test] if source.test else [])]


def refuse_without_folder(source: Files, path: Path) -> None:
    """Raises `InputError` if `source` has globs and `path` is a single file."""
    if (source.pattern or source.test) and path.is_file():
        raise InputError(
            f"{path} is a file, but prepare.source.pattern and prepare.source.test select files of "
            "a folder. Name the folder in prepare.source.path, or remove them"
        )


def split(raw: Raw, folder: Path, test: str) -> NDArray[np.object_]:
    """(N,): `test` for rows of files that match the glob, `train` for the others.

    Raises:
        InputError: the glob matches all files or none, or the file names already mark the splits.
    """
    if raw.split is not None:
        raise InputError(
            f"{raw.where} already has a test split, marked by the names of its folders or files. "
            "Remove prepare.source.test"
        )
    matches = [matches_patterns(Path(origin.path), folder, [test]) for origin in raw.origins]
    if all(matches) or not any(matches):
        raise InputError(
            f"{raw.where}: prepare.source.test ({test}) matches "
            f"{'all' if all(matches) else 'none'} of the {len(matches)} files; it must match some, "
            "and leave others to train on"
        )
    splits = np.where(matches, "test", "train").astype(object)
    return np.repeat(splits, [origin.rows for origin in raw.origins])
