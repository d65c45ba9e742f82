"""Predictions without a job: of rows in memory, or of files, from any number of threads.

The same values as a batch job gives for the same rows, and the same refusals. Needs no torch.
"""

import copy
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks import answers
from tasks.bundle.files import Bundle
from tasks.bundle.signature import Signature
from tasks.columns import SourceLocation
from tasks.counts import Substituted
from tasks.dataset import KEY
from tasks.encoding import Encoder
from tasks.files import tables
from tasks.files.convert import plain
from tasks.files.delimited import unique_names
from tasks.hashed import held_still
from tasks.inputs import InputFile, hashed, kinds_of
from tasks.predict import BATCH_SIZE, Device, named, predictions, rows_of
from tasks.session import open_session


@dataclass(frozen=True)
class Predicted:
    """The columns of `predictions.parquet`, and what was put in place of unknown values."""

    table: pa.Table
    substituted: Substituted


class Predictor:
    """A model that is ready to predict."""

    def __init__(self, files: Mapping[str, Path], device: Device = "auto") -> None:
        """`files` are those of a bundle by their paths in it.

        Raises:
            InputError: the signature or tokenizer cannot be read, or CUDA was asked for in vain.
        """
        self._encoder = Encoder.of(files)
        self._session = open_session(Bundle(files).model, device)
        self._of_thread = threading.local()

    @property
    def signature(self) -> Signature:
        return self._encoder.signature

    @property
    def provider(self) -> str:
        """The execution provider that ONNX Runtime placed the nodes on."""
        return self._session.provider

    def files(self, files: list[InputFile], *, probabilities: bool = False) -> Predicted:
        """Predict the rows of files, which `tasks.inputs.find` found for this signature.

        Raises:
            InputError: as `tasks.predict.predict` does.
        """
        answers.refuse_without_classes(self.signature, probabilities, "probabilities")
        expected, encoder = rows_of(files), self._fresh()
        with held_still(hashed(files)):
            parts = list(predictions(self._session, encoder, files, probabilities))
        found = pa.Table.from_batches(parts)
        if found.num_rows != expected:
            raise RuntimeError(f"{found.num_rows} rows were predicted of {expected}")
        encoder.counts.refuse_unknown(self.signature.columns, named(files))
        return Predicted(found, encoder.counts.columns)

    def table(self, rows: pa.Table, where: str, *, probabilities: bool = False) -> Predicted:
        """Predict the rows of a table, read as an Arrow file of it would be; there may be none.

        `where` names it in messages. Paths of image files count from the current folder.

        Raises:
            InputError: the rows do not match the signature, the model knows no value of a column,
                or a prediction is NaN or infinite.
        """
        answers.refuse_without_classes(self.signature, probabilities, "probabilities")
        encoder, done = self._fresh(), 0
        rows = _tidied(rows, self.signature, where)
        parts = []
        if not rows.num_rows:
            parts = [pa.record_batch(answers.no_answers(encoder, probabilities))]
            # Of no rows, types say nothing: a list without values has none.
            encoder.check_names(rows.column_names, SourceLocation(where))
        for batch in _batches(rows, self.signature, where):
            location = SourceLocation(where, done)
            arrays = encoder.encode(batch, location)
            found = answers.answer(self._session, encoder, arrays, location, probabilities)
            parts.append(pa.record_batch(found))
            done += batch.num_rows
        encoder.counts.refuse_unknown(self.signature.columns, where)
        keys = rows[KEY] if KEY in rows.column_names else pa.array(np.arange(done))
        table = pa.Table.from_batches(parts).add_column(0, KEY, keys)
        return Predicted(table, encoder.counts.columns)

    def _fresh(self) -> Encoder:
        """An encoder of this call alone, with a tokenizer of this thread alone."""
        tokenizer = self._encoder.tokenizer
        if tokenizer is not None:
            if not hasattr(self._of_thread, "tokenizer"):
                self._of_thread.tokenizer = copy.deepcopy(tokenizer)
            tokenizer = self._of_thread.tokenizer
        return Encoder(self.signature, tokenizer)


def _tidied(rows: pa.Table, signature: Signature, where: str) -> pa.Table:
    """The rows as `tables.stream` gives those of an Arrow file."""
    unique_names(rows.column_names, Path(where))
    kinds = kinds_of(signature)
    rows = tables.without_index(rows, kinds)
    for number, name in enumerate(rows.column_names):
        if name in kinds:
            rows = rows.set_column(number, name, plain(rows.column(number)))
    return rows


def _batches(rows: pa.Table, signature: Signature, where: str) -> Iterator[pa.RecordBatch]:
    """As many rows a time as in a batch job; image files decoded."""
    needed = [column.name for column in signature.columns]
    if set(needed) <= set(rows.column_names):  # if not, the message names what there is
        rows = rows.select(needed)
    parts: Iterator[pa.RecordBatch] = iter(rows.combine_chunks().to_batches(BATCH_SIZE))
    for column in signature.columns:
        parts = column.read_table(parts, Path(where), {})
    return parts
