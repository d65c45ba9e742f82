"""The files of one shard: written under temporary names, synced, and hashed."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.files.convert import NOT_IN_PYTHON
from tasks.serving.options import Form, Options

ROWS_PER_GROUP = 65_536
LONGEST_NAME = 255
"""Bytes of a file name, on all usual file systems."""
_NULL = "__HIVE_DEFAULT_PARTITION__"
MOST_PARTITIONS = 1_000
"""Files that a shard may have open: more would exceed what an operating system allows."""


@dataclass(frozen=True)
class Written:
    """A finished file; `path` counts from the folder of the job."""

    path: str
    sha256: str
    size: int
    rows: int


class _Sink(Protocol):
    def write_table(self, table: pa.Table) -> None: ...
    def close(self) -> None: ...


class _Lines:
    """JSON Lines; pyarrow reads them and does not write them."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("w", encoding="utf-8")

    def write_table(self, table: pa.Table) -> None:
        columns = [_values(table[name], name) for name in table.column_names]
        for row in zip(*columns, strict=True):
            line = _line(dict(zip(table.column_names, row, strict=True)))
            self._stream.write(line + "\n")

    def close(self) -> None:
        self._stream.close()


_FAR_S = 900_000_000_000  # 28,500 years; Arrow counts years in 16 bits
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def _refuse_far(column: pa.Array | pa.ChunkedArray, what: str, name: str) -> None:
    """Raises `InputError` for times so far away that Arrow would write wrong text."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        numbers, limit = column.cast(pa.int64()), _FAR_S * _PER_SECOND[kind.unit]
    elif pa.types.is_date64(kind):
        numbers, limit = column.cast(pa.int64()), _FAR_S * 1000
    elif pa.types.is_date32(kind):
        numbers, limit = column.cast(pa.int32()).cast(pa.int64()), _FAR_S // 86_400
    else:
        return
    ends = pc.min_max(numbers)
    lowest, highest = ends["min"].as_py(), ends["max"].as_py()
    if lowest is not None and (lowest < -limit or highest > limit):
        raise InputError(
            f"column {name!r} is {kind} with a time more than 28,500 years away, which {what} "
            "cannot hold; write --format parquet, or correct it"
        )


def _values(column: pa.ChunkedArray, name: str) -> list[Any]:
    """Values as JSON has them; times as CSV has them, since Python would cut their nanoseconds.

    Raises:
        InputError: Python has no such value, as of a list with a date after 9999.
    """
    if pa.types.is_duration(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_temporal(column.type):
        column = column.cast(pa.string())
    try:
        values: list[Any] = column.to_pylist()
        return values
    except NOT_IN_PYTHON as error:
        raise InputError(
            f"column {name!r} is {column.type} with values that files of --format jsonl cannot "
            f"hold: {error}; {_ADVICE['jsonl']}"
        ) from error


def _line(row: Any) -> str:
    """A row as JSON, which has no NaN and no infinity: they become null."""
    try:
        return json.dumps(row, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(row), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def _sink(form: Form, path: Path, schema: pa.Schema) -> _Sink:
    _refuse_types(form, schema)
    if form == "jsonl":
        return _Lines(path)
    sink: _Sink = (
        csv.CSVWriter(path, schema)
        if form == "csv"
        else pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=_repeating(schema))
    )
    return sink


def _repeating(schema: pa.Schema) -> list[str]:
    """Columns whose values may repeat, such as classes. Others only lose time with a dictionary."""
    return [field.name for field in schema if pa.types.is_string(field.type)]


def _make_below(root: Path, folder: Path) -> None:
    """Make a folder and those between it and `root`; but not `root`, of a job that has ended.

    Raises:
        FileNotFoundError: `root` is gone.
    """
    between = [folder, *folder.parents]
    for each in reversed(between[: between.index(root)]):
        each.mkdir(exist_ok=True)


class _File:
    """One file of the output, written in groups of many rows."""

    def __init__(self, root: Path, name: str, form: Form, schema: pa.Schema) -> None:
        self._root, self._name = root, name
        target = root / name
        _make_below(root, target.parent)
        # Another process may write the same shard: then both write the same bytes.
        self.part = target.with_name(f".{target.name}.{uuid4().hex}")
        self._schema, self._form = schema, form
        self._sink = _sink(form, self.part, schema)
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._in_group = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        self._in_group += batch.num_rows
        if self._in_group >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting, self._schema)
            if self._form != "parquet":
                for name in table.column_names:
                    _refuse_far(table[name], f"--format {self._form}", name)
            try:
                self._sink.write_table(table)
            except pa.ArrowInvalid as error:  # such as seconds that are no milliseconds
                advice = _ADVICE[self._form]
                raise InputError(f"--format {self._form} cannot hold: {error}; {advice}") from error
        self._rows += self._in_group
        self._waiting, self._in_group = [], 0

    def finish(self) -> Written:
        self._flush()
        self._sink.close()
        written = sealed(self.part, self._name, self._rows)
        self.part.replace(self._root / self._name)
        return written

    def discard(self) -> None:
        with suppress(Exception):
            self._sink.close()
        self.part.unlink(missing_ok=True)


class ShardFiles:
    """The predictions of one shard, in one file or in one for each partition."""

    def __init__(
        self, root: Path, folder: str, number: int, options: Options, facts: Mapping[str, str]
    ) -> None:
        """In `root/folder`; `facts` become metadata of Parquet files."""
        self._root, self._folder, self._options = root, folder, options
        self._name = f"part-{number:05d}.{options.form}"
        self._facts = {f"modelmint.{name}": value for name, value in facts.items()}
        self._files: dict[str, _File] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Append rows; all batches have the same schema."""
        if not self._options.partition_by:
            self._append(self._name, batch)
            return
        for place, part in _partitions(batch, self._options.partition_by):
            self._append(f"{place}/{self._name}", part)

    def _append(self, name: str, batch: pa.RecordBatch) -> None:
        if name not in self._files:
            if len(self._files) >= MOST_PARTITIONS:
                raise InputError(
                    f"--partition-by {','.join(self._options.partition_by)} makes more than "
                    f"{MOST_PARTITIONS:,} folders; name a column with fewer values"
                )
            schema = batch.schema.with_metadata(self._facts)
            path = f"{self._folder}/{name}"
            self._files[name] = _File(self._root, path, self._options.form, schema)
        self._files[name].add(batch.replace_schema_metadata(self._facts))

    def finish(self) -> list[Written]:
        """Give all files their names; they are on the disk by then."""
        return [self._files[name].finish() for name in sorted(self._files)]

    def discard(self) -> None:
        """Remove what was written, if it is not finished."""
        for file in self._files.values():
            file.discard()


