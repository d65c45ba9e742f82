"""Rows that repeat others: exact copies, conflicting labels, rows on both sides of a split."""

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

# Which of several copies stays. Those in a given test split: scores on a published test split are
# comparable only if it is whole, and a copy in training would be memorized.
PREFERENCE = ("test", "validation", "train")
CONFLICTS_LISTED = 10


def identities(raw: Raw, table: pa.Table) -> Indices:
    """(N,): the same number, below N, exactly for rows that agree in every feature of `table`."""
    codes = [column.identify(table[name].combine_chunks()) for name, column in raw.types().items()]
    return codes[0] if len(codes) == 1 else comparing.distinct(np.stack(codes, axis=1))


@dataclass(frozen=True)
class Copies:
    """What repeats among rows (N,): each array has the same number, below N, for equal rows.

    `raw` compares complete rows of the raw data, ignored and sensitive columns included, but not
    the column that names the split; `features` what the model sees; `whole` also the target.
    """

    raw: Indices
    features: Indices
    whole: Indices

    def take(self, positions: Indices) -> "Copies":
        """Those of some of the rows."""
        return Copies(self.raw[positions], self.features[positions], self.whole[positions])

    def counts(self) -> dict[str, int]:
        """Rows that equal an earlier one, by what is compared."""
        return {
            "equal_raw_rows": repeated(self.raw),
            "equal_features_and_target": repeated(self.whole),
            "equal_features": repeated(self.features),
        }


def find(raw: Raw, rows: PreparedRows, params: Prepare) -> Copies:
    """What repeats among `rows`."""
    features = identities(raw, rows.features)
    whole = features
    if rows.target is not None:
        whole = comparing.distinct(np.stack([features, comparing.codes(rows.target)], axis=1))
    # `features` has compared these already.
    compared = {name for name, column in raw.types().items() if column.cleaned_as_read}
    others = [n for n in raw.table.column_names if n not in compared | {params.split_column}]
    codes = [comparing.codes(_taken(raw.table[name], rows.keys)) for name in others]
    return Copies(comparing.distinct(np.stack([features, *codes], axis=1)), features, whole)


def rule(raw: Raw, params: Prepare) -> str:
    """keep, group, drop or refuse: what `auto` stands for depends on the features."""
    if params.duplicates != "auto":
        return params.duplicates
    return "group" if any(column.equal_is_copy for column in raw.types().values()) else "keep"


def without_copies(
    raw: Raw, rows: PreparedRows, found: Copies, given: NDArray[np.object_] | None, params: Prepare
) -> tuple[PreparedRows, Copies]:
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


def distinct(rows: PreparedRows, found: Copies) -> PreparedRows:
    """The first of the rows that agree in features and target; `found` is of `rows`."""
    _, first = np.unique(found.whole, return_index=True)
    return rows.take(np.sort(first))


def repeated(numbers: Indices) -> int:
    """How many rows (N,) have the number of an earlier one."""
    return len(numbers) - len(np.unique(numbers))


def conflicts(rows: PreparedRows, found: Copies, describe: Describe) -> dict[str, Any]:
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


def leaked(numbers: Indices, splits: dict[str, Indices], *names: str) -> int:
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


def _taken(column: pa.ChunkedArray, keys: Indices) -> pa.Array:
    """The values at `keys`, without a copy where these are all of them."""
    values = column.combine_chunks()
    return values if len(keys) == len(values) else values.take(pa.array(keys))
