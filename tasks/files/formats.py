"""Readers of CSV, JSON Lines, Parquet and Arrow files; `tasks.files.tables` uses them.

`read` returns a whole file with its own types; all columns of CSV and the columns named in `text`
are text. `stream` returns batches of rows; for formats without types, columns have the given kinds.
"""

import codecs
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import InputError
from tasks.files import delimited
from tasks.files.convert import Kind, convert, from_values, plain
from tasks.files.delimited import KEY, Kinds, row_of
from tasks.files.dialect import Dialect, open_decompressed
from tasks.files.reading import PLAIN, Reading


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    number = 0
    with open_decompressed(path) as lines:
        for line in lines:
            if not line.strip():
                continue
            number += 1
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                utf_16 = line[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in line
                raise InputError(
                    f"{path}, row {number}: not UTF-8: {error}. It is "
                    + ("UTF-16" if utf_16 else f"maybe Latin-1 ({line.decode('latin-1')[:60]!r})")
                    + ". Convert the file to UTF-8, for instance with iconv"
                ) from error
            except json.JSONDecodeError as error:
                raise InputError(f"{path}, row {number}: not JSON: {error}") from error
            except RecursionError as error:
                raise InputError(
                    f"{path}, row {number}: lists or objects are nested too deeply; a value must "
                    "be a number, text, true, false or a list of numbers"
                ) from error
            if not isinstance(row, dict):
                raise InputError(f"{path}, row {number}: one JSON object per line is expected")
            yield row


def _json_columns(
    rows: list[dict[str, Any]],
    names: Iterable[str],
    path: Path,
    done: int,
    kinds: Kinds,
    reading: Reading,
) -> dict[str, pa.Array]:
    describe = partial(row_of, path, done + 1)
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if kinds.get(name) in ("category", "text"):
            # Categories and keys may be numbers. `v != v` is only true for NaN, a missing value.
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
        if not done and kinds.keys() - {KEY} - names.keys():
            # The first rows lack a column: a later row may have it.
            names |= {name: None for row in _json_rows(path) for name in row}
        yield pa.record_batch(_json_columns(part, names, path, done, kinds, reading))
        done += len(part)


def _arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    # Not memory-mapped: truncating a mapped file during a batch job kills the process (SIGBUS).
    with pa.OSFile(str(path)) as source:
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


def _count_arrow(path: Path, kinds: Kinds, reading: Reading) -> int:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        return sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))


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


def _count_parquet(path: Path, kinds: Kinds, reading: Reading) -> int:
    return int(pq.read_metadata(path).num_rows)


def _json_key(path: Path, kinds: Kinds, reading: Reading) -> pa.DataType | None:
    with open_decompressed(path) as lines:
        if not any(b'"key"' in line for line in lines):  # much faster than parsing all rows
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


@dataclass(frozen=True)
class Format:
    """How files of one format are read whole, read in batches, and counted.

    For CSV, `read` returns text and the detected dialect. `key` returns the type of the column
    `key`.
    """

    read: Callable[[Path, Reading, Collection[str]], tuple[Any, Dialect | None]]
    stream: Callable[[Path, int, Kinds, Reading], Iterator[Any]]
    count: Callable[[Path, Kinds, Reading], int]
    key: Callable[[Path, Kinds, Reading], pa.DataType | None]
    first_row: int = 0
    """The number of the first row in messages."""


_CSV = Format(delimited.read, delimited.stream, delimited.count, delimited.key_type, 1)
FORMATS: dict[str, Format] = {
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
        _count_arrow,
        lambda path, kinds, reading: _typed_key(_arrow_schema(path)),
    ),
    ".jsonl": Format(
        _read_json,
        _stream_json,
        lambda path, kinds, reading: sum(1 for _ in _json_rows(path)),
        _json_key,
        first_row=1,
    ),
}
