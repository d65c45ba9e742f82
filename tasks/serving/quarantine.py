"""Rows that cannot be predicted are set aside with the reason, so that the others can be."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tasks.dataset import KEY
from tasks.errors import InputError
from tasks.files.chunks import BadRow
from tasks.reasons import MEANINGS


def as_table(file: str, first: int, bad: Sequence[BadRow], key: pa.DataType | None) -> pa.Table:
    """The rows of `quarantine/`, in order; `first` is the number of the file's first row."""
    ordered = sorted(bad, key=lambda row: row.row)
    keys = [
        row.key.decode("utf-8", "backslashreplace") if isinstance(row.key, bytes) else row.key
        for row in ordered
    ]
    return pa.table(
        {
            "file": pa.array([file] * len(ordered), pa.string()),
            "row": pa.array([first + row.row for row in ordered], pa.int64()),
            KEY: _keys(keys, key),
            "column": pa.array([row.column for row in ordered], pa.string()),
            "reason": pa.array([row.reason for row in ordered], pa.string()),
            "value": pa.array([row.value for row in ordered], pa.string()),
        }
    )


def _keys(keys: list[Any], key: pa.DataType | None) -> pa.Array:
    """Of the type that the keys of predictions have, where all of them can be."""
    try:
        given = pa.array(keys) if any(k is not None for k in keys) else pa.nulls(len(keys))
        return given.cast(key or pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return pa.array([None if k is None else str(k) for k in keys], pa.string())


class TooManyBad(InputError):
    """More rows are bad than a job allows. It can go on where it is, with a higher limit."""


@dataclass(frozen=True)
class BadSoFar:
    """Bad rows of a job, by reason, and what was said of the first."""

    reasons: Counter[str]
    example: str | None

    def check(self, total: int, allowed: int, limit: str, folder: str) -> None:
        """Check that at most `allowed` of `total` rows are bad, as `limit` says.

        Raises:
            TooManyBad: more are; names the three most frequent reasons, and a row.
        """
        bad = self.reasons.total()
        if bad <= allowed:
            return
        most = most_frequent(self.reasons)
        raise TooManyBad(
            f"{self.example}. {bad:,} of {total:,} rows cannot be predicted so far, and --max-bad "
            f"{limit} allows {allowed:,}; nothing was published. Most frequent: {most}. The rows "
            f"are listed in {folder}. Repair the input; or give the same command with a higher "
            "--max-bad, and it goes on from here"
        )


def most_frequent(reasons: Mapping[str, int]) -> str:
    """The three most frequent reasons, in words and with their numbers."""
    return "; ".join(
        f"{MEANINGS[reason]} ({reason}): {number:,}"
        for reason, number in Counter(reasons).most_common(3)
    )


def merged(reasons: Iterable[Mapping[str, int]]) -> Counter[str]:
    """Counts by reason, of all shards."""
    found: Counter[str] = Counter()
    for each in reasons:
        found.update(each)
    return found
