"""Rows that cannot be predicted, and why: set aside, so that the others can be."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.dataset import KEY
from tasks.errors import BadRows, InputError
from tasks.reasons import MEANINGS

LONGEST = 1000
"""Characters that are kept of a raw value: whoever looks for the fault needs no more."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class BadRow:
    """One row in quarantine."""

    row: int
    """Its number in the file, from 0."""
    reason: str
    """One of `tasks.reasons`."""
    column: str | None
    """None where the row as a whole is wrong."""
    value: str | None
    """The raw value, or the raw row, as text; at most `LONGEST` characters."""
    key: Any = None


@dataclass(frozen=True)
class Sifted:
    """Rows (N,) of a batch that can be used, with their numbers in the file, and the others."""

    rows: pa.RecordBatch
    index: NDArray[np.int64]
    bad: tuple[BadRow, ...] = ()

    @property
    def size(self) -> int:
        return len(self.index) + len(self.bad)

    @property
    def span(self) -> tuple[int, int]:
        """The first row of all, and the one behind the last; (0, 0) if there is none."""
        places = [*self.index[[0, -1]].tolist()] if len(self.index) else []
        places += [row.row for row in self.bad]
        return (min(places), max(places) + 1) if places else (0, 0)

    def within(self, start: int, end: int) -> "Sifted":
        """Those from row `start` on, before row `end`."""
        a, b = np.searchsorted(self.index, (start, end)).tolist()
        bad = tuple(row for row in self.bad if start <= row.row < end)
        return Sifted(self.rows.slice(a, b - a), self.index[a:b], bad)

    def without(self, error: BadRows) -> "Sifted":
        """The same without the rows that an error named."""
        places = np.flatnonzero(error.bad)
        column = error.column if error.column in self.rows.schema.names else None
        keys = self.rows[KEY] if KEY in self.rows.schema.names else None
        found = tuple(
            BadRow(
                row=int(self.index[place]),
                reason=error.reason,
                column=error.column,
                value=None if column is None else shown(self.rows[column][place]),
                key=None if keys is None else keys[place].as_py(),
            )
            for place in places.tolist()
        )
        fine = ~error.bad
        return Sifted(self.rows.filter(pa.array(fine)), self.index[fine], self.bad + found)


def sift(given: Sifted, attempt: Callable[[Sifted], Result]) -> tuple[Result | None, Sifted]:
    """Repeat an attempt without the rows that it cannot use, until it succeeds.

    A batch without bad rows costs nothing extra. Returns None with the rest where no row is left.
    """
    while len(given.index):
        try:
            return attempt(given), given
        except BadRows as error:
            if not error.bad.any():
                raise InputError(str(error)) from error  # or this would never end
            given = given.without(error)
    return None, given


def shown(value: Any) -> str | None:
    """A raw value as text, cut to `LONGEST` characters."""
    if isinstance(value, pa.Scalar):
        try:
            value = value.as_py()
        except (ValueError, OverflowError):  # a date that Python has not
            value = value.cast(pa.string()).as_py()
    if value is None:
        return None
    if isinstance(value, bytes):
        text = value[:LONGEST].decode("utf-8", errors="backslashreplace")
    elif isinstance(value, dict):  # an image: its bytes tell a person nothing
        text = str(value.get("path"))
    else:
        text = value if isinstance(value, str) else repr(value)
    return text[:LONGEST]


def as_table(
    file: str, first: int, bad: Sequence[BadRow], key: pa.DataType | None
) -> pa.Table:
    """What `quarantine/` has of a file whose first row has the number `first`, in row order."""
    ordered = sorted(bad, key=lambda row: row.row)
    keys = [row.key.decode("utf-8", "backslashreplace") if isinstance(row.key, bytes) else row.key
            for row in ordered]
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


def refuse_many(reasons: Counter[str], total: int, allowed: int, limit: str, folder: str) -> None:
    """Check that few enough of `total` rows are bad.

    Raises:
        InputError: more than `allowed`; names the three most frequent reasons.
    """
    bad = reasons.total()
    if bad <= allowed:
        return
    most = "; ".join(
        f"{MEANINGS[reason]} ({reason}): {number:,}" for reason, number in reasons.most_common(3)
    )
    raise InputError(
        f"{bad:,} of {total:,} rows cannot be predicted so far, and --max-bad {limit} allows "
        f"{allowed:,}. Nothing was published. {most}. The rows are listed in {folder}. Repair the "
        "input; or run the same command with a higher --max-bad, and it goes on from here"
    )


def merged(reasons: Iterable[dict[str, int]]) -> Counter[str]:
    """Counts by reason, of all shards."""
    found: Counter[str] = Counter()
    for each in reasons:
        found.update(each)
    return found
