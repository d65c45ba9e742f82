"""Encodes a user's columns as the input tensors of the graph, in training and in prediction.

Numbers are not scaled here: scaling is inside the graph. Imports no torch.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from tasks.bundle.files import SIGNATURE, TOKENIZER
from tasks.bundle.signature import Signature
from tasks.columns import Arrays, Column, EncodeContext, SourceLocation, with_tensors
from tasks.counts import Counts
from tasks.errors import InputError


@dataclass(frozen=True)
class Encoder:
    """Encodes the columns of `signature` as tensors; text columns need the `tokenizer`."""

    signature: Signature
    tokenizer: Tokenizer | None = None
    counts: Counts = field(default_factory=Counts, compare=False, repr=False)
    """Counts encoded values that were unknown, missing, truncated or out of range."""
    seen: Callable[[Column, Arrays], None] | None = field(default=None, compare=False, repr=False)
    """Gets each column with the arrays of its rows."""

    @classmethod
    def read(cls, folder: Path) -> "Encoder":
        """From the files of a prepared dataset, a checkpoint or a bundle."""
        return cls.of({name: folder / name for name in (SIGNATURE, TOKENIZER)})

    @classmethod
    def of(cls, files: Mapping[str, Path]) -> "Encoder":
        """From the paths of `signature.json` and, for text, `tokenizer.json`."""
        signature = Signature.read(files[SIGNATURE])
        if not signature.tokenized:
            return cls(signature)
        try:
            return cls(signature, Tokenizer.from_file(str(files[TOKENIZER])))
        except Exception as error:  # the library has no narrower class of errors
            raise InputError(f"{files.get(TOKENIZER)} is not a tokenizer: {error}") from error

    def encode(self, batch: pa.RecordBatch | pa.Table, location: SourceLocation) -> Arrays:
        """Inputs by name, each (N, *shape); inputs of variable length are padded with zeros.

        Raises:
            InputError: a column is missing or has the wrong type or shape, or a value is missing
                and has no fill value. The message names file, row and column.
        """
        self.check_names(batch.schema.names, location)
        context = EncodeContext(location, self.signature.read_as, self.tokenizer, self.counts)
        parts: dict[str, list[np.ndarray]] = {}
        for column, tensors in with_tensors(self.signature.columns):
            values = one_array(batch[column.name], not column.takes_dictionary)
            encoded = column.encode(values, context)
            if self.seen is not None:
                self.seen(column, encoded)
            for name, array in encoded.items():
                parts.setdefault(tensors[name].name, []).append(array)
        return {name: _joined(arrays) for name, arrays in parts.items()}

    def check_names(self, names: list[str], location: SourceLocation) -> None:
        """Raises `InputError` if a column of the signature is missing, or a name is duplicated."""
        if len(set(names)) < len(names):
            raise InputError(f"{location.file}: two columns have the same name: {', '.join(names)}")
        columns = self.signature.columns
        for name in (column.name for column in columns):
            if name not in names:
                close = difflib.get_close_matches(name, names, n=1)
                raise InputError(
                    f"{location.file}: no column {name!r}"
                    + (f" (did you mean {close[0]!r}?)" if close else "")
                    + f"; it has {', '.join(names)}. The model takes "
                    + ", ".join(map(str, columns))
                )


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    """Vectors (N, *) side by side: 30 columns in 0.6 of the time of NumPy's `concatenate`."""
    if len(arrays) == 1:
        return arrays[0]
    width = sum(array.shape[1] for array in arrays)
    joined = np.empty((len(arrays[0]), width), np.result_type(*arrays))
    place = 0
    for array in arrays:
        joined[:, place : place + array.shape[1]] = array
        place += array.shape[1]
    return joined


def one_array(column: pa.Array | pa.ChunkedArray, decode: bool = True) -> pa.Array:
    """A column as one array; `decode`: with dictionary encoding resolved."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    coded = pa.types.is_dictionary(column.type)
    return column.dictionary_decode() if decode and coded else column
