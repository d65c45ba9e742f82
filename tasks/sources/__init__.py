"""Where rows come from: one explicit dict of readers, one module each.

A source finds the rows and says of which type each column is; `tasks.columns` says what a value is.
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

# Each reads what lies at one path; the columns of the last argument may be there, of any type,
# and are not features.
READERS: Mapping[str, Callable[[Any, Path, Collection[str]], Raw]] = {
    "digits": digits.read,
    "tabular": tabular.read,
    "image": image.read,
    "text": text.read,
    "sequence": sequence.read,
}


def read(source: Source, root: Path, reserved: Collection[str] = ()) -> Raw:
    """The raw rows that `source` names; a relative path starts at `root`.

    The columns `reserved` (a group, a time, a split, personal data) stay in the table and are no
    features.

    Raises:
        InputError: a file is missing, unreadable or of another form, or a column is not there;
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
        raise InputError(f"{raw.where}: no column is left that a model may learn from")
    if "" in features:
        raise InputError(
            f"{raw.where}: a column has no name; pandas writes its index so (index=False leaves it "
            "out). Name the column, or name '' in prepare.source.ignore"
        )
    for name in features.keys() & {KEY, TARGET}:
        raise InputError(
            f"{raw.where}: a feature cannot be named {name!r}, which the prepared dataset uses "
            "itself. Rename the column; in a table, prepare.source.ignore can name it instead"
        )
    return features


def place_embedded(source: Source, root: Path) -> bool:
    """Put raw data that comes with a package where `source` says, if nothing lies there.

    It appears whole or not at all. Returns whether there is such data for `source`.

    Raises:
        InputError: its package is not to be had; says what to do.
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
