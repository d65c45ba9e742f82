"""CSV, JSON Lines, Parquet and Arrow files, one at a time; `tables` beside this reads them all.

`read` gives a whole file with its own types, columns named in `text` as text, and all columns of
CSV; `stream` gives batches of rows, as the given kinds where the form has no types of its own.
"""

import io
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from tasks.errors import InputError
from tasks.files.convert import Kind, convert, from_values, plain
from tasks.files.dialect import Dialect, decimal_sign, detect, opened
from tasks.files.reading import PLAIN, Reading

# A row of CSV must fit into a block.
BLOCK = 16 << 20
Kinds = Mapping[str, Kind]
KEY = "key"  # of a row that is predicted: it need not be there, and stays as it stands


def unique_names(names: list[str], path: Path) -> None:
    """Raises `InputError` if two columns have the same name."""
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two columns have the same name: {', '.join(names)}")


def _row(path: Path, first: int, row: int) -> str:
    return f"{path}, row {row + first}"


@contextmanager
def _options(
    path: Path,
    dialect: Dialect,
    types: Mapping[str, pa.DataType],
    skipped: list[int] | None = None,
    only: Collection[str] = (),
) -> Iterator[dict[str, Any]]:
    """Options for `pyarrow.csv`; ragged rows are refused, or counted where there is `skipped`."""
    ragged: list[csv.InvalidRow] = []

    def remember(row: csv.InvalidRow) -> str:
        if skipped is not None:
            skipped.append(row.number)
            return "skip"
        ragged.append(row)
        return "error"

    try:
        yield {
            # Threads would lose the numbers of the rows.
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
                f"{path} holds no rows; a header line and a line for each row are wanted"
            ) from error
        if not ragged:
            raise
        row = ragged[0]
        raise InputError(
            f"{path}, row {row.number - 1}: {row.actual_columns} fields, but the header has "
            f"{row.expected_columns}: {row.text[:80]!r}. Fields are parted by "
            f"{dialect.delimiter!r}: quote a field that holds it, or set "
            "prepare.source.csv.delimiter"
        ) from error


def _read_csv(
    path: Path, reading: Reading, text: Collection[str]
) -> tuple[pa.Table, Dialect | None]:
    dialect = detect(path, reading)
    batches = list(_csv_batches(path, dialect))
    if not batches:
        names = _csv_names(path, dialect)
        return pa.table({name: pa.array([], pa.string()) for name in names}), dialect
    table = pa.Table.from_batches(batches)
    for number, name in enumerate(table.column_names):
        column = convert(table.column(number), "text", name, partial(_row, path, 1))
        table = table.set_column(number, name, column)
    return table, dialect


def _refuse_open_quote(path: Path, last: Any, number: int, dialect: Dialect) -> None:
    """Refuse a quote that is never closed: Arrow takes all that follows for one field."""
    values = [str(column[0].as_py()) for column in last.columns if len(column)]
    if not any("\n" in value or r"\n" in value for value in values):
        return
    with opened(path) as stream:
        lines = io.TextIOWrapper(stream, dialect.encoding, errors="replace")
        quotes = sum(line.count(dialect.quote) for line in lines)
    if quotes % 2:
        raise InputError(
            f"{path}, row {number}: a quote opens a field and is never closed; close it, or write "
            "a quote within a quoted field twice"
        )


def _csv_names(path: Path, dialect: Dialect, skipped: list[int] | None = None) -> list[str]:
    with _options(path, dialect, {}, skipped) as options, csv.open_csv(path, **options) as reader:
        names: list[str] = reader.schema.names
    unique_names(names, path)
    return names


