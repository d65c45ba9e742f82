"""Date columns: days since 1970-01-01 (UTC), one float32 in the tensor `numbers`."""

from typing import ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.columns.base import RawColumn
from tasks.columns.number import NumericColumn, with_offset
from tasks.files.convert import Kind

MICROSECONDS_OF_A_DAY = 86_400e6


class DateColumn(NumericColumn):
    """A date, or a date with a time; fill, offset and range are in days."""

    kind: Literal["date"] = "date"

    arrow_types: ClassVar = (pa.types.is_date, pa.types.is_timestamp)
    read_as: ClassVar[Kind | None] = "date"

    @classmethod
    def _range(cls, present: pa.Array) -> tuple[float | None, float | None]:
        low, high = super()._range(present.cast(pa.int64()))
        if low is None or high is None:
            return None, None
        return low / MICROSECONDS_OF_A_DAY, high / MICROSECONDS_OF_A_DAY

    @classmethod
    def _typical(cls, present: pa.Array) -> float:
        return super()._typical(present.cast(pa.int64())) / MICROSECONDS_OF_A_DAY

    def _with_offset(self, train: pa.Array, every: pa.Array, raw: RawColumn) -> Self:
        if self.low is None or self.high is None:
            return self
        offsets = [self._typical(train), (self.low + self.high) / 2]
        moments = every.cast(pa.int64()).to_numpy(zero_copy_only=False)
        return with_offset(self, offsets, every, moments, raw)

    def narrow(self, values: pa.Array) -> NDArray[np.float32]:
        moments = values.cast(pa.int64())
        if self.offset:  # subtracted in whole microseconds: float64 days would lose precision
            moments = pc.subtract(moments, _microseconds(self.offset))
        return super().narrow(
            pc.divide(moments.cast(pa.float64(), safe=False), MICROSECONDS_OF_A_DAY)
        )

    def _narrow_one(self, value: float) -> np.float32:
        if not self.offset:
            return np.float32(value)
        distance = _microseconds(value) - _microseconds(self.offset)
        return np.float32(distance / MICROSECONDS_OF_A_DAY)


def _microseconds(days: float) -> int:
    return round(days * MICROSECONDS_OF_A_DAY)
