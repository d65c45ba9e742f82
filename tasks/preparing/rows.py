"""Rows on their way from the raw data to a split, and their location, for messages."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.columns import CleanColumn
from tasks.columns.base import Mask
from tasks.sources.raw import Raw

__all__ = ["CleanColumn", "Describe", "Indices", "Mask", "PreparedRows", "cell", "is_number"]

Indices = NDArray[np.int64]
Describe = Callable[[int], str]  # the location of a raw row, for reports


@dataclass(frozen=True)
class PreparedRows:
    """The rows that were not dropped so far.

    `keys` (N,) are their numbers in the raw data, `features` their clean features, `target` (N,)
    strings or float64, or None without a target.
    """

    keys: Indices
    features: pa.Table
    target: pa.Array | None

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, positions: Indices) -> "PreparedRows":
        """The rows at `positions`, in that order."""
        if np.array_equal(positions, np.arange(len(self))):
            return self  # avoids a copy of all images, the most expensive operation here
        features = self.features.take(pa.array(positions)).combine_chunks()
        target = None if self.target is None else self.target.take(pa.array(positions))
        return PreparedRows(self.keys[positions], features, target)


def cell(raw: Raw, row: int, name: str) -> str:
    """`data/raw/a.csv, row 17, column 'age'`."""
    return f"{raw.describe(row)}, column {name!r}"


def is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
