"""JSON Lines files: read whole, or in chunks as the kinds that the columns must have."""

import codecs
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.errors import BadRows, InputError
from tasks.files.chunks import KEY, BadRow, Chunk, shown
from tasks.files.convert import EXACT, Kind, convert, converted, from_values
from tasks.files.delimited import Kinds, row_of
from tasks.files.dialect import Dialect, open_decompressed
from tasks.files.reading import PLAIN, Reading
from tasks.reasons import NOT_JSON, NOT_UTF8

JSON_TYPES = ("bool", "int64", "double", "string")
"""Arrow types that values can have."""


def _lines(path: Path) -> Iterator[bytes]:
    """Lines that are not blank: one row each."""
    with open_decompressed(path) as lines:
        yield from (line for line in lines if line.strip())


def _parse(line: bytes, path: Path, row: int) -> dict[str, Any] | BadRow:
    """One row, from 0; or what is wrong with it."""

    def bad(reason: str, problem: str) -> BadRow:
        return BadRow(row, reason, None, shown(line), f"{path}, row {row + 1}: {problem}")

    try:
        found = json.loads(line.decode("utf-8" if row else "utf-8-sig"))
    except UnicodeDecodeError as error:
        utf_16 = line[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in line
        perhaps = "UTF-16" if utf_16 else f"maybe Latin-1 ({line.decode('latin-1')[:60]!r})"
        advice = "Convert the file to UTF-8, for instance with iconv"
        return bad(NOT_UTF8, f"not UTF-8: {error}. It is {perhaps}. {advice}")
    except json.JSONDecodeError as error:
        return bad(NOT_JSON, f"not JSON: {error}")
    except ValueError as error:  # a number of more than 4,300 digits
        return bad(NOT_JSON, f"not JSON: {error}")
    except RecursionError:
        return bad(
            NOT_JSON,
            "lists or objects are nested too deeply; a value must be a number, text, true, false "
            "or a list of numbers",
        )
    if not isinstance(found, dict):
        return bad(NOT_JSON, "one JSON object per line is expected")
    return found


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Raises `InputError` for the first line that is not a row."""
    for number, line in enumerate(_lines(path)):
        row = _parse(line, path, number)
        if isinstance(row, BadRow):
            raise InputError(row.message)
        yield row


def _values(rows: list[dict[str, Any]], name: str, kind: Kind | None) -> list[Any]:
    values = [row.get(name) for row in rows]
    if kind not in ("category", "text"):
        return values
    # Categories and keys may be numbers. `v != v` is only true for NaN, a missing value.
    return [
        v if isinstance(v, str) else None if v is None or v != v else json.dumps(v) for v in values
    ]


def read(path: Path, reading: Reading, text: Collection[str]) -> tuple[pa.Table, Dialect | None]:
    """All rows, with the columns named in `text` as text."""
    rows = list(_rows(path))
    describe = partial(row_of, path, 1)
    columns = {}
    for name in {name: None for row in rows for name in row}:
        kind: Kind | None = "text" if name in text else None
        column = from_values(_values(rows, name, kind), name, describe)
        columns[name] = column if kind is None else convert(column, kind, name, describe, PLAIN)
    return pa.table(columns), None


class JsonRows:
    """The rows of one file; they are converted as they are read."""

    def __init__(
        self, path: Path, kinds: Kinds, reading: Reading, only: Collection[str] = ()
    ) -> None:
        self._path, self._kinds, self._reading, self._only = path, kinds, reading, only

    def chunks(self, start: int, size: int) -> Iterator[Chunk]:
        """All rows, from the first one, up to `size` at a time."""
        lines, done = _lines(self._path), 0
        names: dict[str, None] = {}
        while part := list(itertools.islice(lines, size)):
            parsed = [_parse(line, self._path, done + n) for n, line in enumerate(part)]
            bad = [row for row in parsed if isinstance(row, BadRow)]
            rows = {done + n: row for n, row in enumerate(parsed) if not isinstance(row, BadRow)}
            names |= {name: None for row in rows.values() for name in row}
            if not done and self._kinds.keys() - {KEY} - names.keys():
                names |= self._every_name()  # later rows may have columns that these lack
            done += len(part)
            if done > start:
                yield self._chunk(rows, bad, self._needed(names))

    def _needed(self, names: Collection[str]) -> Collection[str]:
        """The columns to convert; all where one is missing: the error names what there is."""
        if not self._only or not self._kinds.keys() - {KEY} <= set(names):
            return names
        return [name for name in names if name in self._only]

    def _every_name(self) -> dict[str, None]:
        found = (_parse(line, self._path, row) for row, line in enumerate(_lines(self._path)))
        return {name: None for row in found if isinstance(row, dict) for name in row}

    def _chunk(
        self, rows: dict[int, dict[str, Any]], bad: list[BadRow], names: Iterable[str]
    ) -> Chunk:
        while True:
            index = np.array(list(rows), np.int64)
            try:
                batch = self._columns(list(rows.values()), names, index)
                return Chunk(pa.record_batch(batch), index, tuple(bad))
            except BadRows as error:
                for place in np.flatnonzero(error.bad).tolist():
                    number = int(index[place])
                    row = rows.pop(number)
                    value = shown(row.get(str(error.column)))
                    (key,) = _values([row], KEY, self._kinds.get(KEY))
                    bad.append(BadRow(number, error.reason, error.column, value, str(error), key))

    def _columns(
        self, rows: list[dict[str, Any]], names: Iterable[str], index: Any
    ) -> dict[str, pa.Array]:
        def describe(row: int) -> str:
            return row_of(self._path, 1, int(index[row]))

        columns = {}
        for name in names:
            kind = self._kinds.get(name)
            values = _values(rows, name, kind)
            if kind is None:
                columns[name] = from_values(values, name, describe)
            else:
                how = PLAIN if name == KEY else self._reading
                columns[name] = converted(values, kind, name, describe, how)
        return columns

    def typed(self, rows: pa.RecordBatch, describe: Callable[[int], str]) -> pa.RecordBatch:
        """Rows as they are."""
        return rows


def count(path: Path, kinds: Kinds, reading: Reading) -> int:
    """The number of rows, broken ones included."""
    return sum(1 for _ in _lines(path))


def types_of(path: Path, names: Collection[str]) -> dict[str, set[str]]:
    """The types of all values of these columns, for those that a row has; see `common_type`.

    Reads the whole file.
    """
    found: dict[str, set[str]] = {}
    for number, line in enumerate(_lines(path)):
        row = _parse(line, path, number)
        if isinstance(row, dict):
            for name in row.keys() & names:
                found.setdefault(name, set()).update(_type_of(row[name]))
    return found


def _type_of(value: Any) -> tuple[str, ...]:
    """The name of an Arrow type, or `small`: a whole number that float64 holds exactly."""
    if value is None or value != value:
        return ()
    if type(value) is int:
        return ("small" if abs(value) <= EXACT else "int64" if _fits(value) else "string",)
    return ({bool: "bool", float: "double"}.get(type(value), "string"),)


def _fits(number: int) -> bool:
    return -(2**63) <= number < 2**63


def common_type(types: Collection[str]) -> str:
    """The Arrow type that holds all values of `types`; text if no other does, or there are none."""
    for found, parts in {"int64": {"small", "int64"}, "double": {"small", "double"}}.items():
        if types and parts.issuperset(types):
            return found
    return next(iter(types)) if len(types) == 1 else "string"


def key_type(path: Path, kinds: Kinds, reading: Reading) -> pa.DataType | None:
    """int64 if all keys are whole numbers, else string; None if no row has a key."""
    if not any(b'"key"' in line for line in _lines(path)):  # much faster than parsing all lines
        return None
    rows = (_parse(line, path, row) for row, line in enumerate(_lines(path)))
    found = [row[KEY] for row in rows if isinstance(row, dict) and row.get(KEY) is not None]
    if not found:
        return None
    whole = all(type(key) is int and _fits(key) for key in found)
    return pa.int64() if whole else pa.string()
