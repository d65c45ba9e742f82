"""Rows that were predicted and got a label, as a file of the raw data that a training reads.

The file has the columns and the form of the other tables in its folder, its rows in the order of
their keys: the same labels give the same bytes. A row whose input file is not as it was predicted
is refused: with other features it would be another row.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import feedback
from tasks.bundle.signature import Signature
from tasks.columns import SourceLocation
from tasks.config import Prepare, TabularSource, TextSource
from tasks.dataset import KEY
from tasks.errors import InputError
from tasks.files import tables
from tasks.files.chunks import sift
from tasks.files.convert import plain
from tasks.files.reading import Reading
from tasks.hashed import HashedFile
from tasks.input_rows import RowsOf
from tasks.inputs import InputFile, first_row
from tasks.serving.manifest import PredictReport
from tasks.serving.writing import write_whole
from tasks.words import counted

NAME = "modelmint-labelled"
"""The file, without its suffix: no name of a user's own table, which would be overwritten."""
FORMS = (".csv", ".tsv", ".parquet")
DONE = "done"  # where `--after move` puts files
CHUNK = 65_536
_ID = "\0row"  # what tells rows of several jobs apart; no column of a file has this name


@dataclass(frozen=True)
class LabelledJob:
    """A finished job with labels. `rows_have_keys`: they are more than row numbers."""

    report: PredictReport
    signature: Signature
    labels: pa.Table
    """`key` and `label`."""


@dataclass(frozen=True)
class Added:
    """What was written."""

    rows: int
    refused: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    """By input file: how many rows were left out, and why."""

    @property
    def text(self) -> str:
        """How many were written and left out, for the history; empty if there were none."""
        left_out = sum(rows for rows, _ in self.refused.values())
        if not self.rows and not left_out:
            return ""
        text = f"{counted(self.rows, 'labelled row')} added to the raw data"
        return f"{text}, up to {left_out:,} left out" if left_out else text

    @property
    def notices(self) -> list[str]:
        return [
            f"up to {counted(rows, 'labelled row')} of {file} left out: {why}"
            for file, (rows, why) in self.refused.items()
        ]


def check(prepare: Prepare, folder: Path) -> str:
    """The form of the tables that rows are added to, such as `.csv`.

    Raises:
        InputError: rows cannot be added to this source; says which can.
    """
    source, advice = prepare.source, "; or set retrain.data: raw"
    if not isinstance(source, TabularSource | TextSource):
        raise InputError(
            f"labelled rows are added to tables, and prepare.source.kind is {source.kind}{advice}"
        )
    if not folder.is_dir():
        raise InputError(
            f"labelled rows are a file beside the raw data, and {source.path} is a single file. "
            f"Move it to a folder of its own, and name that in prepare.source.path{advice}"
        )
    fixed = [
        n for n, v in (("split_column", prepare.split_column), ("source.test", source.test)) if v
    ]
    if fixed:
        raise InputError(
            f"with prepare.{fixed[0]} the test rows are given, so no labelled row could be among "
            f"them{advice}"
        )
    form = tables.form(_first_table(folder)) or ""
    if form not in FORMS:
        raise InputError(
            f"labelled rows are added to {', '.join(FORMS)}, and {folder} has {form} files{advice}"
        )
    if source.pattern and not tables.matches_patterns(
        folder / f"{NAME}{form}", folder, [source.pattern]
    ):
        raise InputError(
            f"prepare.source.pattern ({source.pattern}) leaves out {NAME}{form}, the file of "
            f"labelled rows{advice}"
        )
    return form


def add(prepare: Prepare, folder: Path, jobs: Iterable[LabelledJob]) -> Added:
    """Write the labelled rows of `jobs`, newest first, beside the tables in `folder`.

    A row that several jobs have predicted counts once, with the label that the newest of them has.

    Raises:
        InputError: the source cannot take them, or a row does not fit the tables.
    """
    form = check(prepare, folder)
    first = _first_table(folder)
    assert isinstance(prepare.source, TabularSource | TextSource), "checked above"
    target = str(prepare.source.target)
    refused: dict[str, tuple[int, str]] = {}
    parts: list[pa.Table] = []
    reading: Reading | None = None
    for job in jobs:
        reading = reading or job.signature.read_as
        names = _columns(first, reading)
        for found in _rows(job, target, names, refused):
            parts.append(found)
    rows = _distinct(parts)
    if rows is None or reading is None:
        return Added(0, refused)
    _refuse_lacking(prepare, rows)
    content = _parquet(rows, first) if form == ".parquet" else _text(rows, reading, form)
    path = folder / f"{NAME}{form}"
    if not path.exists() or path.read_bytes() != content:
        write_whole(path, content)
    return Added(len(rows), refused)


def _first_table(folder: Path) -> Path:
    """A table of the raw data itself."""
    found = [file for file in tables.files(folder) if file.name.partition(".")[0] != NAME]
    if not found:
        raise InputError(f"{folder} has no table but that of labelled rows; restore the others")
    return found[0]


def _columns(table: Path, reading: Reading) -> list[str]:
    return list(next(tables.stream(table, 1, {}, reading)).schema.names)


