"""CSV, JSON Lines, Parquet and Arrow files, one at a time; `tables` beside this reads them all.

`read` gives a whole file with Arrow's own types, columns named in `text` as text; `stream` gives
batches of rows, as the given kinds where the form has no types of its own.
"""

import gzip
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
from tasks.files.convert import Kind, convert, from_values

# A row of CSV must fit into a block.
BLOCK = 16 << 20
Kinds = Mapping[str, Kind]


def unique_names(names: list[str], path: Path) -> None:
    """Raises `InputError` if two columns have the same name."""
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two columns have the same name: {', '.join(names)}")


def _row(path: Path, first: int, row: int) -> str:
    return f"{path}, row {row + first}"


@contextmanager
def _options(
    path: Path, separator: str, types: Mapping[str, pa.DataType]
) -> Iterator[dict[str, Any]]:
    ragged: list[csv.InvalidRow] = []

    def remember(row: csv.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    tabs = path.name.endswith((".tsv", ".tsv.gz"))
    try:
        yield {
            # Threads would lose the numbers of the rows.
            "read_options": csv.ReadOptions(use_threads=False, block_size=BLOCK),
            "parse_options": csv.ParseOptions(
                delimiter="\t" if tabs else separator,
                newlines_in_values=True,
                invalid_row_handler=remember,
            ),
            "convert_options": csv.ConvertOptions(
                column_types=types, null_values=[""], strings_can_be_null=True
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
            f"{row.expected_columns}: {row.text[:80]!r}. Quote a field that holds the separator"
        ) from error


def _read_csv(path: Path, separator: str, text: Collection[str]) -> pa.Table:
    with _options(path, separator, {name: pa.binary() for name in text}) as options:
        table = csv.read_csv(path, **options)
    for number, name in enumerate(table.column_names):
        # Arrow makes bytes, without a word, of text that is not UTF-8.
        if pa.types.is_binary(table.column(number).type):
            column = convert(table.column(number), "text", name, partial(_row, path, 1))
            table = table.set_column(number, name, column)
    _refuse_open_quote(path, table[-1:], table.num_rows)
    return table


def _refuse_open_quote(path: Path, last: Any, number: int) -> None:
    """Refuse a quote that is never closed: Arrow takes all that follows for one field."""
    written = [c for c in last.columns if pa.types.is_string(c.type) or pa.types.is_binary(c.type)]
    values = [str(column[0].as_py()) for column in written if len(column)]
    if not any("\n" in value or r"\n" in value for value in values):
        return
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        quotes = sum(line.count(b'"') for line in lines)
    if quotes % 2:
        raise InputError(
            f"{path}, row {number}: a quote opens a field and is never closed; close it, or write "
            "a quote within a quoted field twice"
        )


def _separator(path: Path) -> str:
    """What most often separates the names in the header; a batch job is not told."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        header = lines.readline(BLOCK).decode(errors="replace")
    return max(",;\t|", key=header.count)


def _csv_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Blocks of rows, every column as bytes."""
    separator = _separator(path)
    with _options(path, separator, {}) as options, csv.open_csv(path, **options) as reader:
        names = reader.schema.names
    unique_names(names, path)
    types = {name: pa.binary() for name in names}
    last, rows = None, 0
    with _options(path, separator, types) as options, csv.open_csv(path, **options) as reader:
        for last in reader:
            rows += last.num_rows
            yield last
    if last:
        _refuse_open_quote(path, last[-1:], rows)


def _stream_csv(path: Path, size: int, kinds: Kinds) -> Iterator[pa.RecordBatch]:
    done = 1
    for block in _csv_batches(path):
        columns = {
            name: convert(column, kinds[name], name, partial(_row, path, done))
            if name in kinds
            else column
            for name, column in zip(block.schema.names, block.columns, strict=True)
        }
        done += block.num_rows
        yield pa.record_batch(columns)


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    number = 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
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
    rows: list[dict[str, Any]], names: Iterable[str], path: Path, done: int, kinds: Kinds
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
            column = convert(column, kinds[name], name, describe)
        columns[name] = column
    return columns


def _read_json(path: Path, separator: str, text: Collection[str]) -> pa.Table:
    rows = list(_json_rows(path))
    names = {name: None for row in rows for name in row}
    return pa.table(_json_columns(rows, names, path, 0, dict.fromkeys(text, "text")))


def _stream_json(path: Path, size: int, kinds: Kinds) -> Iterator[pa.RecordBatch]:
    rows, done, names = _json_rows(path), 0, dict[str, None]()
    while part := list(itertools.islice(rows, size)):
        names |= {name: None for row in part for name in row}
        yield pa.record_batch(_json_columns(part, names, path, done, kinds))
        done += len(part)


def _arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def _read_arrow(path: Path, separator: str, text: Collection[str]) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _stream_arrow(path: Path, size: int, kinds: Kinds) -> Iterator[pa.RecordBatch]:
    return _arrow_batches(path)


def _read_parquet(path: Path, separator: str, text: Collection[str]) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read()


def _stream_parquet(path: Path, size: int, kinds: Kinds) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=size)


def _count_parquet(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


@dataclass(frozen=True)
class Format:
    """How one form of file is read whole, read in batches, and counted."""

    read: Callable[[Path, str, Collection[str]], Any]
    stream: Callable[[Path, int, Kinds], Iterator[Any]]
    count: Callable[[Path], int]


_CSV = Format(_read_csv, _stream_csv, lambda path: sum(b.num_rows for b in _csv_batches(path)))
FORMATS = {
    ".csv": _CSV,
    ".tsv": _CSV,
    ".parquet": Format(_read_parquet, _stream_parquet, _count_parquet),
    ".arrow": Format(
        _read_arrow, _stream_arrow, lambda path: sum(b.num_rows for b in _arrow_batches(path))
    ),
    ".jsonl": Format(_read_json, _stream_json, lambda path: sum(1 for _ in _json_rows(path))),
}
