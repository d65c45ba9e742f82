"""Some rows of a file as they were read, and those that cannot be used."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.errors import BadRows, InputError
from tasks.files.convert import python_value

KEY = "key"
"""The column that names a row; a file may lack it."""
LONGEST = 1000
"""Characters that are kept of a raw value: they are for a person who looks for the fault."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be predicted."""

    row: int
    """Its number in the file, from 0."""
    reason: str
    """A code of `tasks.reasons`."""
    column: str | None
    """None if the row as a whole is wrong."""
    value: str | None
    """The raw value, or the raw row, as text; at most `LONGEST` characters."""
    message: str = ""
    """For a person; several rows of one batch share the message about the first."""
    key: Any = None


@dataclass(frozen=True)
class Chunk:
    """Rows (N,) with their numbers in the file, from 0, and bad rows between or after them."""

    rows: pa.RecordBatch
    index: NDArray[np.int64]
    bad: tuple[BadRow, ...] = ()

    @classmethod
    def following(cls, rows: pa.RecordBatch, start: int) -> "Chunk":
        """Rows one after the other, the first of which is row `start`."""
        return cls(rows, np.arange(start, start + rows.num_rows))

    @property
    def size(self) -> int:
        return len(self.index) + len(self.bad)

    @property
    def span(self) -> tuple[int, int]:
        """The first row, and the one after the last; (0, 0) of nothing."""
        places = self.index[[0, -1]].tolist() if len(self.index) else []
        places += [row.row for row in self.bad]
        return (min(places), max(places) + 1) if places else (0, 0)

    def within(self, start: int, end: int) -> "Chunk":
        """Those from row `start` on, before row `end`."""
        a, b = np.searchsorted(self.index, (start, end)).tolist()
        bad = tuple(row for row in self.bad if start <= row.row < end)
        return Chunk(self.rows.slice(a, b - a), self.index[a:b], bad)

    def without(self, error: BadRows) -> "Chunk":
        """The chunk with the rows that an error names among the bad ones."""
        names = self.rows.schema.names
        column = self.rows[error.column] if error.column in names else None
        keys = self.rows[KEY] if KEY in names else None
        found = tuple(
            BadRow(
                row=int(self.index[place]),
                reason=error.reason,
                column=error.column,
                value=None if column is None else shown(column[place]),
                message=str(error),
                key=None if keys is None else python_value(keys[place]),
            )
            for place in np.flatnonzero(error.bad).tolist()
        )
        fine = ~error.bad
        return Chunk(self.rows.filter(pa.array(fine)), self.index[fine], self.bad + found)

    def refuse_bad(self) -> "Chunk":
        """The chunk itself. Raises `InputError` if it has bad rows."""
        if self.bad:
            raise InputError(min(self.bad, key=lambda row: row.row).message)
        return self


def sift(given: Chunk, attempt: Callable[[Chunk], Result]) -> tuple[Result | None, Chunk]:
    """Repeat an attempt without the rows that it cannot use, until it succeeds.

    A chunk without bad rows costs nothing extra. If no row is left, the result is None.
    """
    while len(given.index):
        try:
            return attempt(given), given
        except BadRows as error:
            if not error.bad.any():  # this would never end
                raise InputError(str(error)) from error
            given = given.without(error)
    return None, given


def is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def shown(value: Any) -> str | None:
    """A raw value as text, cut to `LONGEST` characters."""
    if isinstance(value, pa.Scalar):
        value = python_value(value)
    if isinstance(value, dict) and value.keys() == {"bytes", "path"}:  # an image in a table
        value = value["path"]  # its bytes tell a person nothing
    if value is None:
        return None
    if isinstance(value, bytes):
        return value[:LONGEST].decode("utf-8", errors="backslashreplace")[:LONGEST]
    return (value if isinstance(value, str) else repr(value))[:LONGEST]
