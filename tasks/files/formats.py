"""Table files by format, one file at a time; `tables` beside this module reads them all.

`read` returns a whole file. Its columns have the file's own types; those named in `text` are text,
and so are all columns of CSV. `rows` gives the rows in chunks, for prediction.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import BadRows, InputError
from tasks.files import delimited, json_lines
from tasks.files.chunks import KEY, Chunk, is_text
from tasks.files.convert import NOT_IN_PYTHON, plain, python_value, without_views
from tasks.files.delimited import Kinds
from tasks.files.dialect import Dialect
from tasks.files.reading import Reading
from tasks.reasons import NOT_UTF8


class Rows(Protocol):
    """The rows of one file."""

    def chunks(self, start: int, size: int) -> Iterator[Chunk]:
        """Chunks of rows as they are in the file, with row `start` in the first of them.

        A format that cannot be entered there begins before it. Chunks of CSV may be longer than
        `size`.
        """

    def typed(self, rows: pa.RecordBatch, describe: Callable[[int], str]) -> pa.RecordBatch:
        """Rows with the columns of `Kinds` as those kinds; `describe` locates a row.

        Raises:
            BadRows: values cannot be converted.
        """


class _TypedRows:
    """Rows of a format with types: they are as they should be."""

    def __init__(self, path: Path, kinds: Kinds, only: Collection[str]) -> None:
        self._path, self._kinds, self._only = path, kinds, only

    def typed(self, rows: pa.RecordBatch, describe: Callable[[int], str]) -> pa.RecordBatch:
        for name, column in zip(rows.schema.names, rows.columns, strict=True):
            _refuse_not_utf8(column, name, describe)
        return rows

    def _columns(self, schema: pa.Schema) -> list[str] | None:
        """The columns to read; None for all: the error about a missing one names what there is.

        Raises:
            InputError: one has a type that cannot be read.
        """
        names = schema.names
        every = not self._only or not self._kinds.keys() - {KEY} <= set(names)
        columns = None if every else [name for name in names if name in self._only]
        _refuse_types(schema, columns, self._path)
        return columns


def _refuse_not_utf8(column: pa.Array, name: str, describe: Callable[[int], str]) -> None:
    """Raises `BadRows` for text that is not UTF-8: neither Parquet nor its readers check it."""
    coded = pa.types.is_dictionary(column.type)
    values = column.dictionary if coded else column
    if not is_text(values.type) and not pa.types.is_nested(values.type):
        return
    try:
        values.validate(full=True)
    except pa.ArrowInvalid as error:
        bad = np.array([not _is_utf8(value) for value in column])
        if not bad.any():
            if coded:  # a value of the dictionary that none of these rows has
                return
            raise
        row = int(np.argmax(bad))
        problem = f"column {name!r} is not UTF-8: {str(python_value(column[row]))[:60]}"
        raise BadRows(f"{describe(row)}: {problem}", bad, NOT_UTF8, name) from error


def _is_utf8(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    except NOT_IN_PYTHON:
        pass  # such as a date that Python does not have
    return True


class ParquetRows(_TypedRows):
    def chunks(self, start: int, size: int) -> Iterator[Chunk]:
        with pq.ParquetFile(self._path) as file:
            metadata, schema = file.metadata, file.schema_arrow
        columns = self._columns(schema)
        # Categories as numbers in a dictionary, as they mostly are in the file: a tenth of the time
        # of text.
        coded = [
            field.name
            for field in schema
            if self._kinds.get(field.name) == "category" and is_text(_value_type(field.type))
        ]
        with pq.ParquetFile(self._path, metadata=metadata, read_dictionary=coded) as file:
            first, group = 0, 0
            while group < file.num_row_groups:
                rows = file.metadata.row_group(group).num_rows
                if first + rows > start:
                    break
                first, group = first + rows, group + 1
            groups = list(range(group, file.num_row_groups))
            for batch in file.iter_batches(size, groups, columns):
                if first + batch.num_rows > start:
                    yield Chunk.following(_without_views(batch), first)
                first += batch.num_rows


class ArrowRows(_TypedRows):
    def chunks(self, start: int, size: int) -> Iterator[Chunk]:
        first = 0
        # Not memory-mapped: truncating a mapped file during a batch job kills the process (SIGBUS).
        with pa.OSFile(str(self._path)) as source:
            reader = pa.ipc.open_file(source)
            columns = self._columns(reader.schema)
            for number, length in enumerate(arrow_lengths(self._path)):
                if first + length > start:
                    batch = _checked(reader.get_batch(number))
                    batch = batch if columns is None else batch.select(columns)
                    batch = _without_views(batch)
                    for place in range(0, length, size):
                        yield Chunk.following(batch.slice(place, size), first + place)
                first += length


def _refuse_types(schema: pa.Schema, columns: Collection[str] | None, path: Path) -> None:
    """Raises `InputError` for a column of which Arrow can take no rows, such as a union."""
    for field in schema:
        if columns is not None and field.name not in columns:
            continue
        kind = _plain_type(field)
        try:
            pa.nulls(1, kind).take(pa.array([0]))
        except pa.ArrowNotImplementedError as error:
            raise InputError(
                f"{path}: column {field.name!r} is {kind}, which cannot be read row by row; "
                "convert it to another type, or leave it out"
            ) from error


def _without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [without_views(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


_BYTES = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch itself. Raises `ArrowInvalid` if reading it would leave its buffers, as in a file
    that was damaged: the process would be killed (SIGSEGV)."""
    for column in batch.columns:
        # Text that is not UTF-8 is no such damage, and is found by itself.
        if pa.types.is_dictionary(column.type):
            values = _as_bytes(column.dictionary)
            column = pa.DictionaryArray.from_arrays(column.indices, values, safe=False)
        _as_bytes(column).validate(full=True)
    return batch


