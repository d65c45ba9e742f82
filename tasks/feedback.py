"""Labels that arrive after the predictions: joined by key, kept beside them, measured.

`labels/JOB/NUMBER-HASH.parquet` in the output of a job has the labels of one given file that belong
to its rows. Of two labels for one row, that of the file that was given later counts.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.bundle.signature import Signature
from tasks.errors import InputError
from tasks.files import tables
from tasks.files.convert import Kind, plain
from tasks.files.reading import PLAIN, Reading
from tasks.serving.folder import LABELS, QUARANTINE
from tasks.serving.manifest import PredictReport
from tasks.serving.writing import write_whole
from tasks.words import some

KEY, LABEL, PREDICTION = "key", "label", "prediction"
CHUNK = 65_536  # rows read at a time


@dataclass(frozen=True)
class Labels:
    """The labels of one file."""

    source: str
    sha256: str
    rows: pa.Table
    """`key` (text) and `label` (text or float64), distinct keys."""


@dataclass(frozen=True)
class Labelled:
    """The labelled rows of a job: labels and predictions (N,), text or float64."""

    labels: pa.Array
    predictions: pa.Array


def read_labels(path: Path, signature: Signature, key: str, label: str) -> Labels:
    """The labels of a table, by key. Keys are compared as the text that they are: `007` is not 7.

    Raises:
        InputError: the model needs no labels; a column is missing; a label is missing, or is not a
            class of the model; a key is missing, or has two labels.
    """
    target = signature.problem.target
    if target is None:
        raise InputError("a language model predicts texts, and needs no labels")
    if key == label:
        raise InputError(f"--key and --label both name {key!r}; give two columns")
    with path.open("rb") if path.is_file() else _no_file(path) as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    row, found = tables.first_row(path), []
    for batch in _batches(path, {key: "text", label: target.kind}, signature.read_as):

        def where(place: int, start: int = row) -> str:
            return f"{path}, row {start + place}"

        keys = _text(batch.column(key))
        missing = pc.fill_null(pc.equal(keys, ""), True).to_numpy(zero_copy_only=False)
        if missing.any():
            raise InputError(f"{where(int(missing.argmax()))}: no {key}")
        values = target.parsed(batch.column(label), signature, label, where)
        known = np.array(signature.classes)[values] if signature.classes else values
        found.append(pa.table({KEY: keys, LABEL: pa.array(known)}))
        row += batch.num_rows
    if not found:
        raise InputError(f"{path} has no rows")
    distinct = pa.concat_tables(found).group_by([KEY, LABEL]).aggregate([])
    if twice := _several(distinct.column(KEY)).to_pylist():
        raise InputError(f"{path}: two different labels for the {key} {some(twice, 3)}")
    return Labels(str(path), sha256, distinct.select([KEY, LABEL]))


def _no_file(path: Path) -> "io.BufferedReader":
    raise InputError(f"{path} is not a file; give a table with a column of keys and one of labels")


def _batches(path: Path, kinds: Mapping[str, Kind], read_as: Reading) -> Iterator[pa.RecordBatch]:
    """The rows of a table that has the columns `kinds`."""
    tables.files(path)  # refuses another suffix
    for batch in tables.stream(path, CHUNK, kinds, read_as):
        for name in kinds:
            tables.named(name, batch.schema.names, str(path), "feedback (see --key and --label)")
        yield batch


def _text(column: pa.Array) -> pa.Array:
    return plain(column).cast(pa.string())


def _several(keys: pa.ChunkedArray) -> pa.Array:
    """The keys that occur more than once."""
    counted = pc.value_counts(keys.combine_chunks())
    return counted.field(0).filter(pc.greater(counted.field(1), 1))


def has_row_numbers(report: PredictReport) -> bool:
    """Whether the keys of a job count its rows from 0, and so may be those of any other job."""
    start = 0
    for shard in report.shards:
        end = start + shard["rows"]
        for key in shard.get("keys") or ():
            if not (key.isascii() and key.isdigit() and str(int(key)) == key):
                return False
            if not start <= int(key) < end:
                return False
        start = end
    return True


def predictions(output: Path, report: PredictReport, signature: Signature) -> pa.Table:
    """`key` (text) and `prediction` (text or float64) of a job's rows, which are those of its
    manifest.

    Raises:
        InputError: the files have no such columns.
    """
    target = signature.problem.target
    assert target is not None, "language models are refused before"
    kinds: dict[str, Kind] = {KEY: "text", PREDICTION: target.kind}
    value = pa.string() if signature.classes else pa.float64()
    found = [pa.table({KEY: pa.array([], pa.string()), PREDICTION: pa.array([], value)})]
    paths = [file["path"] for shard in report.shards for file in shard["files"]]
    for path in paths:
        if not path.startswith(f"{QUARANTINE}/"):
            for batch in _batches(output / path, kinds, PLAIN):
                columns = [_text(batch.column(KEY)), plain(batch.column(PREDICTION)).cast(value)]
                found.append(pa.table(columns, names=[KEY, PREDICTION]))
    return pa.concat_tables(found)


def matching(labels: Labels, predicted: pa.Table) -> pa.Table:
    """The labels whose key is one of the predicted rows."""
    return labels.rows.filter(_is_in(labels.rows.column(KEY), predicted.column(KEY)))


def without_repeated(found: pa.Table, predicted: pa.Table) -> pa.Table:
    """Labels without those whose key several predicted rows have: of which one would it be?"""
    repeated = _several(predicted.column(KEY))
    return found.filter(pc.invert(pc.is_in(found.column(KEY), value_set=repeated)))


def _is_in(keys: pa.ChunkedArray, others: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.is_in(keys, value_set=others.combine_chunks())


def folder_of(output: Path, job: str) -> Path:
    """Where the labels of a job lie: not those of an earlier one with the same output."""
    return output / LABELS / job


def was_given(folder: Path, labels: Labels) -> bool:
    """Whether a job has the labels of a file with this content, which later ones may correct."""
    return any(path.stem.endswith(f"-{labels.sha256[:16]}") for path in _files(folder))


def keep(folder: Path, labels: Labels, found: pa.Table) -> None:
    """Keep labels in the folder of a job, as its newest, without those that it has already.

    Labels often come as a file that grows by a few rows a day: the others are no new labels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = newest_labels(folder)
    if before is not None:
        place = pc.index_in(found.column(KEY), value_set=before.column(KEY).combine_chunks())
        equal = pc.equal(found.column(LABEL), before.column(LABEL).take(place))
        found = found.filter(pc.invert(pc.fill_null(equal, False)))
    files = _files(folder)
    number = int(files[-1].stem.partition("-")[0]) + 1 if files else 1
    about = {"source": labels.source, "sha256": labels.sha256}
    content = io.BytesIO()
    pq.write_table(found.replace_schema_metadata(about), content)
    write_whole(folder / f"{number:05d}-{labels.sha256[:16]}.parquet", content.getvalue())


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*-*.parquet"))


