"""Finds equal rows: exact copies, conflicting labels, rows that are in two splits."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.columns import comparing
from tasks.config import Prepare
from tasks.errors import InputError
from tasks.preparing.rows import Describe, Indices, PreparedRows, is_number
from tasks.sources.raw import Raw

# The copy in the first of these splits is kept. The given test split is first, because its scores
# are comparable only if it is complete, and a copy in training would be memorized.
PREFERENCE = ("test", "validation", "train")
CONFLICTS_LISTED = 10


def identities(raw: Raw, table: pa.Table) -> Indices:
    """(N,): a number below N for each row; equal for rows with equal features in `table`."""
    codes = [column.identify(table[name].combine_chunks()) for name, column in raw.types().items()]
    return codes[0] if len(codes) == 1 else comparing.distinct(np.stack(codes, axis=1))


@dataclass(frozen=True)
class Copies:
    """Which rows (N,) are equal: in each array, equal rows have the same number below N.

    `raw` compares all columns of the raw data, including ignored and sensitive ones, except the
    split column. `features` compares the features, `whole` the features and the target.
    """

    raw: Indices
    features: Indices
    whole: Indices

    def take(self, positions: Indices) -> "Copies":
        """The numbers of the rows at `positions`."""
        return Copies(self.raw[positions], self.features[positions], self.whole[positions])

    def counts(self) -> dict[str, int]:
        """How many rows equal an earlier row, for each kind of comparison."""
        return {
            "equal_raw_rows": count_repeated(self.raw),
            "equal_features_and_target": count_repeated(self.whole),
            "equal_features": count_repeated(self.features),
        }


def find_copies(raw: Raw, rows: PreparedRows, params: Prepare) -> Copies:
    """Which of `rows` are equal."""
    features = identities(raw, rows.features)
    whole = features
    if rows.target is not None:
        whole = comparing.distinct(np.stack([features, comparing.codes(rows.target)], axis=1))
    # Comparing `features` has compared the raw values of these columns too.
    compared = {name for name, column in raw.types().items() if column.cleaned_as_read}
    others = [n for n in raw.table.column_names if n not in compared | {params.split_column}]
    codes = [comparing.codes(_taken(raw.table[name], rows.keys)) for name in others]
    return Copies(comparing.distinct(np.stack([features, *codes], axis=1)), features, whole)


def duplicates_rule(raw: Raw, params: Prepare) -> str:
    """The rule for duplicates (keep, group, drop or refuse), with `auto` resolved."""
    if params.duplicates != "auto":
        return params.duplicates
    return "group" if any(column.equal_is_copy for column in raw.types().values()) else "keep"


def without_copies(
    raw: Raw, rows: PreparedRows, found: Copies, given: NDArray[np.object_] | None, params: Prepare
) -> tuple[PreparedRows, Copies]:
    """The rows left by the rule for duplicates, and which of them are equal.

    `found` says which of `rows` are equal. `given` (N,) is the split of each row, if it is given:
    all rows of a given test split are kept, and their copies elsewhere are dropped. Otherwise the
    first of several copies is kept.

    Raises:
        InputError: there are copies and the rule is `refuse`; names both rows.
    """
    chosen = duplicates_rule(raw, params)
    if chosen in ("keep", "group"):
        return rows, found
    every = np.arange(len(rows))
    order, stays = every, np.zeros(len(rows), bool)
    if given is not None:
        rank = sum(place * (given == name) for place, name in enumerate(PREFERENCE))
        order, stays = np.argsort(rank.astype(np.int64), kind="stable"), given == "test"
    first = np.empty(len(rows), np.int64)
    # For each number, the first row in `order`: assigned in reverse, so that it overwrites others.
    first[found.raw[order[::-1]]] = order[::-1]
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


def distinct(rows: PreparedRows, found: Copies) -> PreparedRows:
    """The first of all rows with equal features and target; `found` belongs to `rows`."""
    _, first = np.unique(found.whole, return_index=True)
    return rows.take(np.sort(first))


def count_repeated(numbers: Indices) -> int:
    """How many rows (N,) have the same number as an earlier row."""
    return len(numbers) - len(np.unique(numbers))


def conflicts(rows: PreparedRows, found: Copies, describe: Describe) -> dict[str, Any]:
    """How many rows have equal features but different targets, and the first of them."""
    if rows.target is None:
        return {"rows_with_conflicting_targets": 0, "conflicting_targets": []}
    _, one = np.unique(found.whole, return_index=True)  # one row for each target of equal features
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


def count_in_train(numbers: Indices, splits: dict[str, Indices], *names: str) -> int:
    """How many rows of the splits `names` have an equal row in `train`, by numbers of `Copies`."""
    train = numbers[splits["train"]]
    return sum(int(np.isin(numbers[splits[name]], train).sum()) for name in names)


def constant_columns(table: pa.Table) -> list[str]:
    """Columns that have the same value, or no value, in all rows."""
    return [name for name in table.column_names if pc.count_distinct(table[name]).as_py() <= 1]


def identical_columns(table: pa.Table) -> list[list[str]]:
    """Groups of columns with equal values in every row."""
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


def _taken(column: pa.ChunkedArray, keys: Indices) -> pa.Array:
    """The values at `keys`; not copied if these are all values."""
    values = column.combine_chunks()
    return values if len(keys) == len(values) else values.take(pa.array(keys))
