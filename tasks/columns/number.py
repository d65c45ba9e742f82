"""Number and boolean columns, and the base class of date columns.

A numeric column becomes one float32 in the tensor `numbers`; scaling is inside the graph.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.columns.base import (
    Arrays,
    CleanColumn,
    Column,
    EncodeContext,
    Fitted,
    Mask,
    RawColumn,
    Tensor,
)
from tasks.columns.distributions import moments
from tasks.columns.narrowing import by_chance, harmful, merged_example, merged_values
from tasks.errors import InputError
from tasks.files.convert import EXACT, Kind, convert
from tasks.measures import Measure
from tasks.reasons import NOT_FINITE

Numeric = TypeVar("Numeric", bound="NumericColumn")


class NumericColumn(Column):
    """One number for each row: the base class of numbers, booleans and dates.

    All fields are in the unit of the column, such as days for dates.
    """

    fill: float | None = None
    """The value for missing ones; without it, a missing value is refused."""
    offset: float = 0.0
    """Subtracted, as float64, before a value becomes float32. Other than 0 only if float32 would
    lose values."""
    low: float | None = None
    high: float | None = None
    """The smallest and largest value of the training split; None in older signatures."""

    fillable: ClassVar[bool] = True
    baseline: ClassVar = "trees"

    @classmethod
    def fit(cls, train: pa.Array, every: pa.ChunkedArray, raw: RawColumn) -> Fitted:
        present = present_in(train, raw)
        low, high = cls._range(present)
        fill = cls._typical(present) if raw.fill else None
        fitted = cls(name=raw.name, kind=str(cls.read_as), fill=fill, low=low, high=high)
        return Fitted(fitted._with_offset(present, every.drop_null().combine_chunks(), raw))

    @classmethod
    def _range(cls, present: pa.Array) -> tuple[float | None, float | None]:
        """The smallest and largest value."""
        if not len(present):
            return None, None
        found = pc.min_max(present).as_py()
        return float(found["min"]), float(found["max"])

    @classmethod
    def _typical(cls, present: pa.Array) -> float:
        """The fill value: the median."""
        return float(np.median(present.cast(pa.float64(), safe=False).to_numpy()))

    def _with_offset(self, train: pa.Array, every: pa.Array, raw: RawColumn) -> Self:
        """Add an offset if float32 would merge values of `every` split. It is computed from the
        training split only.

        Raises:
            InputError: no offset helps; says what to do.
        """
        return self

    def tensors(self) -> tuple[Tensor, ...]:
        return (Tensor(name="numbers", dtype="float32", shape=(1,)),)

    def encode(self, values: pa.Array, context: EncodeContext) -> Arrays:
        location = context.location
        converted = convert(
            values, cast(Kind, self.read_as), self.name, location.describe, context.reading
        )
        array = self.narrow(converted)
        if len(array):
            # Most chunks are as expected, and their ends show it in two passes instead of eight.
            ends = np.array([array.min(), array.max()])  # NaN if one value is
            outside = self._outside(ends, np.zeros(2, bool))
            if np.isfinite(ends).all() and not outside:
                context.counts.add(self.name, len(array), filled=0, outside=outside)
                return {"numbers": array[:, np.newaxis]}
        bad = np.isnan(array)
        if bad.any():
            if self.fill is None:
                raise location.missing(self.name, bad)
            array = np.where(bad, self._narrow_one(self.fill), array)
        if np.isinf(array).any():
            raise location.missing(self.name, np.isinf(array), "infinite", NOT_FINITE)
        outside = self._outside(array, bad)
        context.counts.add(self.name, len(array), filled=int(bad.sum()), outside=outside)
        return {"numbers": array[:, np.newaxis]}

    def narrow(self, values: pa.Array) -> NDArray[np.float32]:
        """Converted values (N,) as float32: minus the offset, with NaN for null."""
        return _to_float32(values.to_numpy(zero_copy_only=False))

    def _narrow_one(self, value: float) -> np.float32:
        """A single number, narrowed like the values."""
        return np.float32(value - self.offset)

    def _outside(self, array: NDArray[np.float32], filled: Mask) -> int | None:
        """How many values are outside the training range; None if no range is recorded."""
        if self.low is None or self.high is None:
            return None
        beyond = (array < self._narrow_one(self.low)) | (array > self._narrow_one(self.high))
        return int((beyond & ~filled).sum())

    def profile(self, values: pa.Array, context: EncodeContext) -> dict[str, Any]:
        found: Mapping[str, Any] = moments(self.encode(values, context)["numbers"])
        # The statistics are of the values minus the offset.
        return {"inputs": {"numbers": {**found, "columns": [self.name], "offset": [self.offset]}}}

    def measures(self) -> tuple[Measure, ...]:
        return (Measure("value", lambda arrays: arrays["numbers"][:, 0], offset=self.offset),)


class NumberColumn(NumericColumn):
    """A number. Whole numbers are stored as int64, others as float64."""

    kind: Literal["number"] = "number"

    arrow_types: ClassVar = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    read_as: ClassVar[Kind | None] = "number"

    @classmethod
    def read(cls, values: pa.ChunkedArray, raw: RawColumn) -> pa.Array | pa.ChunkedArray:
        return values if _beyond(values) else super().read(values, raw)

    @classmethod
    def clean(cls, values: pa.Array, raw: RawColumn) -> CleanColumn:
        """Convert whole numbers to int64, also if the file has them as 1.0."""
        found = CleanColumn.of_numbers(values)
        numbers = found.values
        if (
            pa.types.is_floating(numbers.type)
            and pc.all(
                pc.and_(
                    pc.equal(numbers, pc.round(numbers)),
                    pc.less_equal(pc.abs(numbers), float(EXACT)),
                )
            ).as_py()
        ):
            return CleanColumn(numbers.cast(pa.int64()), found.missing)
        return found

    def _with_offset(self, train: pa.Array, every: pa.Array, raw: RawColumn) -> Self:
        if self.low is None or self.high is None:
            return self
        # Candidates: the median, and the middle of the range.
        offsets = [self._typical(train), (self.low + self.high) / 2]
        whole = [float(np.floor(offset)) for offset in offsets]
        return with_offset(self, whole, every, every.to_numpy(zero_copy_only=False), raw)

    def narrow(self, values: pa.Array) -> NDArray[np.float32]:
        found = values.to_numpy(zero_copy_only=False)
        if self.offset:
            found = found.astype(np.float64) - self.offset
        return _to_float32(found)


class BooleanColumn(NumericColumn):
    """True or false, as 1 and 0."""

    kind: Literal["boolean"] = "boolean"

    arrow_types: ClassVar = (pa.types.is_boolean,)
    read_as: ClassVar[Kind | None] = "boolean"

    @classmethod
    def _range(cls, present: pa.Array) -> tuple[float | None, float | None]:
        return None, None

    @classmethod
    def _typical(cls, present: pa.Array) -> float:
        """The more frequent one."""
        return float(pc.mean(present).as_py() > 0.5)

    def narrow(self, values: pa.Array) -> NDArray[np.float32]:
        return super().narrow(values.cast(pa.uint8()))

    def _outside(self, array: NDArray[np.float32], filled: Mask) -> int | None:
        return 0


def present_in(train: pa.Array, raw: RawColumn) -> pa.Array:
    """The values of the training split that are not missing.

    Raises:
        InputError: there are none, so missing values cannot be filled.
    """
    present = train.drop_null()
    if raw.fill and not len(present):
        raise InputError(
            f"{raw.where}: column {raw.name!r} has no value in the training split, so missing "
            "values cannot be filled. Name it in prepare.source.ignore."
        )
    return present


def with_offset(
    column: Numeric, offsets: list[float], present: pa.Array, exact: NDArray[Any], raw: RawColumn
) -> Numeric:
    """The column with the one of `offsets` with which float32 merges the fewest values.

    `present` are the values of all splits, `exact` (N,) the same values as exact numbers. A column
    without merged values gets no offset.

    Raises:
        InputError: too many values would still become equal.
    """
    values, indices = np.unique(exact, return_index=True)
    kind = cast(Kind, column.read_as)
    unique = convert(present.take(pa.array(indices)), kind, column.name, raw.describe, raw.reading)
    lost = merged_values(values, column.narrow(unique))
    if not lost.any():
        return column
    fitted = [column.model_copy(update={"offset": offset}) for offset in (0.0, *offsets)]
    each = [merged_values(values, candidate.narrow(unique)) for candidate in fitted]
    best = min(range(len(each)), key=lambda n: each[n].sum())
    matter = harmful(each[best], values, fitted[best].narrow(unique))
    if matter.sum() > by_chance(len(values)):
        shown = values if kind == "number" else unique.to_numpy(zero_copy_only=False)
        raise InputError(
            f"{raw.where}: column {column.name!r}: {merged_example(shown, matter)}. Split it "
            "into several columns, such as the day and the second of the day; set "
            f"prepare.source.columns: {{{column.name}: category}}; or, if it is an identifier, "
            "name it in prepare.source.ignore"
        )
    # Without need, an offset must keep at least three quarters of the merged values apart.
    needed = harmful(lost, values, column.narrow(unique)).sum() > by_chance(len(values))
    return fitted[best] if needed or 4 * each[best].sum() < lost.sum() else column


def _to_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # too large values become infinite, which is refused later
        array: NDArray[np.float32] = values.astype(np.float32, copy=False)
    return array


def _beyond(column: pa.ChunkedArray) -> bool:
    """Whether there are integers that float64 cannot represent."""
    if not pa.types.is_integer(column.type):
        return False
    lowest, highest = pc.min_max(column).as_py().values()
    return lowest is not None and max(-lowest, highest) > EXACT
