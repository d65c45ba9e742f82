"""From a user's columns to the tensors of the graph: the same code in training and in prediction.

Numbers stay raw: scaling is inside the graph. Needs no torch.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasks.counts import Counts
from tasks.errors import InputError
from tasks.files.convert import convert
from tasks.files.reading import Reading
from tasks.files.spelling import without_blank, without_na
from tasks.signature import (
    UNKNOWN,
    CategoryColumn,
    Column,
    ImageColumn,
    NumberColumn,
    SequenceColumn,
    Signature,
    TextColumn,
)

TOKENIZER = "tokenizer.json"
MICROSECONDS_OF_A_DAY = 86_400e6
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Place:
    """Where a batch of rows lies, for messages: a file, and the number of its first row."""

    file: str
    first: int = 0

    def describe(self, row: int) -> str:
        """A row of the batch: `new/a.csv, row 17`."""
        return f"{self.file}, row {self.first + row}"

    def missing(self, column: Column, bad: NDArray[np.bool_], what: str = "missing") -> InputError:
        row = self.first + int(np.argmax(bad))
        return InputError(
            f"{self.file}: row {row} of column {column.name!r} is {what}; "
            f"fill or remove such rows ({int(bad.sum())} in this batch)"
        )


@dataclass(frozen=True)
class Encoder:
    """Makes the inputs of `signature`; `tokenizer` where there is text."""

    signature: Signature
    tokenizer: Tokenizer | None = None
    counts: Counts = field(default_factory=Counts, compare=False, repr=False)
    """Of all that was encoded: values that were unknown, missing, cut or outside the range."""

    @classmethod
    def read(cls, folder: Path) -> "Encoder":
        """From the files of a prepared dataset, a checkpoint or a bundle."""
        return cls.of({name: folder / name for name in ("signature.json", TOKENIZER)})

    @classmethod
    def of(cls, files: Mapping[str, Path]) -> "Encoder":
        """From `signature.json` and, for text, `tokenizer.json`, wherever they lie."""
        signature = Signature.read(files["signature.json"])
        if signature.kind != "text":
            return cls(signature)
        try:
            return cls(signature, Tokenizer.from_file(str(files[TOKENIZER])))
        except Exception as error:  # the library raises nothing narrower
            raise InputError(f"{files.get(TOKENIZER)} is no tokenizer: {error}") from error

    def encode(self, batch: pa.RecordBatch | pa.Table, place: Place) -> Arrays:
        """Inputs by name, batch first, each (N, *shape); varying ones padded with zeros.

        Raises:
            InputError: a column is missing, has another type or shape, or a value is missing and
                none stands for it; names file, row and column.
        """
        columns = self.signature.columns
        self._check_names(batch.schema.names, place)
        found = {c.name: _flat(batch[c.name]) for c in columns}
        first = columns[0]
        if isinstance(first, ImageColumn):
            self.counts.add(first.name, batch.num_rows)
            return {first.name: _images(found[first.name], first, place)}
        if isinstance(first, TextColumn):
            return self._tokens(found[first.name], first, place)
        if isinstance(first, SequenceColumn):
            return _sequences(found[first.name], first, place, self.counts)
        numbers = [
            _numbers(found[c.name], c, place, self.signature.read_as, self.counts)
            for c in columns
            if isinstance(c, NumberColumn)
        ]
        codes = [
            _codes(found[c.name], c, place, self.signature.read_as, self.counts)
            for c in columns
            if isinstance(c, CategoryColumn)
        ]
        arrays: Arrays = {}
        if numbers:
            arrays["numbers"] = np.stack(numbers, axis=1)
        if codes:
            arrays["categories"] = np.stack(codes, axis=1)
        return arrays

    def _check_names(self, names: list[str], place: Place) -> None:
        if len(set(names)) < len(names):
            raise InputError(f"{place.file}: two columns have the same name: {', '.join(names)}")
        columns = self.signature.columns
        for name in (column.name for column in columns):
            if name not in names:
                close = difflib.get_close_matches(name, names, n=1)
                raise InputError(
                    f"{place.file}: no column {name!r}"
                    + (f" (did you mean {close[0]!r}?)" if close else "")
                    + f"; it has {', '.join(names)}. The model takes "
                    + ", ".join(map(str, columns))
                )

    def _tokens(self, column: pa.Array, spec: TextColumn, place: Place) -> Arrays:
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise _wrong_type(column, spec, place, "text")
        column = without_blank(without_na(column, self.signature.read_as))
        if column.null_count:
            raise place.missing(spec, column.is_null().to_numpy(zero_copy_only=False))
        assert self.tokenizer is not None
        self.tokenizer.enable_truncation(spec.max_length)
        encoded = self.tokenizer.encode_batch_fast(column.to_pylist())
        length = np.array([len(e.ids) for e in encoded], np.int64)
        tokens = np.zeros((len(encoded), max(1, length.max(initial=1))), np.int64)
        for row, e in enumerate(encoded):
            tokens[row, : len(e.ids)] = e.ids
        unknown = (tokens == UNKNOWN).any(axis=1)
        self.counts.add(
            spec.name,
            len(encoded),
            tokens=int(length.sum()) - len(encoded),  # without each text's beginning
            unknown_tokens=int((tokens == UNKNOWN).sum()),
            truncated=sum(bool(e.overflowing) for e in encoded),
        )
        if unknown.any() and self.counts.wants(spec.name):
            texts = column.take(pa.array(np.flatnonzero(unknown)[:3])).to_pylist()
            self.counts.show(spec.name, [text[:40] for text in texts])
        return {"tokens": tokens, "length": length}


def _flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array, its dictionary resolved."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _wrong_type(column: pa.Array, spec: Column, place: Place, wanted: str) -> InputError:
    return InputError(f"{place.file}: column {spec.name!r} is {column.type}; {wanted} is wanted")


def _numbers(
    column: pa.Array, spec: NumberColumn, place: Place, reading: Reading, counts: Counts
) -> NDArray[np.float32]:
    """(N,) float32; dates as days."""
    values = convert(column, spec.kind, spec.name, place.describe, reading)
    array = narrowed(values, spec)
    bad = np.isnan(array)
    if bad.any():
        if spec.fill is None:
            raise place.missing(spec, bad)
        array = np.where(bad, _narrow(spec.fill, spec), array)
    if np.isinf(array).any():
        raise place.missing(spec, np.isinf(array), "infinite")
    counts.add(spec.name, len(array), filled=int(bad.sum()), outside=_outside(array, bad, spec))
    return array


def _outside(
    array: NDArray[np.float32], filled: NDArray[np.bool_], spec: NumberColumn
) -> int | None:
    """How many given values are not within the training range; None where none is recorded."""
    if spec.kind == "boolean":
        return 0
    if spec.low is None or spec.high is None:
        return None
    beyond = (array < _narrow(spec.low, spec)) | (array > _narrow(spec.high, spec))
    return int((beyond & ~filled).sum())


def narrowed(values: pa.Array, spec: NumberColumn) -> NDArray[np.float32]:
    """(N,) float32 of what `convert` gave: less the offset, a null as NaN."""
    if spec.kind == "boolean":
        values = values.cast(pa.uint8())
    elif spec.kind == "date":
        moments = values.cast(pa.int64())
        if spec.offset:  # whole microseconds, of which float64 has few enough then
            moments = pc.subtract(moments, _microseconds(spec.offset))
        days = moments.cast(pa.float64(), safe=False)
        values = pc.divide(days, MICROSECONDS_OF_A_DAY)
    found = values.to_numpy(zero_copy_only=False)
    if spec.kind == "number" and spec.offset:
        found = found.astype(np.float64) - spec.offset
    with np.errstate(over="ignore"):  # to infinity, which is refused
        array: NDArray[np.float32] = found.astype(np.float32, copy=False)
    return array


def _narrow(value: float, spec: NumberColumn) -> np.float32:
    """A number of the signature as `narrowed` has it."""
    if spec.offset and spec.kind == "date":
        distance = _microseconds(value) - _microseconds(spec.offset)
        return np.float32(distance / MICROSECONDS_OF_A_DAY)
    return np.float32(value - spec.offset)


def _microseconds(days: float) -> int:
    return round(days * MICROSECONDS_OF_A_DAY)


def _codes(
    column: pa.Array, spec: CategoryColumn, place: Place, reading: Reading, counts: Counts
) -> NDArray[np.int64]:
    """(N,) int64: 1 and up for known values, 0 for others."""
    text = convert(column, "category", spec.name, place.describe, reading)
    filled = text.null_count
    if filled:
        if spec.fill is None:
            raise place.missing(spec, text.is_null().to_numpy(zero_copy_only=False))
        text = text.fill_null(spec.fill)
    codes = pc.index_in(text, value_set=pa.array(spec.values, pa.string())).fill_null(-1)
    result: NDArray[np.int64] = codes.to_numpy().astype(np.int64) + 1
    unknown = np.flatnonzero(result == 0)
    counts.add(spec.name, len(result), unknown=len(unknown), filled=filled)
    if len(unknown) and counts.wants(spec.name):
        counts.show(spec.name, text.take(pa.array(unknown)).unique()[:3].to_pylist())
    return result


def _images(column: pa.Array, spec: ImageColumn, place: Place) -> NDArray[Any]:
    """(N, H, W, C) as `spec` has it, without a copy where Arrow's layout allows."""
    tensor = isinstance(column.type, pa.FixedShapeTensorType)
    storage = column.storage if tensor else column
    values = storage.flatten() if pa.types.is_fixed_size_list(storage.type) else storage
    if column.null_count:
        raise place.missing(spec, column.is_null().to_numpy(zero_copy_only=False))
    if values.null_count:  # within a row
        gone = values.is_null().to_numpy(zero_copy_only=False).reshape(len(column), -1)
        raise place.missing(spec, gone.any(axis=1))
    array = column.to_numpy_ndarray() if tensor else _unpack(column, values, spec)
    if array is None or str(array.dtype) != spec.dtype or array.shape[1:] != spec.shape:
        given = str(column.type)
        if tensor and array is not None:
            given = f"{array.dtype}[{', '.join(map(str, array.shape[1:]))}]"
        width = math.prod(spec.shape)
        raise InputError(
            f"{place.file}: column {spec.name!r} is {given}; the model takes {spec}, as a "
            f"fixed-shape tensor, a list of fixed size {width}"
            + (f" or binary of {width} bytes" if spec.dtype == "uint8" else "")
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        raise place.missing(spec, bad, "NaN or infinite")
    return array


def _unpack(column: pa.Array, values: pa.Array, spec: ImageColumn) -> NDArray[Any] | None:
    """Images from a list or binary column of fixed size; None if it is neither, or of another."""
    kind, width = column.type, math.prod(spec.shape)
    if pa.types.is_fixed_size_list(kind) and kind.list_size == width:
        if pa.types.is_boolean(kind.value_type):
            return None
        flat: NDArray[Any] = values.to_numpy()
    elif pa.types.is_fixed_size_binary(kind) and kind.byte_width == width:
        start = column.offset * width
        flat = np.frombuffer(column.buffers()[1], np.uint8)[start : start + len(column) * width]
    else:
        return None
    return flat.reshape(len(column), *spec.shape)


def _sequences(column: pa.Array, spec: SequenceColumn, place: Place, counts: Counts) -> Arrays:
    """`sequence` (N, longest, features) float32 and `length` (N,) int64."""
    wanted = f"a list of numbers, or of lists of {spec.features} numbers,"
    if not _is_list(column.type):
        raise _wrong_type(column, spec, place, wanted)
    length = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
    if not length.all():
        raise place.missing(spec, length == 0, "empty or missing")
    # What flatten() gives begins at this slice's first step.
    steps = column.flatten()
    if isinstance(steps.type, pa.FixedShapeTensorType):
        steps = steps.storage
    if _is_list(steps.type):
        widths = pc.list_value_length(steps).fill_null(0).to_numpy()
        row_of = np.repeat(np.arange(len(length)), length)
        if (widths != spec.features).any():
            bad = np.zeros(len(length), bool)
            bad[row_of[widths != spec.features]] = True
            raise place.missing(spec, bad, f"of steps that are not {spec.features} numbers")
        steps = steps.flatten()
    elif spec.features != 1:
        raise _wrong_type(column, spec, place, wanted)
    try:
        flat = steps.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _wrong_type(column, spec, place, wanted) from error
    flat = flat.reshape(-1, spec.features)
    if not np.isfinite(flat).all():
        bad = np.zeros(len(length), bool)
        bad[np.repeat(np.arange(len(length)), length)[~np.isfinite(flat).all(axis=1)]] = True
        raise place.missing(spec, bad, "missing, NaN or infinite in a step")
    kept = np.minimum(length, spec.max_length)
    sequence = np.zeros((len(length), kept.max(initial=1), spec.features), np.float32)
    starts = np.concatenate([[0], np.cumsum(length)[:-1]])
    for row, (start, count) in enumerate(zip(starts, kept, strict=True)):
        sequence[row, :count] = flat[start : start + count]
    outside = _rows_outside(sequence, kept, spec)
    counts.add(spec.name, len(length), truncated=int((kept < length).sum()), outside=outside)
    return {"sequence": sequence, "length": kept}


def _rows_outside(
    sequence: NDArray[np.float32], length: NDArray[np.int64], spec: SequenceColumn
) -> int | None:
    """How many of `sequence` (N, steps, features) have a step that is not within the training
    range; None where none is recorded.
    """
    if spec.low is None or spec.high is None:
        return None
    low, high = np.array(spec.low, np.float32), np.array(spec.high, np.float32)
    beyond = (sequence < low) | (sequence > high)
    there = np.arange(sequence.shape[1]) < length[:, np.newaxis]
    return int((beyond.any(axis=2) & there).any(axis=1).sum())


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
