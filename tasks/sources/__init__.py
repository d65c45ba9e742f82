"""Reads raw rows from their source: one explicit dict of readers, one module for each.

A source finds the rows and determines the column types; `tasks.columns` reads the values.
"""

import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.config import DigitsSource, Source
from tasks.dataset import KEY, TARGET
from tasks.errors import InputError
from tasks.sources import digits, examples, globs, image, sequence, tabular, text
from tasks.sources.raw import Raw, refuse_unfit

# The arguments are the source, its path, and the names of reserved columns, which are not features
# and may have any type.
READERS: Mapping[str, Callable[[Any, Path, Collection[str]], Raw]] = {
    "digits": digits.read,
    "tabular": tabular.read,
    "image": image.read,
    "text": text.read,
    "sequence": sequence.read,
}


def read(source: Source, root: Path, reserved: Collection[str] = ()) -> Raw:
    """Read the raw rows of `source`; a relative path starts at `root`.

    The columns `reserved` (group, time, split or personal data) stay in the table but are not
    features.

    Raises:
        InputError: a file is missing, unreadable or has another format, or a column is missing;
            names file, row and column.
    """
    path = root / source.path
    if not isinstance(source, DigitsSource):
        globs.refuse_without_folder(source, path)
    raw = READERS[source.kind](source, path, reserved)
    split = raw.split
    if not isinstance(source, DigitsSource) and source.test:
        split = globs.split(raw, path, source.test)
    refuse_unfit(raw, reserved)
    return replace(raw, features=_features(raw, reserved), split=split)


def _features(raw: Raw, reserved: Collection[str]) -> dict[str, str]:
    features = {name: kind for name, kind in raw.features.items() if name not in reserved}
    if not features:
        raise InputError(
            f"{raw.where}: no feature is left; every column is the target, ignored, or used in "
            "prepare for another purpose"
        )
    if "" in features:
        raise InputError(
            f"{raw.where}: a column has no name. If it is the index of pandas, write the file with "
            "index=False; otherwise give it a name, or add '' to prepare.source.ignore"
        )
    for name in features.keys() & {KEY, TARGET}:
        raise InputError(
            f"{raw.where}: a feature cannot have the name {name!r}, because the prepared dataset "
            "uses it. Rename the column; in a table, you can name it in prepare.source.ignore "
            "instead"
        )
    return features


def place_embedded(source: Source, root: Path) -> bool:
    """Copy example data to the path of `source`, atomically, if nothing exists there.

    Returns whether `source` is an example.

    Raises:
        InputError: the package with the data is not available; says what to do.
    """
    if isinstance(source, DigitsSource):
        put: Callable[[Path], None] = digits.put
    elif source.example is not None:
        put = examples.EXAMPLES[source.example]
    else:
        return False
    path = root / source.path
    if path.exists():
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        put(part)
        part.replace(path)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)
    return True
