"""Raw: the result of every reader."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.columns import COLUMNS, Column, RawColumn
from tasks.config import Source
from tasks.errors import InputError
from tasks.files.reading import PLAIN, Reading
from tasks.files.tables import named


@dataclass(frozen=True)
class Origin:
    """A file, how many rows come from it, and the number of its first row in messages."""

    path: str
    rows: int
    first_row: int = 1


@dataclass(frozen=True)
class Raw:
    """Raw rows, before any checks.

    `table` has all columns, with nulls for missing values; features have the Arrow types of their
    column types. `features` maps the names of features to their column types, the keys of
    `COLUMNS`. `target` is the column to predict. `split` is an object array (N,) of `train` and
    `test`, or None if the files do not mark a test split. `reading` has the rules for text in the
    table.
    """

    source: Source
    table: pa.Table
    features: dict[str, str]
    target: str | None
    where: str
    origins: tuple[Origin, ...]
    split: NDArray[np.object_] | None = None
    changed: Mapping[str, int] = field(default_factory=dict)
    """How many image files were changed on reading, by a description of the change."""
    reading: Reading = PLAIN

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def describe(self, row: int) -> str:
        """The location of a row, counted as in its file: `data/raw/a.csv, row 17`."""
        for origin in self.origins:
            if row < origin.rows:
                return f"{origin.path}, row {row + origin.first_row}"
            row -= origin.rows
        raise IndexError(row)

    def types(self) -> dict[str, type[Column]]:
        """The column type of each feature, by name."""
        return {name: COLUMNS[kind] for name, kind in self.features.items()}

    def column(self, name: str, *, fill: bool = False) -> RawColumn:
        """The argument for the class methods of a column type."""
        return RawColumn(name, self.where, self.describe, self.source, self.reading, fill)

    def read_as(self, name: str, kind: str) -> "Raw":
        """Convert the column `name` to its column type. Raises `InputError` as `Column.read`."""
        column = self.column(name)
        values = COLUMNS[kind].read(self.table[name], column)
        table = self.table.set_column(self.table.column_names.index(name), name, values)
        return replace(self, table=table, changed={**self.changed, **column.changed})


def refuse_unfit(raw: Raw, reserved: Collection[str]) -> None:
    """Raises `InputError` if a reserved column is missing, or is the target."""
    for name in reserved:
        named(name, raw.table.column_names, raw.where, "prepare")
    if raw.target in reserved:
        raise InputError(
            f"{raw.where}: column {raw.target!r} is the target, and cannot also be used as split, "
            "group, time or sensitive column in prepare; name another column there"
        )