def labelled(folder: Path, predicted: pa.Table, more: pa.Table | None = None) -> Labelled | None:
    """The rows of a job that have a label, with the newest of each; None if there are none.

    `more` are labels that are newer than those in the folder.
    """
    newest = newest_labels(folder, more)
    if newest is None:
        return None
    place = pc.index_in(predicted.column(KEY), value_set=newest.column(KEY).combine_chunks())
    has = place.is_valid()
    labels = newest.column(LABEL).take(place.filter(has))
    return Labelled(
        labels.combine_chunks(), predicted.column(PREDICTION).filter(has).combine_chunks()
    )


def newest_labels(folder: Path, more: pa.Table | None = None) -> pa.Table | None:
    """`key` and `label` of a job, of each key the newest; None if there are none."""
    newest: pa.Table | None = None
    kept = (pq.read_table(path, columns=[KEY, LABEL]) for path in _files(folder))
    for table in (*kept, *(() if more is None else (more,))):
        if newest is not None:
            older = newest.filter(pc.invert(_is_in(newest.column(KEY), table.column(KEY))))
            table = pa.concat_tables(
                [older.replace_schema_metadata(), table.replace_schema_metadata()]
            )
        newest = table
    return newest if newest is not None and len(newest) else None


def labels_given(folder: Path) -> int:
    """How many labels a job was given, corrections included."""
    return sum(pq.read_metadata(path).num_rows for path in _files(folder))


def measure(signature: Signature, parts: list[Labelled]) -> dict[str, float]:
    """The metrics of labelled rows, by the names that gates use."""
    labels = np.concatenate([part.labels.to_numpy(zero_copy_only=False) for part in parts])
    predicted = np.concatenate([part.predictions.to_numpy(zero_copy_only=False) for part in parts])
    return signature.problem.measured(signature, labels, predicted)
