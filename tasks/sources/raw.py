"""Raw: what every reader returns."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.files.reading import PLAIN, Reading
from tasks.files.tables import named

FeatureKind = Literal["image", "number", "boolean", "date", "category", "text", "sequence"]


@dataclass(frozen=True)
class Origin:
    """A file, how many rows came from it, and the number it gives to the first of them."""

    path: str
    rows: int
    first_row: int = 1


@dataclass(frozen=True)
class Raw:
    """Rows as they were found, before any was judged.

    `table` holds every column that was read, missing values as nulls: images as fixed-shape
    tensors (H, W, C) of uint8 or float32, sequences as lists of fixed-size lists of float32, the
    rest by Arrow's own types. `features` says which of them a model may look at, and what they
    are; `target` which is to be predicted. `split` is an object array (N,) of `train` or `test`
    where the files say so. `reading` says how text in the table is to be read.
    """

    table: pa.Table
    features: dict[str, FeatureKind]
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


def refuse_unfit(raw: Raw, reserved: Collection[str]) -> None:
    """Raises `InputError` if a column that has a part in `prepare` is not there, or the target."""
    for name in reserved:
        named(name, raw.table.column_names, raw.where, "prepare")
    if raw.target in reserved:
        raise InputError(
            f"{raw.where}: column {raw.target!r} is the target and has another part in prepare "
            "too; name another column there"
        )
