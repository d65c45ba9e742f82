"""Sequences of timesteps as Arrow lists: unpacked from any column of lists, packed as one form."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True)
class Timesteps:
    """All timesteps of N sequences, one after another.

    `length` (N,) int64 is how many each sequence has, 0 where it is missing; `widths` (T,) how many
    numbers each timestep has, T being the sum of `length`; `numbers` an Arrow array of all numbers.
    `nested` says whether the column has lists of lists, and not lists of numbers.
    """

    length: NDArray[np.int64]
    widths: NDArray[np.int64]
    numbers: Any
    nested: bool

    @classmethod
    def of(cls, column: pa.Array) -> "Timesteps | None":
        """Those of a column of lists, or of lists of lists or tensors; None of any other."""
        if not _is_list(column.type):
            return None
        length = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
        steps = column.flatten()  # begins at this slice's first timestep
        if isinstance(steps.type, pa.FixedShapeTensorType):
            steps = steps.storage
        if not _is_list(steps.type):
            return cls(length, np.ones(len(steps), np.int64), steps, nested=False)
        widths = pc.list_value_length(steps).fill_null(0).to_numpy().astype(np.int64)
        return cls(length, widths, steps.flatten(), nested=True)

    def row_of(self) -> NDArray[np.int64]:
        """(T,): the sequence of each timestep."""
        return np.repeat(np.arange(len(self.length)), self.length)

    def position(self) -> NDArray[np.int64]:
        """(T,): where each timestep stands in its sequence, from 0."""
        starts = np.cumsum(self.length) - self.length
        return np.arange(len(self.widths)) - np.repeat(starts, self.length)

    def rows_with(self, found: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(N,): the sequences with a timestep that is `found` (T,)."""
        rows = np.zeros(len(self.length), bool)
        rows[self.row_of()[found]] = True
        return rows

    def matrix(self) -> NDArray[np.float32]:
        """(T, F) float32, a missing number as NaN; all timesteps must have equal widths.

        Raises:
            pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError: they are not numbers.
        """
        flat: NDArray[np.float32] = self.numbers.cast(pa.float32(), safe=False).to_numpy(
            zero_copy_only=False
        )
        return flat.reshape(len(self.widths), -1) if len(flat) else flat.reshape(0, 1)


def not_finite(matrix: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(T,): the timesteps of (T, F) that have a number that is missing, NaN or infinite."""
    return np.asarray(~np.isfinite(matrix).all(axis=1), np.bool_)


def pack(matrix: NDArray[np.float32], length: NDArray[np.int64]) -> pa.ListArray:
    """list<fixed_size_list<float32>[F]> of timesteps (T, F); a sequence without any is null."""
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
