"""CSV files: read whole as text, or in batches with converted columns."""

import io
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

from tasks.errors import InputError
from tasks.files.chunks import KEY, BadRow, Chunk, shown
from tasks.files.convert import Kind, convert
from tasks.files.dialect import Dialect, decimal_sign, detect, open_decompressed
from tasks.files.reading import PLAIN, Reading
from tasks.reasons import WRONG_LENGTH

BLOCK = 16 << 20  # bytes; a row of CSV must fit into one block
Kinds = Mapping[str, Kind]


def unique_names(names: list[str], path: Path) -> None:
    """Raises `InputError` if two columns have the same name."""
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two columns have the same name: {', '.join(names)}")


def row_of(path: Path, first: int, row: int) -> str:
    """The location of a row, for messages, in a part of the file that begins at `first`."""
    return f"{path}, row {row + first}"


@contextmanager
def _options(
    path: Path,
    dialect: Dialect,
    types: Mapping[str, pa.DataType],
    skipped: list[csv.InvalidRow] | None = None,
    only: Collection[str] = (),
) -> Iterator[dict[str, Any]]:
    """Options for `pyarrow.csv`. Ragged rows are refused, or added to `skipped` if it is given."""
    ragged: list[csv.InvalidRow] = []

    def remember(row: csv.InvalidRow) -> str:
        if skipped is not None:
            skipped.append(row)
            return "skip"
        ragged.append(row)
        return "error"

    try:
        with _undecoded_rows(remember) as undecoded:
            yield {
                # With threads, pyarrow does not know row numbers.
                "read_options": csv.ReadOptions(
                    use_threads=False, block_size=BLOCK, encoding=dialect.encoding
                ),
                "parse_options": csv.ParseOptions(
                    delimiter=dialect.delimiter,
                    quote_char=dialect.quote,
                    newlines_in_values=True,
                    invalid_row_handler=remember,
                ),
                "convert_options": csv.ConvertOptions(
                    column_types=types,
                    null_values=[""],
                    strings_can_be_null=True,
                    include_columns=list(only),
                ),
            }
    except pa.ArrowInvalid as error:
        if undecoded:
            raise InputError(
                f"{path}: a row has another number of fields than the header, and is not UTF-8: "
                f"{undecoded[0].object[:80]!r}. Remove it, or convert the file to UTF-8"
            ) from error
        if "Empty CSV file" in str(error):
            raise InputError(
                f"{path} has no rows; a header line and a line for each row are expected"
            ) from error
        if not ragged:
            raise
        raise InputError(_ragged(path, ragged[0], dialect)) from error


_undecoded: dict[object, list[UnicodeDecodeError]] = {}
_lock = threading.Lock()
_hook_before = sys.unraisablehook


@contextmanager
def _undecoded_rows(handler: object) -> Iterator[list[UnicodeDecodeError]]:
    """Ragged rows that pyarrow cannot pass to their `handler`, because they are not UTF-8.

    It stops at such a row, but prints the reason as an exception that nobody can catch.
    """
    global _hook_before
    with _lock:
        if not _undecoded:  # files may be read in several threads
            _hook_before, sys.unraisablehook = sys.unraisablehook, _unraisable
        found = _undecoded.setdefault(handler, [])
    try:
        yield found
    finally:
        with _lock:
            del _undecoded[handler]
            if not _undecoded:
                sys.unraisablehook = _hook_before


def _unraisable(problem: "sys.UnraisableHookArgs") -> None:
    found = next((f for handler, f in _undecoded.items() if handler is problem.object), None)
    if found is not None and isinstance(problem.exc_value, UnicodeDecodeError):
        found.append(problem.exc_value)
    else:
        _hook_before(problem)


def _ragged(path: Path, row: csv.InvalidRow, dialect: Dialect) -> str:
    """What is said of a row with another number of fields than the header."""
    return (
        f"{path}, row {row.number - 1}: {row.actual_columns} fields, but the header has "
        f"{row.expected_columns}: {row.text[:80]!r}. The delimiter is {dialect.delimiter!r}; "
        "quote fields that contain it. A model for files with another delimiter is trained with "
        "prepare.source.csv.delimiter"
    )


def read(path: Path, reading: Reading, text: Collection[str]) -> tuple[pa.Table, Dialect | None]:
    """All rows, with every column as text, and the detected dialect."""
    dialect, _ = detect(path, reading)
    batches = list(_batches(path, dialect))
    if not batches:
        names = _names(path, dialect)
        return pa.table({name: pa.array([], pa.string()) for name in names}), dialect
    table = pa.Table.from_batches(batches)
    for number, name in enumerate(table.column_names):
        column = convert(table.column(number), "text", name, partial(row_of, path, 1))
        table = table.set_column(number, name, column)
    return table, dialect


def _refuse_open_quote(path: Path, last: Any, number: int, dialect: Dialect) -> None:
    """Refuse a quote that is never closed: Arrow reads the rest of the file as one field."""
    values = [str(column[0].as_py()) for column in last.columns if len(column)]
    if not any("\n" in value or r"\n" in value for value in values):
        return
    with open_decompressed(path) as stream:
        lines = io.TextIOWrapper(stream, dialect.encoding, errors="replace")
        quotes = sum(line.count(dialect.quote) for line in lines)
    if quotes % 2:
        raise InputError(
            f"{path}, row {number}: a quoted field is never closed. Close it; a quote within a "
            "quoted field must be doubled"
        )


