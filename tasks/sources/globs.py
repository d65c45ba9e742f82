"""Which files of a folder a source reads, and which of them are the test split."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.config import ImageSource, SequenceSource, TabularSource, TextSource
from tasks.errors import InputError
from tasks.files.tables import chosen
from tasks.sources.raw import Raw

Files = TabularSource | TextSource | ImageSource | SequenceSource


def patterns(source: Files) -> list[str]:
    """The globs of `tables.files`: none for every file; test files are read whatever else is."""
    if source.pattern is None:
        return []
    return [source.pattern, *([source.test] if source.test else [])]


def refuse_without_folder(source: Files, path: Path) -> None:
    """Raises `InputError` if `source` chooses among files and `path` is a single one."""
    if (source.pattern or source.test) and path.is_file():
        raise InputError(
            f"{path} is a file; prepare.source.pattern and prepare.source.test choose among the "
            "files of a folder. Name the folder in prepare.source.path, or remove them"
        )


def split(raw: Raw, folder: Path, test: str) -> NDArray[np.object_]:
    """`test` (N,) for the rows of the files that the glob fits, `train` for the others.

    Raises:
        InputError: it fits all files or none, or the files are of a split by their own names.
    """
    if raw.split is not None:
        raise InputError(
            f"{raw.where} has a test split of its own: its folders or files are named for it. "
            "Remove prepare.source.test"
        )
    fits = [chosen(Path(origin.path), folder, [test]) for origin in raw.origins]
    if all(fits) or not any(fits):
        raise InputError(
            f"{raw.where}: prepare.source.test ({test}) fits {'all' if all(fits) else 'none'} of "
            f"the {len(fits)} files; it has to fit some, and leave others to train on"
        )
    splits = np.where(fits, "test", "train").astype(object)
    return np.repeat(splits, [origin.rows for origin in raw.origins])
