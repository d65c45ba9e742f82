"""A model that is ready to predict chunks of rows, from any number of threads."""

import copy
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasks import answers
from tasks.bundle.files import Bundle
from tasks.bundle.signature import Signature, length_of
from tasks.columns import Arrays, SourceLocation
from tasks.counts import Counts
from tasks.drift.counting import Tally
from tasks.drift.reference import Reference, of_bundle
from tasks.encoding import Encoder
from tasks.serving.options import Options
from tasks.session import Device, Session, open_session


class ReadyModel:
    """A session and what encodes its inputs."""

    def __init__(self, session: Session, encoder: Encoder, reference: Reference) -> None:
        self.session = session
        self.reference = reference
        """What the rows of a job are compared with; empty without `profile.json`."""
        self._encoder = encoder
        self._of_thread = threading.local()

    @classmethod
    def open(cls, files: Mapping[str, Path], device: Device, threads: int = 0) -> "ReadyModel":
        """`files` are those of a bundle by their paths in it; `threads` as `open_session` takes it.

        Raises:
            InputError: the signature or tokenizer cannot be read, or CUDA was asked for in vain.
        """
        encoder = Encoder.of(files)
        session = open_session(Bundle(files).model, device, threads)
        return cls(session, encoder, of_bundle(files, encoder.signature))

    @property
    def signature(self) -> Signature:
        return self._encoder.signature

    def encode(
        self, rows: pa.RecordBatch, location: SourceLocation, tally: Tally | None = None
    ) -> tuple[Arrays, Counts]:
        """The inputs of the graph, (N, ...), and the counts of these rows alone; `tally` counts
        them as well.

        Raises:
            BadRows: some rows cannot be encoded.
            InputError: a column is missing or has a wrong type.
        """
        counts = Counts()
        return self.encoder(counts, tally).encode(rows, location), counts

    def encoder(self, counts: Counts, tally: Tally | None = None) -> Encoder:
        """An encoder of this thread alone, which adds to `counts` and `tally`."""
        seen = None if tally is None else tally.add_column
        return Encoder(self.signature, self._tokenizer(), counts, seen)

    def answer(
        self,
        arrays: Arrays,
        batch_size: int,
        options: Options,
        location: SourceLocation,
        tally: Tally | None = None,
    ) -> dict[str, pa.Array]:
        """The columns of predictions for encoded rows, which `tally` counts.

        Rows of different lengths are predicted in the order of their lengths, so that a batch is
        padded to what its own rows need: 1.5 times as fast for texts of 5 to 40 tokens.

        Raises:
            BadRows: an output is NaN or infinite.
        """
        signature = self.signature
        order = _by_length(arrays, signature)
        if order is not None:
            arrays = {name: array[order] for name, array in arrays.items()}
        outputs = self.session.run_all(signature, arrays, signature.problem.predicted, batch_size)
        if order is not None:
            back = np.empty_like(order)
            back[order] = np.arange(len(order))
            outputs = {name: array[back] for name, array in outputs.items()}
        columns = answers.columns_of(self._encoder, outputs, options, location)
        if tally is not None:
            tally.add_predictions(outputs)
        return columns

    def _tokenizer(self) -> Tokenizer | None:
        """One of this thread alone: it holds the length that it truncates to."""
        tokenizer = self._encoder.tokenizer
        if tokenizer is not None and not hasattr(self._of_thread, "tokenizer"):
            self._of_thread.tokenizer = copy.deepcopy(tokenizer)
        found: Tokenizer | None = None if tokenizer is None else self._of_thread.tokenizer
        return found


def _by_length(arrays: Arrays, signature: Signature) -> NDArray[np.int64] | None:
    """The order of rows by their number of timesteps; None where all have the same."""
    lengths = [arrays[length_of(tensor)] for tensor in signature.inputs if None in tensor.shape]
    if not lengths:
        return None
    total = np.sum(lengths, axis=0)
    order: NDArray[np.int64] = np.argsort(total, kind="stable")
    return order
