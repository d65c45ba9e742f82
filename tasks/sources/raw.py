"""Raw: what every reader returns."""

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
    """A file, how many rows came from it, and the number it gives to the first of them."""

    path: str
    rows: int
    first_row: int = 1


@dataclass(frozen=True)
class Raw:
    """Rows as they were found, before any was checked.

    `table` holds every column that was read, missing values as nulls: features as their column
    types read them, the rest by Arrow's own types. `features` names those that a model may look
    at, each with its column type, a key of `COLUMNS`; `target` the one to predict. `split` is an
    object array (N,) of `train` or `test` where the files say so. `reading` says how text in the
    table is to be read.
    """

    source: Source
    table: pa.Table
    features: dict[str, str]
    target: str | None
    where: str
    origins: tuple[Origin, ...]
    split: NDArray[np.object_] | None = None
    changed: Mapping[str, int] = field(default_factory=dict)
    """Of how many image files something was changed on reading, and what."""
    reading: Reading = PLAIN

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def describe(self, row: int) -> str:
        """A row as its file counts it: `data/raw/a.csv, row 17`."""
        for origin in self.origins:
            if row < origin.rows:
                return f"{origin.path}, row {row + origin.first_row}"
            row -= origin.rows
        raise IndexError(row)

    def types(self) -> dict[str, type[Column]]:
        """The column type of each feature, by name."""
        return {name: COLUMNS[kind] for name, kind in self.features.items()}

    def column(self, name: str, *, fill: bool = False) -> RawColumn:
        """What the methods of column types are given of a column."""
        return RawColumn(name, self.where, self.describe, self.source, self.reading, fill)

    def read_as(self, name: str, kind: str) -> "Raw":
        """With the column `name` as its type reads it. Raises `InputError` as that does."""
        column = self.column(name)
        values = COLUMNS[kind].read(self.table[name], column)
        table = self.table.set_column(self.table.column_names.index(name), name, values)
        return replace(self, table=table, changed={**self.changed, **column.changed})


def refuse_unfit(raw: Raw, reserved: Collection[str]) -> None:
    """Raises `InputError` if a column that has a part in `prepare` is not there, or the target."""
    for name in reserved:
        named(name, raw.table.column_names, raw.where, "prepare")
    if raw.target in reserved:
        raise InputError(
            f"{raw.where}: column {raw.target!r} is the target and has another part in prepare "
            "too; name another column there"
        )