def _partitions(
    batch: pa.RecordBatch, columns: tuple[str, ...]
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of each combination of values, in order, and the path of its folder."""
    group = np.zeros(batch.num_rows, np.int64)
    folders = []
    for name in columns:
        codes, names = _folders(batch[name], name)
        folders.append((codes, names))
        group = np.unique(group * len(names) + codes, return_inverse=True)[1]
    order = np.argsort(group, kind="stable")
    firsts = np.unique(group[order], return_index=True)[1]
    rest = batch.drop_columns(list(columns))
    for rows in np.split(order, firsts[1:]):
        place = "/".join(names[codes[rows[0]]] for codes, names in folders)
        yield place, rest.take(pa.array(rows))


def _folders(values: pa.Array, name: str) -> tuple[NDArray[np.int64], list[str]]:
    """The number (N,) of the folder of each value, and the folders as `pyarrow.dataset` reads them.

    By Arrow's own equality: Python has no nanoseconds, and there NaN is not NaN.

    Raises:
        InputError: the values cannot be names of folders.
    """
    _refuse_far(values, f"--partition-by {name}", name)
    try:
        encoded = values.dictionary_encode(null_encoding="encode")
        texts = encoded.dictionary.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"--partition-by {name}: values of the type {values.type} cannot be names of folders; "
            "name another column"
        ) from error
    names = [f"{name}={_NULL if t is None else quote(t, safe=' -_.:')}" for t in texts]
    if long := next((n for n in names if len(n.encode()) > LONGEST_NAME), None):
        raise InputError(
            f"--partition-by {name}: {long[:60]}... is too long for the name of a folder; name a "
            "column with shorter values"
        )
    return encoded.indices.to_numpy().astype(np.int64), names


def _refuse_types(form: Form, schema: pa.Schema) -> None:
    """Raises `InputError` if a form of files cannot hold a column."""
    for field in schema:
        if not _holds(form, field):
            raise InputError(
                f"column {field.name!r} is {field.type}, which files of --format {form} cannot "
                f"hold; {_ADVICE[form]}"
            )


_ADVICE: dict[Form, str] = {
    "parquet": "convert it to another type, or leave it out",
    "csv": "write --format parquet, or leave the column out",
    "jsonl": "write --format parquet, or leave the column out",
}


def _holds(form: Form, field: pa.Field) -> bool:
    """Whether Arrow writes such a column; of bytes, what it writes into texts is of no use."""
    schema, kind = pa.schema([field]), field.type
    if form != "parquet" and _has_bytes(kind):
        return False
    try:
        if form == "csv" or (form == "jsonl" and pa.types.is_temporal(kind)):
            row = pa.Table.from_arrays([pa.nulls(1, kind)], schema=schema)
            csv.write_csv(row, pa.BufferOutputStream())
        else:
            pq.ParquetWriter(pa.BufferOutputStream(), schema).close()
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False
    return True


def _has_bytes(kind: pa.DataType) -> bool:
    """Whether values are bytes, or have bytes within lists and structs."""
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or any(_has_bytes(kind.field(place).type) for place in range(kind.num_fields))
    )


def write_table(root: Path, name: str, table: pa.Table) -> Written:
    """A whole Parquet file below `root`, finished as those of a shard are."""
    file = _File(root, name, "parquet", table.schema)
    try:
        for batch in table.to_batches():
            file.add(batch)
        return file.finish()
    except BaseException:
        file.discard()
        raise


def sealed(path: Path, name: str, rows: int) -> Written:
    """Sync a file to the disk; its hash is that of the bytes that are there."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return Written(name, sha256, stream.tell(), rows)


def sync_folder(path: Path) -> None:
    """Sync the names in a folder: a power cut may lose a rename without it."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_whole(path: Path, content: str | bytes) -> None:
    """A small file, whole or not at all, on the disk. Text is written as UTF-8."""
    part = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with part.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