def _names(path: Path, dialect: Dialect, skipped: list[csv.InvalidRow] | None = None) -> list[str]:
    with _options(path, dialect, {}, skipped) as options, csv.open_csv(path, **options) as reader:
        names: list[str] = reader.schema.names
    unique_names(names, path)
    return names


def _batches(
    path: Path, dialect: Dialect, skipped: list[csv.InvalidRow] | None = None
) -> Iterator[pa.RecordBatch]:
    """Blocks of rows, with every column as bytes."""
    types = dict.fromkeys(_names(path, dialect, skipped), pa.binary())
    last, rows = None, 0
    if skipped:
        skipped.clear()
    with (
        _options(path, dialect, types, skipped) as options,
        csv.open_csv(path, **options) as reader,
    ):
        for last in reader:
            rows += last.num_rows
            yield last
    if last:
        _refuse_open_quote(path, last[-1:], rows, dialect)


class CsvRows:
    """The rows of one file, as bytes until `typed` converts them."""

    def __init__(self, path: Path, kinds: Kinds, reading: Reading) -> None:
        self._path, self._kinds, self._reading = path, kinds, reading

    def chunks(self, start: int, size: int) -> Iterator[Chunk]:
        """All rows, from the first one: where row `start` begins is not known without reading."""
        dialect, _ = detect(self._path, self._reading, self._kinds.keys() - {KEY})
        ragged: list[csv.InvalidRow] = []
        following, sign = 0, None
        empty = None
        for block in _batches(self._path, dialect, ragged):
            sign = sign or self._find_sign(block, dialect)
            chunk = _between(self._path, block, following, ragged, dialect)
            yield chunk
            following, empty = chunk.span[1], block[:0]
        if ragged:
            rows = pa.record_batch({}) if empty is None else empty
            yield _between(self._path, rows, following, ragged, dialect, every=True)

    def _find_sign(self, block: pa.RecordBatch, dialect: Dialect) -> bool:
        """Find the decimal sign of the numbers."""
        numbers = [name for name, kind in self._kinds.items() if kind == "number"]
        found = [block[name] for name in numbers if name in block.schema.names]
        sign = decimal_sign(found, dialect.delimiter, self._reading)
        self._reading = self._reading.model_copy(update={"decimal": sign})
        return True

    def typed(self, rows: pa.RecordBatch, describe: Callable[[int], str]) -> pa.RecordBatch:
        """Rows with the columns of the kinds converted, and the others as bytes."""
        columns = {
            name: convert(
                column, self._kinds[name], name, describe, PLAIN if name == KEY else self._reading
            )
            if name in self._kinds
            else column
            for name, column in zip(rows.schema.names, rows.columns, strict=True)
        }
        return pa.record_batch(columns)


def _between(
    path: Path,
    block: pa.RecordBatch,
    following: int,
    ragged: list[csv.InvalidRow],
    dialect: Dialect,
    *,
    every: bool = False,
) -> Chunk:
    """The rows of a block, the first at `following` or after it, with the ragged ones before its
    last row (or `every` one that is left), which are taken from the list."""
    # pyarrow counts the header as row 1, and no blank lines; it may be a block ahead.
    places = {row.number - 2: row for row in ragged}
    numbers = np.arange(following, following + block.num_rows + len(ragged))
    index = numbers[~np.isin(numbers, list(places))][: block.num_rows]
    end = int(index[-1]) if len(index) else following
    taken = [row for place, row in places.items() if every or place < end]
    ragged[:] = [row for place, row in places.items() if not (every or place < end)]
    bad = tuple(
        BadRow(row.number - 2, WRONG_LENGTH, None, shown(row.text), _ragged(path, row, dialect))
        for row in taken
    )
    return Chunk(block, index, bad)


def key_type(path: Path, kinds: Kinds, reading: Reading) -> pa.DataType | None:
    """int64 if all keys are whole numbers, else string; None if there is no column `key`."""
    dialect, _ = detect(path, reading, kinds.keys() - {KEY})
    if KEY not in _names(path, dialect, []):
        return None
    types = {KEY: pa.binary()}
    with (
        _options(path, dialect, types, [], only=types) as options,
        csv.open_csv(path, **options) as reader,
    ):
        return pa.int64() if all(_whole(block[KEY]) for block in reader) else pa.string()


def _whole(keys: Any) -> bool:
    """Whether all keys are whole numbers in their shortest spelling, so not `007`."""
    try:
        numbers = keys.cast(pa.string()).cast(pa.int64())
    except pa.ArrowInvalid:
        return False
    return bool(numbers.cast(pa.string()).cast(pa.binary()).equals(keys))


def count(path: Path, kinds: Kinds, reading: Reading) -> int:
    """The number of rows, ragged ones included."""
    dialect, _ = detect(path, reading, kinds.keys() - {KEY})
    ragged: list[csv.InvalidRow] = []
    rows: int = sum(batch.num_rows for batch in _batches(path, dialect, ragged))
    return rows + len(ragged)
