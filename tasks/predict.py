"""predict: run a model on input files; writes Parquet, and a manifest that proves completeness.

Uses ONNX Runtime; imports no torch.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import formats
from tasks.answers import answer, refuse_without_classes
from tasks.columns import SourceLocation
from tasks.counts import Counts, Substituted
from tasks.dataset import KEY
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.hashed import held_still
from tasks.inputs import InputFile, batches, fingerprint, first_row, hashed, key_type
from tasks.session import Session, open_session

PREDICTIONS, MANIFEST = "predictions.parquet", "manifest.json"
BATCH_SIZE = 256
ROWS_PER_GROUP = 65_536

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class PredictReport:
    """The manifest of a finished job."""

    rows: int
    provider: str
    nodes: dict[str, int]
    """ONNX nodes placed on each execution provider."""
    onnxruntime: str
    input_sha256: str
    inputs: list[dict[str, Any]]
    output: dict[str, Any]
    provenance: dict[str, Any]
    probabilities: bool = False
    """Whether there is a column for the probability of each class."""
    substituted: Substituted | None = None
    """See `tasks.counts`; None in a manifest of an older release."""
    format: int = 1


def predict(
    model: Path,
    encoder: Encoder,
    files: list[InputFile],
    *,
    output: Path,
    provenance: dict[str, Any],
    device: Device = "auto",
    probabilities: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> PredictReport:
    """Write `predictions.parquet` and then `manifest.json` to `output`.

    Its columns are `key`, `prediction` and `score`: a class and its probability; a number, which
    has no score; or the token that a text goes on with, and the perplexity of the text. With
    `probabilities` a column `probability_CLASS` (float32) for each class follows, in their order.
    One row for each input row, in order. Each file appears whole or not at all, the manifest last:
    where it exists, the job is complete. `provenance` identifies the model and is written to both.
    `progress` gets the number of rows of each batch.

    Raises:
        InputError: an input does not match the signature, or changed since it was found; there are
            no rows; the model knows no value of a column; a prediction is NaN or infinite; another
            job writes to `output`; or the model has no classes to give probabilities of.
    """
    refuse_without_classes(encoder.signature, probabilities, "--probabilities")
    expected = rows_of(files)
    session = open_session(model, device)
    encoder = replace(encoder, counts=Counts())  # of this job alone
    part = output / (PREDICTIONS + ".part")
    with _own(output):
        try:
            answers = predictions(session, encoder, files, probabilities, progress)
            with held_still(hashed(files)):
                rows = _write(part, answers, provenance)
            if rows != expected:
                raise RuntimeError(f"{rows} rows were predicted of {expected}")
            encoder.counts.refuse_unknown(encoder.signature.columns, named(files))
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        counted = encoder.counts.columns
        return _publish(session, files, output, rows, sha256, provenance, probabilities, counted)


@contextmanager
def _own(output: Path) -> Iterator[None]:
    """Lock a folder against other jobs; if it is new and stays empty, it is removed again.

    Raises:
        InputError: another job writes there, or it cannot be written.
    """
    made = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = os.open(output, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InputError(
            f"{output} cannot be a folder for predictions: {error.strerror}. Name another one."
        ) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise InputError(
            f"another job is writing to {output}. Wait for it, or name another folder."
        ) from error
    except BaseException:
        if made:
            with suppress(OSError):
                output.rmdir()
        raise
    finally:
        os.close(folder)


def _publish(
    session: Session,
    files: list[InputFile],
    output: Path,
    rows: int,
    sha256: str,
    provenance: dict[str, Any],
    probabilities: bool,
    substituted: Substituted,
) -> PredictReport:
    """Give the finished file its name, then write the manifest."""
    (output / (PREDICTIONS + ".part")).replace(output / PREDICTIONS)
    report = PredictReport(
        rows=rows,
        provider=session.provider,
        nodes=session.nodes,
        onnxruntime=onnxruntime.__version__,
        input_sha256=fingerprint(files),
        inputs=[file.described() for file in files],
        output={
            "path": PREDICTIONS,
            "sha256": sha256,
            "size": (output / PREDICTIONS).stat().st_size,
        },
        provenance=provenance,
        probabilities=probabilities,
        substituted=substituted,
        format=formats.MANIFEST,
    )
    document = asdict(report)
    if not probabilities:
        del document["probabilities"]
    _write_whole(output / MANIFEST, json.dumps(document, indent=2) + "\n")
    return report


def completed(output: Path) -> PredictReport | None:
    """The manifest of a job that is complete in `output`, or None.

    Raises:
        InputError: there is a manifest, but the predictions are not those it describes; or it is of
            a release with a newer format.
    """
    manifest = output / MANIFEST
    if not manifest.exists():
        return None
    try:
        report = formats.record(PredictReport, formats.read(manifest, formats.MANIFEST))
        with (output / report.output["path"]).open("rb") as stream:
            intact = hashlib.file_digest(stream, "sha256").hexdigest() == report.output["sha256"]
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{manifest} cannot be read ({error}); remove the folder") from error
    if not intact:
        raise InputError(
            f"{output / PREDICTIONS} is not what its manifest describes; somebody changed it. "
            "Remove the folder to predict again."
        )
    return report


def rows_of(files: list[InputFile]) -> int:
    """The number of rows in the files. Raises `InputError` if there is none."""
    if not (rows := sum(file.rows for file in files)):
        raise InputError(f"{named(files)}: no rows to predict")
    return rows


def named(files: list[InputFile]) -> str:
    """The files, for a message."""
    return ", ".join(str(file.path) for file in files)


def predictions(
    session: Session,
    encoder: Encoder,
    files: list[InputFile],
    probabilities: bool,
    progress: Callable[[int], None] = lambda rows: None,
) -> Iterator[pa.RecordBatch]:
    """The rows of `predictions.parquet`, batch by batch, all of one schema.

    Raises:
        InputError: an input does not match the signature, or a prediction is NaN or infinite.
    """
    done, kept, schema = 0, key_type(files, encoder.signature), None
    for file in files:
        before = done
        for keys, arrays in batches(file, encoder, BATCH_SIZE, kept):
            place = SourceLocation(str(file.path), first_row(file) + done - before)
            answers = answer(session, encoder, arrays, place, probabilities)
            rows = len(answers["prediction"])
            if keys is None:
                keys = pa.array(np.arange(done, done + rows))
            batch = pa.record_batch({KEY: keys, **answers})
            if schema is not None and batch.schema != schema:
                raise InputError("the column 'key' has different types in the input files")
            yield batch
            schema, done = batch.schema, done + rows
            progress(rows)


def _write(path: Path, parts: Iterator[pa.RecordBatch], provenance: dict[str, Any]) -> int:
    """Write the batches in groups of many rows; returns how many rows there were."""
    first = next(parts)
    facts = {f"modelmint.{k}": str(v) for k, v in provenance.items() if k != "job"}
    schema = first.schema.with_metadata(facts)
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _groups(first, parts):
            writer.write_table(pa.Table.from_batches(group).replace_schema_metadata(facts))
            rows += sum(part.num_rows for part in group)
    return rows


def _groups(
    first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]
) -> Iterator[list[pa.RecordBatch]]:
    group = [first]
    for part in rest:
        if sum(p.num_rows for p in group) >= ROWS_PER_GROUP:
            yield group
            group = []
        group.append(part)
    yield group


def _write_whole(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
