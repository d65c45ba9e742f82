"""Predictions without a job: of rows in memory, or of files, from any number of threads.

The same values as a batch job gives for the same rows, and the same refusals. Needs no torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks import answers
from tasks.bundle.signature import Signature
from tasks.columns import SourceLocation
from tasks.counts import Counts, Substituted
from tasks.dataset import KEY
from tasks.errors import InputError
from tasks.files import tables
from tasks.files.chunks import Chunk
from tasks.files.convert import plain
from tasks.files.delimited import unique_names
from tasks.hashed import held_still
from tasks.input_rows import RowsOf, key_type
from tasks.inputs import InputFile, first_row, hashed, kinds_of, named
from tasks.serving.batch_size import DEFAULT
from tasks.serving.model import ReadyModel
from tasks.serving.options import Options
from tasks.serving.plan import chunk_rows
from tasks.session import Device


@dataclass(frozen=True)
class Predicted:
    """The columns of predictions, and what was put in place of unknown values."""

    table: pa.Table
    substituted: Substituted


class Predictor:
    """A model that is ready to predict."""

    def __init__(self, files: Mapping[str, Path], device: Device = "auto") -> None:
        """`files` are those of a bundle by their paths in it.

        Raises:
            InputError: the signature or tokenizer cannot be read, or CUDA was asked for in vain.
        """
        self._model = ReadyModel.open(files, device)

    @property
    def signature(self) -> Signature:
        return self._model.signature

    @property
    def provider(self) -> str:
        """The execution provider that ONNX Runtime placed the nodes on."""
        return self._model.session.provider

    def files(self, files: list[InputFile], *, probabilities: bool = False) -> Predicted:
        """Predict the rows of files, which `tasks.inputs.find` found for this signature.

        Raises:
            InputError: as `table` does, or a file changed meanwhile.
        """
        options, counts = self._options(probabilities), Counts()
        if not any(file.rows for file in files):
            raise InputError(f"{named(files)}: no rows to predict")
        with held_still(hashed(files)):
            parts = list(self._parts(files, options, counts))
        counts.refuse_unknown(self.signature.columns, named(files))
        found = pa.Table.from_batches(parts)
        if found.num_rows != sum(file.rows for file in files):
            raise RuntimeError(f"{found.num_rows} rows were predicted of other files")
        return Predicted(found, counts.columns)

    def table(self, rows: pa.Table, where: str, *, probabilities: bool = False) -> Predicted:
        """Predict the rows of a table, read as an Arrow file of it would be; there may be none.

        `where` names it in messages. Paths of image files count from the current folder.

        Raises:
            InputError: the rows do not match the signature, the model knows no value of a column,
                or a prediction is NaN or infinite.
        """
        options, counts = self._options(probabilities), Counts()
        rows = _tidied(rows, self.signature, where)
        if rows.num_rows:
            parts = [
                self._answer(chunk.rows, SourceLocation(where, 0, chunk.index), options, counts)
                for chunk in self._chunks(rows, where)
            ]
        else:
            encoder = self._model.encoder(counts)
            parts = [pa.record_batch(answers.no_answers(encoder, options))]
            # An empty table has no meaningful types: an empty list has the type null.
            encoder.check_names(rows.column_names, SourceLocation(where))
        counts.refuse_unknown(self.signature.columns, where)
        keys = rows[KEY] if KEY in rows.column_names else pa.array(np.arange(rows.num_rows))
        return Predicted(pa.Table.from_batches(parts).add_column(0, KEY, keys), counts.columns)

    def _options(self, probabilities: bool) -> Options:
        options = Options(probabilities=probabilities)
        options.check(self.signature, prefix="")
        return options

    def _parts(
        self, files: list[InputFile], options: Options, counts: Counts
    ) -> Iterator[pa.RecordBatch]:
        """Predictions of all rows, with their keys."""
        kind, done = key_type(files, self.signature), 0
        for file in files:
            source = RowsOf(file, self.signature)
            for chunk in source.chunks(0, chunk_rows(self.signature)):
                index = chunk.refuse_bad().index
                location = SourceLocation(str(file.path), first_row(file), index)
                rows = source.typed(chunk.rows, location)
                found = self._answer(rows, location, options, counts)
                keys = pa.array(index + done)
                if KEY in rows.schema.names:
                    keys = rows[KEY] if kind is None else rows[KEY].cast(kind)
                yield found.add_column(0, KEY, keys)
            done += file.rows

    def _chunks(self, rows: pa.Table, where: str) -> Iterator[Chunk]:
        """Image files decoded."""
        needed = [column.name for column in self.signature.columns]
        if set(needed) <= set(rows.column_names):  # if not, the message names what there is
            rows = rows.select(needed)
        start, size = 0, chunk_rows(self.signature)
        for batch in rows.combine_chunks().to_batches(size):
            location = SourceLocation(where, start)
            for column in self.signature.columns:
                batch = column.read_cells(batch, Path(where).parent, None, location.describe)
            yield Chunk.following(batch, start)
            start += batch.num_rows

    def _answer(
        self, rows: pa.RecordBatch, location: SourceLocation, options: Options, counts: Counts
    ) -> pa.RecordBatch:
        arrays, found = self._model.encode(rows, location)
        counts.merge(found)
        return pa.record_batch(self._model.answer(arrays, DEFAULT, options, location))


def _tidied(rows: pa.Table, signature: Signature, where: str) -> pa.Table:
    """The rows as `tables.stream` gives those of an Arrow file."""
    unique_names(rows.column_names, Path(where))
    kinds = kinds_of(signature)
    rows = tables.without_index(rows, kinds)
    for number, name in enumerate(rows.column_names):
        if name in kinds:
            rows = rows.set_column(number, name, plain(rows.column(number)))
    return rows
