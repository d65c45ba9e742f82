"""Sequences of timesteps as Arrow lists: unpacks any column of lists, and packs it as one type."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True)
class Timesteps:
    """The timesteps of N sequences, concatenated.

    `length` (N,) int64 is the number of timesteps of each sequence, 0 if it is missing; T is their
    sum. `widths` (T,) is the number of values of each timestep. `numbers` is an Arrow array of all
    values. `nested` is True for lists of lists, and False for lists of numbers.
    """

    length: NDArray[np.int64]
    widths: NDArray[np.int64]
    numbers: Any
    nested: bool

    @classmethod
    def of(cls, column: pa.Array) -> "Timesteps | None":
        """The timesteps of a column of lists of numbers, lists or tensors; None for others."""
        if not _is_list(column.type):
            return None
        length = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
        steps = column.flatten()  # respects the offset of a slice
        if isinstance(steps.type, pa.FixedShapeTensorType):
            steps = steps.storage
        if not _is_list(steps.type):
            return cls(length, np.ones(len(steps), np.int64), steps, nested=False)
        widths = pc.list_value_length(steps).fill_null(0).to_numpy().astype(np.int64)
        return cls(length, widths, steps.flatten(), nested=True)

    def row_of(self) -> NDArray[np.int64]:
        """(T,): the index of each timestep's sequence."""
        return np.repeat(np.arange(len(self.length)), self.length)

    def position(self) -> NDArray[np.int64]:
        """(T,): the position of each timestep in its sequence, from 0."""
        starts = np.cumsum(self.length) - self.length
        return np.arange(len(self.widths)) - np.repeat(starts, self.length)

    def rows_with(self, found: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(N,): True for sequences with a timestep for which `found` (T,) is True."""
        rows = np.zeros(len(self.length), bool)
        rows[self.row_of()[found]] = True
        return rows

    def matrix(self) -> NDArray[np.float32]:
        """(T, F) float32, with NaN for missing values; all timesteps must have the same width.

        Raises:
            pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError: they are not numbers.
        """
        flat: NDArray[np.float32] = self.numbers.cast(pa.float32(), safe=False).to_numpy(
            zero_copy_only=False
        )
        return flat.reshape(len(self.widths), -1) if len(flat) else flat.reshape(0, 1)


def not_finite(matrix: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(T,): True for timesteps with a value that is missing, NaN or infinite."""
    return np.asarray(~np.isfinite(matrix).all(axis=1), np.bool_)


def pack(matrix: NDArray[np.float32], length: NDArray[np.int64]) -> pa.ListArray:
    """Pack timesteps (T, F) as list<fixed_size_list<float32>[F]>; an empty sequence is null."""
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
    flat = pa.array(np.ascontiguousarray(matrix).ravel(), from_pandas=False)
    return pa.ListArray.from_arrays(
        pa.array(offsets),
        pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1]),
        mask=pa.array(length == 0),
    )


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