def _rows(
    job: LabelledJob, target: str, names: list[str], refused: dict[str, tuple[int, str]]
) -> Iterable[pa.Table]:
    """The labelled rows of each input file of a job, with the columns `names` and an id."""
    wanted = pa.array(job.labels.column(feedback.KEY).combine_chunks())
    own = "" if not feedback.has_row_numbers(job.report) else f"{job.report.input_sha256}:"
    start = 0
    for described in job.report.inputs:
        path, why = unchanged(described)
        if path is None:
            if number := _count(job, described, start, wanted):
                before = refused.get(described["path"], (0, why))[0]
                refused[described["path"]] = (before + number, why)
        else:
            file = InputFile(path, described["sha256"], described["rows"])
            for rows, keys in _chunks(file, job.signature, start):
                place = pc.index_in(keys, value_set=wanted)
                labels = job.labels.column(feedback.LABEL).take(place)
                columns = {name: _column(rows, name) for name in names if name != target}
                table = pa.table(
                    {**columns, target: labels, _ID: pc.binary_join_element_wise(own, keys, "")}
                )
                yield table.filter(place.is_valid())
        start += described["rows"]


def unchanged(described: Mapping[str, Any]) -> tuple[Path | None, str]:
    """The file as it was predicted, where it is or where `--after move` has put it; or why not."""
    name = described["path"]
    if name.startswith("s3://"):
        return None, "it is in S3, from where rows are not read again"
    if described.get("members"):
        return None, "its rows are image files"
    path = Path(name)
    there = [place for place in (path, path.parent / DONE / path.name) if place.is_file()]
    for place in there:
        if HashedFile.of(place).sha256 == described["sha256"]:
            return place, ""
    return None, "it was changed since it was predicted" if there else "it is not there any more"


def _count(job: LabelledJob, described: Mapping[str, Any], start: int, wanted: pa.Array) -> int:
    """How many labels are of rows of a file that cannot be read; of several files, at most."""
    if not feedback.has_row_numbers(job.report):
        return min(len(wanted), int(described["rows"]))
    numbers = np.array([int(key) for key in wanted.to_pylist()])
    return int(((numbers >= start) & (numbers < start + described["rows"])).sum())


def _chunks(
    file: InputFile, signature: Signature, start: int
) -> Iterable[tuple[pa.RecordBatch, pa.Array]]:
    """The good rows of a file, and their keys as text, as `feedback.predictions` has them."""
    source = RowsOf(file, signature, also={})
    for chunk in source.chunks(0, CHUNK):

        def typed(some: Any) -> pa.RecordBatch:
            return source.typed(some.rows, SourceLocation(file.name, first_row(file), some.index))

        rows, good = sift(chunk, typed)
        if rows is None:
            continue
        if KEY in rows.schema.names:
            yield rows, plain(rows.column(KEY)).cast(pa.string())
        else:
            yield rows, pa.array(good.index + start).cast(pa.string())


def _column(rows: pa.RecordBatch, name: str) -> pa.Array:
    """A column of the raw data; missing values where the predicted rows do not have it."""
    if name not in rows.schema.names:
        return pa.nulls(len(rows))
    column = rows.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string()) if pa.types.is_binary(column.type) else column


def _distinct(parts: list[pa.Table]) -> pa.Table | None:
    """The rows in the order of their ids, of each id the first."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return None
    rows = tables.concat([("the predicted rows", part) for part in parts]).combine_chunks()
    ids = np.array(rows.column(_ID).to_pylist(), dtype=object)
    _, first = np.unique(ids, return_index=True)
    return rows.take(pa.array(first)).drop_columns([_ID])


def _refuse_lacking(prepare: Prepare, rows: pa.Table) -> None:
    """Raises `InputError` if a column that decides the split is missing: it cannot be made up."""
    for key in ("group", "time"):
        name = getattr(prepare, key)
        if name and name in rows.column_names and rows.column(name).null_count:
            raise InputError(
                f"prepare.{key} is {name!r}, and {rows.column(name).null_count:,} labelled rows "
                f"have no {name!r}. Predict files that have this column; or set retrain.data: raw"
            )


def _parquet(rows: pa.Table, like: Path) -> bytes:
    """With the types of the other tables, so that they are read as one."""
    schema, columns = pq.read_schema(like), {}
    for name in rows.column_names:
        try:
            columns[name] = rows.column(name).cast(schema.field(name).type)
        except pa.ArrowException as error:
            raise InputError(
                f"the labelled rows do not fit {like}: column {name!r} is "
                f"{rows.column(name).type}, and {schema.field(name).type} there: {error}"
            ) from error
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content)
    return content.getvalue()


def _text(rows: pa.Table, reading: Reading, form: str) -> bytes:
    """As the other tables are written: with their delimiter, decimal sign and encoding."""
    delimiter = reading.delimiter or ("\t" if form == ".tsv" else ",")
    written = io.StringIO()
    writer = csv.writer(
        written, delimiter=delimiter, quotechar=reading.quote or '"', lineterminator="\n"
    )
    writer.writerow(rows.column_names)
    decimal = reading.decimal or "."
    cells = [[_cell(value, decimal) for value in column.to_pylist()] for column in rows.columns]
    writer.writerows(zip(*cells, strict=True))
    try:
        return written.getvalue().encode(reading.encoding or "utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"the labelled rows cannot be written in {reading.encoding}: {error}"
        ) from error


def _cell(value: Any, decimal: str) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):  # the shortest text that is read as the same number
        return str(np.format_float_positional(value, trim="-")).replace(".", decimal)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
