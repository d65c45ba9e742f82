"""Numbers that are equal for equal values, for columns of any Arrow type."""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def codes(values: pa.Array) -> NDArray[np.int64]:
    """(N,): equal numbers for equal values, different ones otherwise; nulls equal each other."""
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    if isinstance(values, pa.FixedShapeTensorArray) and not values.null_count:
        return distinct(values.to_numpy_ndarray().reshape(len(values), -1))
    if pa.types.is_list(values.type) and pa.types.is_fixed_size_list(values.type.value_type):
        values = pa.array(_digests(values))
    elif pa.types.is_nested(values.type) or isinstance(values, pa.ExtensionArray):
        # Only in columns that are not features. Arrow cannot dictionary-encode these types.
        values = pa.array([repr(value) for value in values.to_pylist()], pa.string())
    indices = values.dictionary_encode(null_encoding="encode").indices
    return np.asarray(indices.to_numpy(), np.int64)


def distinct(matrix: NDArray[Any]) -> NDArray[np.int64]:
    """(N,): equal numbers for rows of `matrix` (N, width) with equal bytes."""
    content = np.ascontiguousarray(matrix).view(np.uint8).reshape(len(matrix), -1)
    width = content.shape[1]
    # Arrow's hash table holds at most 2 GiB of values, so wide rows such as images are compared by
    # their SHA-256.
    if width > 64:
        flat = memoryview(content.data).cast("B")
        starts = range(0, len(flat), width)
        content = np.frombuffer(
            b"".join(hashlib.sha256(flat[s : s + width]).digest() for s in starts), np.uint8
        )
        width = 32
    values = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(matrix), [None, pa.py_buffer(content)]
    )
    return np.asarray(values.dictionary_encode().indices.to_numpy(), np.int64)


def _digests(sequences: pa.Array) -> list[bytes]:
    """SHA-256 of the timesteps of each sequence. `flatten` respects the offset of a slice."""
    steps = sequences.flatten()
    flat = memoryview(steps.flatten().to_numpy().tobytes())
    ends = np.cumsum(pc.list_value_length(sequences).to_numpy()) * steps.type.list_size * 4
    starts = np.concatenate([[0], ends[:-1]])
    return [
        hashlib.sha256(flat[a:b]).digest()
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
