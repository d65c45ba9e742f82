"""Texts: a column of a table, or one file of lines for each class."""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from tasks.config import TextSource
from tasks.errors import InputError
from tasks.files import tables
from tasks.files.lines import SUFFIX
from tasks.files.lines import texts as texts_of
from tasks.sources.globs import patterns
from tasks.sources.raw import Origin, Raw
from tasks.sources.tabular import reading_of, rows_of

LABEL = "label"


def read(source: TextSource, path: Path, reserved: Collection[str]) -> Raw:
    """The text column; blank texts are missing values.

    Raises:
        InputError: the column is missing or not text, or a line is not UTF-8.
    """
    reading = reading_of(source.csv)
    if _is_lines(path):
        table, origins = _lines(source, path)
        target = table.column_names[1] if path.is_dir() else source.target
    else:
        found = rows_of(source, path, reserved)
        table, origins, reading = found.table, found.origins, found.reading
        target = source.target
    for name, key in ((source.column, "column"), (target, "target")):
        if name is not None:
            tables.named(name, table.column_names, str(path), f"prepare.source.{key}")
    features = {source.column: "text"}
    raw = Raw(source, table, features, target, str(path), origins, reading=reading)
    return raw.read_as(source.column, "text")


def _is_lines(path: Path) -> bool:
    """Whether `path` has texts as lines; a `.txt` file beside tables is documentation."""
    if not path.is_dir():
        return path.suffix == SUFFIX
    return any(path.glob("*.txt")) and not any(map(tables.form, path.iterdir()))


def _lines(source: TextSource, path: Path) -> tuple[pa.Table, tuple[Origin, ...]]:
    """A row for each line; in a folder, the file names are the classes."""
    if source.test:
        raise InputError(
            f"{path}: each .txt file is a class, so a file cannot be the test split. Remove "
            "prepare.source.test, or put the texts into tables"
        )
    texts: list[str] = []
    labels: list[str] = []
    origins = []
    for file in tables.files(path, (SUFFIX,), patterns(source)):
        lines = list(texts_of(file))
        texts += lines
        labels += [file.stem] * len(lines)
        origins.append(Origin(str(file), len(lines)))
    if not texts:
        raise InputError(f"{path} has no rows")
    columns = {source.column: pa.array(texts, pa.string())}
    if path.is_dir():
        columns[source.target or LABEL] = pa.array(labels, pa.string())
    return pa.table(columns), tuple(origins)