def _csv_batches(
    path: Path, dialect: Dialect, skipped: list[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """Blocks of rows, every column as bytes."""
    types = dict.fromkeys(_csv_names(path, dialect, skipped), pa.binary())
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


def _stream_csv(path: Path, size: int, kinds: Kinds, reading: Reading) -> Iterator[pa.RecordBatch]:
    done = 1
    dialect = detect(path, reading, kinds.keys() - {KEY})
    numbers = [name for name, kind in kinds.items() if kind == "number"]
    for block in _csv_batches(path, dialect):
        if done == 1:
            found = [block[name] for name in numbers if name in block.schema.names]
            sign = decimal_sign(found, dialect.delimiter, reading)
            reading = reading.model_copy(update={"decimal": sign})
        columns = {
            name: convert(
                column,
                kinds[name],
                name,
                partial(_row, path, done),
                PLAIN if name == KEY else reading,
            )
            if name in kinds
            else column
            for name, column in zip(block.schema.names, block.columns, strict=True)
        }
        done += block.num_rows
        yield pa.record_batch(columns)


def _csv_key(path: Path, kinds: Kinds, reading: Reading) -> pa.DataType | None:
    dialect = detect(path, reading, kinds.keys() - {KEY})
    if KEY not in _csv_names(path, dialect):
        return None
    types = {KEY: pa.binary()}
    with (
        _options(path, dialect, types, only=types) as options,
        csv.open_csv(path, **options) as reader,
    ):
        return pa.int64() if all(_whole(block[KEY]) for block in reader) else pa.string()


def _whole(keys: Any) -> bool:
    """Whether all are whole numbers, spelled as Python spells them."""
    try:
        numbers = keys.cast(pa.string()).cast(pa.int64())
    except pa.ArrowInvalid:
        return False
    return bool(numbers.cast(pa.string()).cast(pa.binary()).equals(keys))


def _json_key(path: Path, kinds: Kinds, reading: Reading) -> pa.DataType | None:
    with opened(path) as lines:
        if not any(b'"key"' in line for line in lines):  # much faster than to parse them
            return None
    found = [row[KEY] for row in _json_rows(path) if row.get(KEY) is not None]
    if not found:
        return None
    whole = all(type(key) is int and -(2**63) <= key < 2**63 for key in found)
    return pa.int64() if whole else pa.string()


def _typed_key(schema: pa.Schema) -> pa.DataType | None:
    if KEY not in schema.names:
        return None
    found: pa.DataType = plain(pa.array([], schema.field(KEY).type)).type
    return found


def _count_csv(path: Path) -> int:
    """Rows, whatever parts their fields: only where that is certain, a ragged row is refused."""
    dialect = detect(path, PLAIN)
    skipped: list[int] | None = None if dialect.certain else []
    rows: int = sum(batch.num_rows for batch in _csv_batches(path, dialect, skipped))
    return rows + len(skipped or ())


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    number = 0
    with opened(path) as lines:
        for line in lines:
            if not line.strip():
                continue
            number += 1
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise InputError(f"{path}, row {number}: not UTF-8: {error}") from error
            except json.JSONDecodeError as error:
                raise InputError(f"{path}, row {number}: not JSON: {error}") from error
            except RecursionError as error:
                raise InputError(
                    f"{path}, row {number}: lists or objects within each other, too deep to be "
                    "read; a value is a number, text, true or false, or a list of numbers"
                ) from error
            if not isinstance(row, dict):
                raise InputError(f"{path}, row {number}: one JSON object a line is wanted")
            yield row


def _json_columns(
    rows: list[dict[str, Any]],
    names: Iterable[str],
    path: Path,
    done: int,
    kinds: Kinds,
    reading: Reading,
) -> dict[str, pa.Array]:
    describe = partial(_row, path, done + 1)
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if kinds.get(name) in ("category", "text"):
            # A number that is a category, or a key; NaN, which alone is not itself, is missing.
            values = [
                v if isinstance(v, str) else None if v is None or v != v else json.dumps(v)
                for v in values
            ]
        column = from_values(values, name, describe)
        if name in kinds:
            how = PLAIN if name == KEY else reading
            column = convert(column, kinds[name], name, describe, how)
        columns[name] = column
    return columns


def _read_json(
    path: Path, reading: Reading, text: Collection[str]
) -> tuple[pa.Table, Dialect | None]:
    rows = list(_json_rows(path))
    names = {name: None for row in rows for name in row}
    kinds: dict[str, Kind] = dict.fromkeys(text, "text")
    return pa.table(_json_columns(rows, names, path, 0, kinds, PLAIN)), None


def _stream_json(path: Path, size: int, kinds: Kinds, reading: Reading) -> Iterator[pa.RecordBatch]:
    rows, done, names = _json_rows(path), 0, dict[str, None]()
    while part := list(itertools.islice(rows, size)):
        names |= {name: None for row in part for name in row}
        yield pa.record_batch(_json_columns(part, names, path, done, kinds, reading))
        done += len(part)


def _arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def _arrow_schema(path: Path) -> pa.Schema:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).schema


def _read_arrow(
    path: Path, reading: Reading, text: Collection[str]
) -> tuple[pa.Table, Dialect | None]:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all(), None


def _stream_arrow(
    path: Path, size: int, kinds: Kinds, reading: Reading
) -> Iterator[pa.RecordBatch]:
    return _arrow_batches(path)


def _read_parquet(
    path: Path, reading: Reading, text: Collection[str]
) -> tuple[pa.Table, Dialect | None]:
    with pq.ParquetFile(path) as file:
        return file.read(), None


def _stream_parquet(
    path: Path, size: int, kinds: Kinds, reading: Reading
) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=size)


def _count_parquet(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


@dataclass(frozen=True)
class Format:
    """How one form of file is read whole, read in batches, and counted.

    `key` gives the type of the column of that name. `untyped`: every value is text, and what a
    column is has to be found out.
    """

    read: Callable[[Path, Reading, Collection[str]], tuple[Any, Dialect | None]]
    stream: Callable[[Path, int, Kinds, Reading], Iterator[Any]]
    count: Callable[[Path], int]
    key: Callable[[Path, Kinds, Reading], pa.DataType | None]
    untyped: bool = False


_CSV = Format(_read_csv, _stream_csv, _count_csv, _csv_key, untyped=True)
FORMATS = {
    ".csv": _CSV,
    ".tsv": _CSV,
    ".parquet": Format(
        _read_parquet,
        _stream_parquet,
        _count_parquet,
        lambda path, kinds, reading: _typed_key(pq.read_schema(path)),
    ),
    ".arrow": Format(
        _read_arrow,
        _stream_arrow,
        lambda path: sum(b.num_rows for b in _arrow_batches(path)),
        lambda path, kinds, reading: _typed_key(_arrow_schema(path)),
    ),
    ".jsonl": Format(
        _read_json, _stream_json, lambda path: sum(1 for _ in _json_rows(path)), _json_key
    ),
}
