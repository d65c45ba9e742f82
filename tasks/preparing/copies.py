"""Rows that repeat others: exact copies, conflicting labels, rows on both sides of a split."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.config import Prepare
from tasks.errors import InputError
from tasks.preparing.rows import Describe, Numbers, Rows, is_number
from tasks.sources.raw import Raw

# Which of several copies stays. Those in a given test split: scores on a published test split are
# comparable only if it is whole, and a copy in training would be learnt by heart.
PREFERENCE = ("test", "validation", "train")
CONFLICTS_LISTED = 10
# Of features of these kinds alone, two rows may well be equal and both valid.
TABULAR = frozenset({"number", "boolean", "date", "category"})


def identities(table: pa.Table) -> Numbers:
    """(N,): rows have the same number, below N, exactly if they agree in every column."""
    codes = [_codes(table[name].combine_chunks()) for name in table.column_names]
    return codes[0] if len(codes) == 1 else _distinct(np.stack(codes, axis=1))


@dataclass(frozen=True)
class Copies:
    """What repeats among rows (N,): each array has the same number, below N, for equal rows.

    `raw` compares complete rows of the raw data, ignored and sensitive columns included, but not
    the column that names the split; `features` what the model sees; `whole` also the target.
    """

    raw: Numbers
    features: Numbers
    whole: Numbers

    def take(self, positions: Numbers) -> "Copies":
        """Those of some of the rows."""
        return Copies(self.raw[positions], self.features[positions], self.whole[positions])

    def counts(self) -> dict[str, int]:
        """Rows that equal an earlier one, by what is compared."""
        return {
            "equal_raw_rows": repeated(self.raw),
            "equal_features_and_target": repeated(self.whole),
            "equal_features": repeated(self.features),
        }


def find(raw: Raw, rows: Rows, params: Prepare) -> Copies:
    """What repeats among `rows`."""
    features = identities(rows.features)
    whole = features
    if rows.target is not None:
        whole = _distinct(np.stack([features, _codes(rows.target)], axis=1))
    # Features of these kinds are what was read; `features` has compared them already.
    compared = {n for n, kind in raw.features.items() if kind in ("image", "sequence", "text")}
    others = [n for n in raw.table.column_names if n not in compared | {params.split_column}]
    codes = [_codes(_taken(raw.table[name], rows.keys)) for name in others]
    return Copies(_distinct(np.stack([features, *codes], axis=1)), features, whole)


def rule(raw: Raw, params: Prepare) -> str:
    """keep, group, drop or refuse: what `auto` stands for depends on the features."""
    if params.duplicates != "auto":
        return params.duplicates
    return "keep" if set(raw.features.values()) <= TABULAR else "group"


def without_copies(
    raw: Raw, rows: Rows, found: Copies, given: NDArray[np.object_] | None, params: Prepare
) -> tuple[Rows, Copies]:
    """The rows that the rule for duplicates leaves, and what repeats among them.

    `found` is what repeats among `rows`. `given` (N,) names the split of each row, where one is
    given: every row of a given test split stays, and goes before its copies in training. Otherwise
    the first of several copies stays.

    Raises:
        InputError: there are copies, and the rule refuses them; names both rows.
    """
    chosen = rule(raw, params)
    if chosen in ("keep", "group"):
        return rows, found
    every = np.arange(len(rows))
    order, stays = every, np.zeros(len(rows), bool)
    if given is not None:
        rank = sum(place * (given == name) for place, name in enumerate(PREFERENCE))
        order, stays = np.argsort(rank.astype(np.int64), kind="stable"), given == "test"
    first = np.empty(len(rows), np.int64)
    first[found.raw[order[::-1]]] = order[::-1]  # of equal rows, the first in order is written last
    original = first[found.raw]
    copies = np.flatnonzero(original != every)
    if len(copies) and chosen == "refuse":
        copy, other = int(rows.keys[copies[0]]), int(rows.keys[original[copies[0]]])
        raise InputError(
            f"{raw.describe(copy)} is an exact copy of {raw.describe(other)} ({len(copies)} such "
            "rows in all). Remove one of them, or set prepare.duplicates to drop."
        )
    kept = np.flatnonzero((original == every) | stays)
    return rows.take(kept), found.take(kept)


def distinct(rows: Rows, found: Copies) -> Rows:
    """The first of the rows that agree in features and target; `found` is of `rows`."""
    _, first = np.unique(found.whole, return_index=True)
    return rows.take(np.sort(first))


def repeated(numbers: Numbers) -> int:
    """How many rows (N,) have the number of an earlier one."""
    return len(numbers) - len(np.unique(numbers))


def conflicts(rows: Rows, found: Copies, describe: Describe) -> dict[str, Any]:
    """How many rows agree in their features with one of another target, and the first of them."""
    if rows.target is None:
        return {"rows_with_conflicting_targets": 0, "conflicting_targets": []}
    _, one = np.unique(found.whole, return_index=True)  # a row for each target of the same features
    targets = np.bincount(found.features[one], minlength=len(rows) + 1)
    conflicting = np.flatnonzero(targets[found.features] > 1)
    _, first = np.unique(found.features[conflicting], return_index=True)
    listed = []
    for identity in found.features[conflicting[np.sort(first)[:CONFLICTS_LISTED]]]:
        members = np.flatnonzero(found.features == identity)[:CONFLICTS_LISTED]
        listed.append(
            {
                "rows": [describe(row) for row in rows.keys[members].tolist()],
                "targets": rows.target.take(pa.array(members)).to_pylist(),
            }
        )
    return {"rows_with_conflicting_targets": len(conflicting), "conflicting_targets": listed}


def leaked(numbers: Numbers, splits: dict[str, Numbers], *names: str) -> int:
    """Rows of the splits `names` whose number (of `Copies`) a row of `train` has, too."""
    train = numbers[splits["train"]]
    return sum(int(np.isin(numbers[splits[name]], train).sum()) for name in names)


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
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    if isinstance(values, pa.FixedShapeTensorArray) and not values.null_count:
        return _distinct(values.to_numpy_ndarray().reshape(len(values), -1))
    if pa.types.is_list(values.type) and pa.types.is_fixed_size_list(values.type.value_type):
        values = pa.array(_digests(values))
    elif pa.types.is_nested(values.type) or isinstance(values, pa.ExtensionArray):
        # Of a column that is no feature; Arrow encodes no such values.
        values = pa.array([repr(value) for value in values.to_pylist()], pa.string())
    indices = values.dictionary_encode(null_encoding="encode").indices
    return np.asarray(indices.to_numpy(), np.int64)


def _taken(column: pa.ChunkedArray, keys: Numbers) -> pa.Array:
    """The values at `keys`, without a copy where these are all of them."""
    values = column.combine_chunks()
    return values if len(keys) == len(values) else values.take(pa.array(keys))


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