def _as_bytes(column: pa.Array) -> pa.Array:
    return column.view(_BYTES[column.type]) if is_text(column.type) else column


def arrow_lengths(path: Path) -> list[int]:
    """The number of rows of each record batch."""
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        return [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]


def _arrow_schema(path: Path) -> pa.Schema:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).schema


def _read_arrow(
    path: Path, reading: Reading, text: Collection[str]
) -> tuple[pa.Table, Dialect | None]:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all(), None


def parquet_lengths(path: Path) -> list[int]:
    """The number of rows of each row group."""
    metadata = pq.read_metadata(path)
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def _read_parquet(
    path: Path, reading: Reading, text: Collection[str]
) -> tuple[pa.Table, Dialect | None]:
    with pq.ParquetFile(path) as file:
        return file.read(), None


def _typed_key(schema: pa.Schema) -> pa.DataType | None:
    return _plain_type(schema.field(KEY)) if KEY in schema.names else None


def _of_schema(schema: pa.Schema, names: Collection[str]) -> dict[str, set[str]]:
    return {f.name: {str(_plain_type(f))} for f in schema if f.name in names}


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _plain_type(field: pa.Field) -> pa.DataType:
    """The type of a column as it is passed through; of one that cannot be, as it is."""
    try:
        found: pa.DataType = plain(pa.nulls(0, field.type)).type
    except pa.ArrowNotImplementedError:
        return field.type
    return found


def _texts(path: Path, names: Collection[str]) -> dict[str, set[str]]:
    return {name: {"string"} for name in names}


@dataclass(frozen=True)
class Format:
    """How files of one format are read whole, read in chunks, and counted.

    For CSV, `read` returns text and the detected dialect. `lengths` are the rows of each part that
    can be read without those before it. `key` returns the type of the column `key`.
    """

    read: Callable[[Path, Reading, Collection[str]], tuple[Any, Dialect | None]]
    rows: Callable[[Path, Kinds, Reading, Collection[str]], Rows]
    lengths: Callable[[Path, Kinds, Reading], list[int]]
    key: Callable[[Path, Kinds, Reading], pa.DataType | None]
    types: Callable[[Path, Collection[str]], Mapping[str, Collection[str]]] = _texts
    """Of those of the columns that are there, the Arrow type; of values of JSON Lines, all types
    that there are, see `json_lines.common_type`."""
    first_row: int = 0
    """The number of the first row in messages."""


_CSV = Format(
    delimited.read,
    lambda path, kinds, reading, only: delimited.CsvRows(path, kinds, reading),
    lambda path, kinds, reading: [delimited.count(path, kinds, reading)],
    delimited.key_type,
    first_row=1,
)
FORMATS: dict[str, Format] = {
    ".csv": _CSV,
    ".tsv": _CSV,
    ".parquet": Format(
        _read_parquet,
        lambda path, kinds, reading, only: ParquetRows(path, kinds, only),
        lambda path, kinds, reading: parquet_lengths(path),
        lambda path, kinds, reading: _typed_key(pq.read_schema(path)),
        lambda path, names: _of_schema(pq.read_schema(path), names),
    ),
    ".arrow": Format(
        _read_arrow,
        lambda path, kinds, reading, only: ArrowRows(path, kinds, only),
        lambda path, kinds, reading: arrow_lengths(path),
        lambda path, kinds, reading: _typed_key(_arrow_schema(path)),
        lambda path, names: _of_schema(_arrow_schema(path), names),
    ),
    ".jsonl": Format(
        json_lines.read,
        lambda path, kinds, reading, only: json_lines.JsonRows(path, kinds, reading, only),
        lambda path, kinds, reading: [json_lines.count(path, kinds, reading)],
        json_lines.key_type,
        json_lines.types_of,
        first_row=1,
    ),
}
