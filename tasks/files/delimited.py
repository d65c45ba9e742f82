"""CSV files: read whole as text, or in batches with converted columns."""

import io
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv

from tasks.errors import InputError
from tasks.files.convert import Kind, convert
from tasks.files.dialect import Dialect, decimal_sign, detect, open_decompressed
from tasks.files.reading import PLAIN, Reading

BLOCK = 16 << 20  # bytes; a row of CSV must fit into one block
Kinds = Mapping[str, Kind]
KEY = "key"  # optional column that identifies a row in predictions; its text is not changed


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
    skipped: list[int] | None = None,
    only: Collection[str] = (),
) -> Iterator[dict[str, Any]]:
    """Options for `pyarrow.csv`. Ragged rows are refused, or added to `skipped` if it is given."""
    ragged: list[csv.InvalidRow] = []

    def remember(row: csv.InvalidRow) -> str:
        if skipped is not None:
            skipped.append(row.number)
            return "skip"
        ragged.append(row)
        return "error"

    try:
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
        if "Empty CSV file" in str(error):
            raise InputError(
                f"{path} has no rows; a header line and a line for each row are expected"
            ) from error
        if not ragged:
            raise
        row = ragged[0]
        raise InputError(
            f"{path}, row {row.number - 1}: {row.actual_columns} fields, but the header has "
            f"{row.expected_columns}: {row.text[:80]!r}. The delimiter is {dialect.delimiter!r}; "
            "quote fields that contain it, or set prepare.source.csv.delimiter"
        ) from error


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


def _names(path: Path, dialect: Dialect, skipped: list[int] | None = None) -> list[str]:
    with _options(path, dialect, {}, skipped) as options, csv.open_csv(path, **options) as reader:
        names: list[str] = reader.schema.names
    unique_names(names, path)
    return names


def _batches(
    path: Path, dialect: Dialect, skipped: list[int] | None = None
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


def stream(path: Path, size: int, kinds: Kinds, reading: Reading) -> Iterator[pa.RecordBatch]:
    """Blocks of rows, with the columns of `kinds` converted and the others as bytes."""
    done = 1
    dialect, _ = detect(path, reading, kinds.keys() - {KEY})
    numbers = [name for name, kind in kinds.items() if kind == "number"]
    for block in _batches(path, dialect):
        if done == 1:
            found = [block[name] for name in numbers if name in block.schema.names]
            sign = decimal_sign(found, dialect.delimiter, reading)
            reading = reading.model_copy(update={"decimal": sign})
        columns = {
            name: convert(
                column,
                kinds[name],
                name,
                partial(row_of, path, done),
                PLAIN if name == KEY else reading,
            )
            if name in kinds
            else column
            for name, column in zip(block.schema.names, block.columns, strict=True)
        }
        done += block.num_rows
        yield pa.record_batch(columns)


def key_type(path: Path, kinds: Kinds, reading: Reading) -> pa.DataType | None:
    """int64 if all keys are whole numbers, else string; None if there is no column `key`."""
    dialect, _ = detect(path, reading, kinds.keys() - {KEY})
    if KEY not in _names(path, dialect):
        return None
    types = {KEY: pa.binary()}
    with (
        _options(path, dialect, types, only=types) as options,
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
    """The number of rows of `stream`. Ragged rows are refused if the delimiter is certain."""
    dialect, certain = detect(path, reading, kinds.keys() - {KEY})
    skipped: list[int] | None = None if certain else []
    rows: int = sum(batch.num_rows for batch in _batches(path, dialect, skipped))
    return rows + len(skipped or ())
