"""Rows on their way from the raw data to a split, and where they lie, for messages."""

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
Describe = Callable[[int], str]  # a row of the raw data, as a report names it


@dataclass(frozen=True)
class PreparedRows:
    """Rows that are still in.

    `keys` (N,) are their numbers in the raw data, `features` their columns as they will be written,
    `target` what is to be predicted: (N,) strings or float64, or None.
    """

    keys: Indices
    features: pa.Table
    target: pa.Array | None

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, positions: Indices) -> "PreparedRows":
        """The rows at `positions`, in that order."""
        if np.array_equal(positions, np.arange(len(self))):
            return self  # a copy of every image would be the largest cost of all
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
