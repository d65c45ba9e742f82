"""Rows on their way from the raw data to a split, and where they lie, for messages."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.files.spelling import without_blank
from tasks.sources.raw import Raw

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]
Describe = Callable[[int], str]  # a row of the raw data, as a report names it


@dataclass(frozen=True)
class Column:
    """Values (N,) as they will be used, null where there is none; `missing` (N,) says where."""

    values: pa.Array
    missing: Mask

    @classmethod
    def of(cls, values: pa.Array) -> "Column":
        """Missing is what is null, and text of nothing but white space."""
        if pa.types.is_string(values.type):
            values = without_blank(values)
        return cls(values, values.is_null().to_numpy(zero_copy_only=False))

    @classmethod
    def of_numbers(cls, values: pa.Array) -> "Column":
        """Missing is also what is not finite as a float32, in which networks count."""
        if pa.types.is_decimal(values.type) or pa.types.is_float16(values.type):
            values = values.cast(pa.float64())
        if pa.types.is_floating(values.type):
            with np.errstate(over="ignore"):
                single = values.to_numpy(zero_copy_only=False).astype(np.float32)
            values = pc.if_else(np.isfinite(single), values, pa.scalar(None, values.type))
        return cls.of(values)


@dataclass(frozen=True)
class Rows:
    """Rows that are still in.

    `keys` (N,) are their numbers in the raw data, `features` their columns as they will be written,
    `target` what is to be predicted: (N,) strings or float64, or None.
    """

    keys: Numbers
    features: pa.Table
    target: pa.Array | None

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, positions: Numbers) -> "Rows":
        """The rows at `positions`, in that order."""
        if np.array_equal(positions, np.arange(len(self))):
            return self  # a copy of every image would be the largest cost of all
        features = self.features.take(pa.array(positions)).combine_chunks()
        target = None if self.target is None else self.target.take(pa.array(positions))
        return Rows(self.keys[positions], features, target)


def cell(raw: Raw, row: int, name: str) -> str:
    """`data/raw/a.csv, row 17, column 'age'`."""
    return f"{raw.describe(row)}, column {name!r}"


def is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
