"""Rows that repeat others: exact copies, conflicting labels, rows on both sides of a split."""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.config import Prepare
from tasks.errors import InputError
from tasks.preparing.rows import Describe, Numbers, Rows, is_number
from tasks.sources.raw import Raw

# Which of several copies stays. The one in the test split: scores on a published test split are
# comparable only if it is whole, and a copy in training would be learnt by heart.
PREFERENCE = ("test", "validation", "train")
CONFLICTS_LISTED = 10


def identities(table: pa.Table) -> Numbers:
    """(N,): rows have the same number, below N, exactly if they agree in every column."""
    codes = [_codes(table[name].combine_chunks()) for name in table.column_names]
    return codes[0] if len(codes) == 1 else _distinct(np.stack(codes, axis=1))


def without_copies(
    raw: Raw, rows: Rows, given: NDArray[np.object_] | None, params: Prepare
) -> tuple[Rows, Numbers]:
    """Of rows that agree in features and target, one; and the `identities` of those that stay.

    `given` (N,) names the split of each row, where one is given. Without, the first copy stays.

    Raises:
        InputError: there are copies, and the rule refuses them; names both rows.
    """
    features = identities(rows.features)
    whole = features
    if rows.target is not None:
        whole = _distinct(np.stack([features, _codes(rows.target)], axis=1))
    order = np.arange(len(rows))
    if given is not None:
        rank = sum(place * (given == name) for place, name in enumerate(PREFERENCE))
        order = np.argsort(rank.astype(np.int64), kind="stable")
    chosen = np.empty(len(rows), np.int64)
    chosen[whole[order[::-1]]] = order[::-1]  # of equal rows, the first in order is written last
    original = chosen[whole]
    copies = np.flatnonzero(original != np.arange(len(rows)))
    if len(copies) and params.duplicates == "refuse":
        copy, other = int(rows.keys[copies[0]]), int(rows.keys[original[copies[0]]])
        raise InputError(
            f"{raw.describe(copy)} is an exact copy of {raw.describe(other)} ({len(copies)} such "
            "rows in all). Remove one of them, or set prepare.duplicates to drop."
        )
    kept = np.flatnonzero(original == np.arange(len(rows)))
    return rows.take(kept), features[kept]


def conflicts(rows: Rows, features: Numbers, describe: Describe) -> dict[str, Any]:
    """How many rows agree in their features with one of another target, and the first of them.

    `features` are the `identities` of `rows`, among which there are no copies.
    """
    if rows.target is None:  # they would be copies
        return {"rows_with_conflicting_targets": 0, "conflicting_targets": []}
    conflicting = np.flatnonzero(np.bincount(features)[features] > 1)
    _, first = np.unique(features[conflicting], return_index=True)
    listed = []
    for identity in features[conflicting[np.sort(first)[:CONFLICTS_LISTED]]]:
        members = np.flatnonzero(features == identity)[:CONFLICTS_LISTED]
        listed.append(
            {
                "rows": [describe(row) for row in rows.keys[members].tolist()],
                "targets": rows.target.take(pa.array(members)).to_pylist(),
            }
        )
    return {"rows_with_conflicting_targets": len(conflicting), "conflicting_targets": listed}


def leaked(features: Numbers, splits: dict[str, Numbers]) -> int:
    """Rows of the other splits whose features also stand in `train`, under another target."""
    train = features[splits["train"]]
    return sum(int(np.isin(features[splits[name]], train).sum()) for name in ("validation", "test"))


def constant_columns(table: pa.Table) -> list[str]:
    """Columns with one value, or none, in all rows."""
    return [name for name in table.column_names if pc.count_distinct(table[name]).as_py() <= 1]


def identical_columns(table: pa.Table) -> list[list[str]]:
    """Groups of columns that have the same values, row by row."""
    groups: dict[bytes, list[str]] = {}
    for name in table.column_names:
        values = table[name].combine_chunks()
        if is_number(values.type) or pa.types.is_boolean(values.type):
            values = values.cast(pa.float64(), safe=False)
        encoded = values.dictionary_encode(null_encoding="encode")
        content = hashlib.sha256(encoded.indices.to_numpy())
        content.update(pa.record_batch([encoded.dictionary], [""]).serialize())
        groups.setdefault(content.digest(), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _codes(values: pa.Array) -> Numbers:
    """(N,): the same number exactly for the same value; a missing one is a value too."""
    if isinstance(values, pa.FixedShapeTensorArray):
        return _distinct(values.to_numpy_ndarray().reshape(len(values), -1))
    if pa.types.is_list(values.type):
        values = pa.array(_digests(values))
    indices = values.dictionary_encode(null_encoding="encode").indices
    return np.asarray(indices.to_numpy(), np.int64)


def _distinct(matrix: NDArray[Any]) -> Numbers:
    """(N,) of rows (N, width) of numbers, by their bytes."""
    content = np.ascontiguousarray(matrix).view(np.uint8).reshape(len(matrix), -1)
    width = content.shape[1]
    # Arrow's hash table compares whole values, but holds at most 2 GiB of them; so wide rows, such
    # as images, go by digest.
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
    """Of each sequence, its steps; what was flattened begins at this array's first step."""
    steps = sequences.flatten()
    flat = memoryview(steps.flatten().to_numpy().tobytes())
    ends = np.cumsum(pc.list_value_length(sequences).to_numpy()) * steps.type.list_size * 4
    starts = np.concatenate([[0], ends[:-1]])
    return [
        hashlib.sha256(flat[a:b]).digest()
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
