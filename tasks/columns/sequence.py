"""Sequence columns: lists of numbers, or of lists with the same number of numbers each."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasks.columns.base import (
    LENGTH,
    Arrays,
    CleanColumn,
    Column,
    EncodeContext,
    Fitted,
    RawColumn,
    Tensor,
)
from tasks.columns.distributions import moments
from tasks.columns.narrowing import by_chance, harmful, merged_example, merged_values
from tasks.errors import InputError
from tasks.files import npz, suffixes
from tasks.files.sequences import Timesteps, not_finite, pack
from tasks.measures import Measure
from tasks.reasons import NOT_FINITE, WRONG_LENGTH

if TYPE_CHECKING:
    from tasks.config import Source

MAX_LENGTH = 512  # timesteps, if the source has no `max_length`


BASELINE_POINTS = 64
"""Timesteps to which the quick model stretches every sequence, so that lengths are equal."""


class SequenceColumn(Column):
    """A sequence of timesteps of `features` numbers each.

    It becomes the tensors `sequence` (time, features) float32 and `length`.
    """

    kind: Literal["sequence"] = "sequence"
    features: int
    max_length: int
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    """The smallest and largest value of each feature in the training split, in timesteps that are
    not truncated; None in older signatures."""

    data: ClassVar[str] = "sequence"
    reads_text: ClassVar[bool] = False
    cleaned_as_read: ClassVar[bool] = True
    equal_is_copy: ClassVar[bool] = True
    file_forms: ClassVar[tuple[str, ...]] = (suffixes.ARRAYS,)
    is_array: ClassVar[bool] = True
    baseline: ClassVar = "neighbours"
    baseline_sees: ClassVar[str] = f"{BASELINE_POINTS} points of each sequence"

    @classmethod
    def read(cls, values: pa.ChunkedArray, raw: RawColumn) -> pa.Array | pa.ChunkedArray:
        """Convert to list<fixed_size_list<float32>[F]>; a missing number becomes NaN."""
        found = Timesteps.of(values.combine_chunks())
        refusal = InputError(
            f"{raw.where}: column {raw.name!r} is {values.type}; a list of numbers, or a list of "
            "lists of equal length, is expected"
        )
        if found is None:
            raise refusal
        width = int(found.widths[0]) if len(found.widths) else 1
        uneven = found.widths != width
        if uneven.any() or not width:
            first = np.argmax(uneven)
            raise InputError(
                f"{raw.describe(int(found.row_of()[first]))}: column {raw.name!r} has a timestep "
                f"of {found.widths[first]} numbers; the first timestep has {width}, and all must "
                "have the same"
            )
        kind = found.numbers.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise refusal
        exact = found.numbers.to_numpy(zero_copy_only=False).reshape(-1, width)
        refuse_equal_in_float32(exact, raw.where, raw.name)
        return pack(found.matrix().reshape(-1, width), found.length)

    @classmethod
    def clean(cls, values: pa.Array, raw: RawColumn) -> CleanColumn:
        """Missing: sequences without timesteps, or with a number that is NaN or infinite."""
        found = _packed(values)
        return CleanColumn(
            values, (found.length == 0) | found.rows_with(not_finite(found.matrix()))
        )

    @classmethod
    def fit(cls, train: pa.Array, every: pa.ChunkedArray, raw: RawColumn) -> Fitted:
        found = _packed(train)
        most = int(getattr(raw.source, "max_length", MAX_LENGTH))
        kept = found.matrix()[found.position() < most]
        return Fitted(
            cls(
                name=raw.name,
                features=train.type.value_type.list_size,
                max_length=most,
                low=tuple(kept.min(axis=0).tolist()) if len(kept) else None,
                high=tuple(kept.max(axis=0).tolist()) if len(kept) else None,
            )
        )

    def read_file(
        self, form: str, path: Path, members: Mapping[str, str], start: int, size: int
    ) -> Iterator[pa.RecordBatch]:
        sequences = npz.sequences(npz.load(path, "sequences"), path)
        for place in range(start, len(sequences), size):
            yield pa.record_batch({self.name: sequences[place : place + size]})

    def of_arrays(self, values: Any, where: Path) -> pa.Array | None:
        if isinstance(values, list):  # of any lengths
            return pa.array([v.tolist() if isinstance(v, np.ndarray) else v for v in values])
        return npz.sequences({"sequences": values}, where)

    def describe(self) -> str:
        return f"sequence of timesteps of {self.features} numbers"

    def tensors(self) -> tuple[Tensor, ...]:
        return Tensor(name="sequence", dtype="float32", shape=(None, self.features)), LENGTH

    def encode(self, values: pa.Array, context: EncodeContext) -> Arrays:
        location, name = context.location, self.name
        expected = f"a list of numbers, or of lists of {self.features} numbers,"
        found = Timesteps.of(values)
        if found is None:
            raise location.wrong_type(name, values, expected)
        if not found.length.all():
            raise location.missing(name, found.length == 0, "empty or missing")
        if not found.nested and self.features != 1:
            raise location.wrong_type(name, values, expected)
        wrong = found.widths != self.features
        if wrong.any():
            what = f"a sequence with timesteps that do not have {self.features} numbers"
            raise location.missing(name, found.rows_with(wrong), what, WRONG_LENGTH)
        try:
            flat = found.matrix().reshape(-1, self.features)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise location.wrong_type(name, values, expected) from error
        bad = not_finite(flat)
        if bad.any():
            what = "missing, NaN or infinite in a timestep"
            raise location.missing(name, found.rows_with(bad), what, NOT_FINITE)
        kept = np.minimum(found.length, self.max_length)
        sequence = np.zeros((len(kept), kept.max(initial=1), self.features), np.float32)
        starts = np.concatenate([[0], np.cumsum(found.length)[:-1]])
        for row, (start, count) in enumerate(zip(starts, kept, strict=True)):
            sequence[row, :count] = flat[start : start + count]
        context.counts.add(
            name,
            len(kept),
            truncated=int((kept < found.length).sum()),
            outside=self._outside(sequence, kept),
        )
        return {"sequence": sequence, "length": kept}

    def _outside(self, sequence: NDArray[np.float32], length: NDArray[np.int64]) -> int | None:
        """How many of `sequence` (N, time, features) have a timestep outside the training range;
        None if no range is recorded.
        """
        if self.low is None or self.high is None:
            return None
        low, high = np.array(self.low, np.float32), np.array(self.high, np.float32)
        beyond = (sequence < low) | (sequence > high)
        return int((beyond.any(axis=2) & _valid(sequence, length)).any(axis=1).sum())

    def lengths(
        self, values: pa.Array, tokenizer: Tokenizer | None
    ) -> tuple[NDArray[np.int64], dict[str, Any]] | None:
        return _packed(values).length, {}

    def profile(self, values: pa.Array, context: EncodeContext) -> dict[str, Any]:
        encoded = self.encode(values, context)
        sequence, length = encoded["sequence"], encoded["length"]
        return {"inputs": {"sequence": moments(sequence[_valid(sequence, length)])}}

    def measures(self) -> tuple[Measure, ...]:
        means = (
            Measure(f"mean of {feature}", partial(_mean, feature), computed=True)
            for feature in range(self.features)
        )
        return Measure("length", lambda arrays: arrays["length"]), *means

    def linear_features(
        self, values: pa.Array, context: EncodeContext, source: "Source"
    ) -> tuple[Any, Any]:
        """(N, 4 F): mean, standard deviation, minimum and maximum of each feature over time."""
        from sklearn.preprocessing import StandardScaler

        encoded = self.encode(values, context)
        sequence, length = encoded["sequence"], encoded["length"]
        padding = ~_valid(sequence, length)[..., np.newaxis]
        masked = np.ma.array(sequence, mask=np.broadcast_to(padding, sequence.shape))
        parts = [masked.mean(axis=1), masked.std(axis=1), masked.min(axis=1), masked.max(axis=1)]
        matrix = np.hstack([np.asarray(part) for part in parts]).astype(np.float32)
        return StandardScaler(), matrix

    def baseline_features(self, values: pa.Array, context: EncodeContext) -> tuple[Any, Any]:
        """(N, points * F): each sequence at evenly spaced times, and each feature in parts of its
        range in training, so that none outweighs the others."""
        encoded = self.encode(values, context)
        sequence, length = encoded["sequence"].astype(np.float64), encoded["length"]
        time = np.linspace(0.0, 1.0, BASELINE_POINTS) * (length[:, np.newaxis] - 1)
        before = np.floor(time).astype(np.int64)
        after = np.minimum(before + 1, length[:, np.newaxis] - 1)
        share = (time - before)[..., np.newaxis]
        row = np.arange(len(sequence))[:, np.newaxis]
        points = sequence[row, before] * (1 - share) + sequence[row, after] * share
        if self.low is not None and self.high is not None:
            low, high = np.array(self.low), np.array(self.high)
            points = (points - low) / np.where(high > low, high - low, 1.0)
        return "passthrough", points.reshape(len(points), -1).astype(np.float32)

    def baseline_cells(self, values: pa.Array) -> float:
        return BASELINE_POINTS * self.features


def refuse_equal_in_float32(steps: NDArray[Any], where: str, name: str) -> None:
    """Raises `InputError` if too many numbers of `steps` (..., F) are equal as float32."""
    single = steps.astype(np.float32)
    if steps.dtype.itemsize <= 2 or (single == steps).all():
        return
    for feature, numbers in enumerate(steps.reshape(-1, steps.shape[-1]).T):
        values = np.unique(numbers[np.isfinite(numbers)])
        encoded = values.astype(np.float32)
        lost = harmful(merged_values(values, encoded), values, encoded)
        if lost.sum() > by_chance(len(values)):
            raise InputError(
                f"{where}: feature {feature} of the timesteps of {name!r}: "
                f"{merged_example(values, lost)}. Subtract a constant, such as the first time of "
                "each sequence, or leave the feature out"
            )


def _packed(values: pa.Array) -> Timesteps:
    """The timesteps of a column that `read` returned."""
    found = Timesteps.of(values)
    assert found is not None
    return found


def _mean(feature: int, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """(N,): the mean of a feature over the timesteps of each row.

    Added one by one: NumPy's `sum` adds in an order that depends on the padding, which depends on
    the other rows.
    """
    total = arrays["sequence"][:, :, feature].astype(np.float64).cumsum(axis=1)[:, -1]
    mean: NDArray[np.float64] = total / arrays["length"]
    return mean


def _valid(sequence: NDArray[Any], length: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N, time), False on padding."""
    return np.arange(sequence.shape[1]) < length[:, np.newaxis]
