"""Labels that arrive after the predictions: joined by key, kept beside them, measured.

`labels/JOB/NUMBER-HASH.parquet` in the output of a job has the labels of one given file that belong
to its rows. Of two labels for one row, the newer file counts.
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
from tasks.files.convert import Kind
from tasks.files.reading import PLAIN, Reading
from tasks.serving.folder import LABELS
from tasks.serving.manifest import PredictReport
from tasks.serving.writing import write_whole
from tasks.words import some

KEY, LABEL, JOB, PREDICTION = "key", "label", "job", "prediction"
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
    """The labels of a table, by key.

    Raises:
        InputError: the model needs no labels; a column is missing; a label is missing, or is not a
            class of the model; a key is missing, or has two labels.
    """
    target = signature.problem.target
    if target is None:
        raise InputError("a language model predicts texts, and needs no labels")
    with path.open("rb") if path.is_file() else _no_file(path) as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    found = list(_columns(path, {key: "category", label: target.kind}, signature.read_as))
    if not found:
        raise InputError(f"{path} has no rows")
    table = pa.concat_tables(found).combine_chunks().rename_columns([KEY, LABEL])
    first = tables.first_row(path)
    keys, labels = table.column(KEY).combine_chunks(), table.column(LABEL).combine_chunks()
    if keys.null_count:
        raise InputError(f"{path}, row {first + pc.index(keys.is_null(), True).as_py()}: no {key}")
    # Raises for a missing label, and for one that the model does not know.
    target.parsed(labels, signature, label, lambda row: f"{path}, row {first + row}")
    distinct = table.group_by([KEY, LABEL]).aggregate([])
    twice = pc.value_counts(distinct.column(KEY).combine_chunks())
    twice = twice.field(0).filter(pc.greater(twice.field(1), 1)).to_pylist()
    if twice:
        raise InputError(f"{path}: two different labels for the {key} {some(map(str, twice), 3)}")
    return Labels(str(path), sha256, distinct.select([KEY, LABEL]))


def _no_file(path: Path) -> "io.BufferedReader":
    raise InputError(f"{path} is not a file; give a table with a column of keys and one of labels")


def _columns(path: Path, kinds: Mapping[str, Kind], read_as: Reading) -> Iterator[pa.Table]:
    """Some columns of a table, in the order of `kinds`; categories as text."""
    tables.files(path)  # refuses another suffix
    for batch in tables.stream(path, CHUNK, kinds, read_as):
        columns = []
        for name, kind in kinds.items():
            tables.named(name, batch.schema.names, str(path), "feedback (see --key and --label)")
            column = batch.column(name)
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            columns.append(column.cast(pa.float64() if kind == "number" else pa.string()))
        yield pa.table(columns, names=list(kinds))


def has_row_numbers(report: PredictReport) -> bool:
    """Whether the keys of a job count its rows from 0, and so may be those of any other job."""
    start = 0
    for shard in report.shards:
        end = start + shard["rows"]
        keys = shard.get("keys")
        if keys and not all(key.isdigit() and start <= int(key) < end for key in keys):
            return False
        start = end
    return True


def predictions(output: Path, report: PredictReport, signature: Signature) -> pa.Table:
    """`key` (text) and `prediction` (text or float64) of a job's rows, which are those of its
    manifest. A key that several rows have is left out.

    Raises:
        InputError: the files have no such columns.
    """
    target = signature.problem.target
    assert target is not None, "language models are refused before"
    kinds: dict[str, Kind] = {KEY: "category", PREDICTION: target.kind}
    paths = [file["path"] for shard in report.shards for file in shard["files"]]
    found = [
        part
        for path in paths
        if not path.startswith("quarantine/")
        for part in _columns(output / path, kinds, PLAIN)
    ]
    if not found:
        return pa.table({KEY: pa.array([], pa.string()), PREDICTION: pa.array([], pa.string())})
    table = pa.concat_tables(found)
    counted = pc.value_counts(table.column(KEY).combine_chunks())
    once = counted.field(0).filter(pc.equal(counted.field(1), 1))
    return table.filter(pc.is_in(table.column(KEY), value_set=once))


def matching(labels: Labels, keys: pa.ChunkedArray) -> pa.Table:
    """The labels whose key is one of `keys`."""
    return labels.rows.filter(pc.is_in(labels.rows.column(KEY), value_set=pa.array(keys.unique())))


def folder_of(output: Path, job: str) -> Path:
    """Where the labels of a job lie: not those of an earlier one with the same output."""
    return output / LABELS / job


def keep(folder: Path, labels: Labels, found: pa.Table) -> Path | None:
    """Keep labels in the folder of a job; None if their file was the last one that was given."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = labels.sha256[:16]
    files = _files(folder)
    if files and files[-1].stem.endswith(f"-{mark}"):
        return None
    number = int(files[-1].stem.partition("-")[0]) + 1 if files else 1
    about = {"source": labels.source, "sha256": labels.sha256}
    content = io.BytesIO()
    pq.write_table(found.replace_schema_metadata(about), content)
    path = folder / f"{number:05d}-{mark}.parquet"
    write_whole(path, content.getvalue())
    return path


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*-*.parquet"))


def labelled(folder: Path, predicted: pa.Table) -> Labelled | None:
    """The rows of a job that have a label, with the newest of each; None if there are none."""
    newest: pa.Table | None = None
    for path in _files(folder):
        table = pq.read_table(path, columns=[KEY, LABEL])
        if newest is not None:
            older = pc.invert(pc.is_in(newest.column(KEY), value_set=table.column(KEY)))
            table = pa.concat_tables([newest.filter(older), table])
        newest = table.combine_chunks()
    if newest is None:
        return None
    place = pc.index_in(predicted.column(KEY), value_set=newest.column(KEY).combine_chunks())
    has = place.is_valid()
    labels = newest.column(LABEL).take(place.filter(has))
    return Labelled(
        labels.combine_chunks(), predicted.column(PREDICTION).filter(has).combine_chunks()
    )


def measure(signature: Signature, parts: list[Labelled]) -> dict[str, float]:
    """The metrics of labelled rows, by the names that gates use."""
    labels = np.concatenate([part.labels.to_numpy(zero_copy_only=False) for part in parts])
    predicted = np.concatenate([part.predictions.to_numpy(zero_copy_only=False) for part in parts])
    return signature.problem.measured(labels, predicted)
