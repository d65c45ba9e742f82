"""Finds values that would become equal as float32, the type of network inputs.

float32 has 24 bits of precision: the next number after 1,700,000,000 is 1,700,000,128. Where this
would lose values, a column is encoded as the distance from an `offset` in the signature.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT = 2**53  # float64 represents every whole number up to this
NOISE = 2.0**-48  # relative; float64 values that are closer differ only by rounding
FINE = 2.0**-10  # of the span of the values around a fraction; what is rounded away is less
Values = NDArray[Any]


def all_whole(values: Values) -> bool:
    """Whether all values are whole numbers (counts, seconds, ids): every difference matters."""
    if values.dtype.kind in "iu":
        return True
    return bool((values == np.rint(values)).all() and (np.abs(values) <= EXACT).all())


def merged_values(values: Values, encoded: Values) -> NDArray[np.bool_]:
    """(N - 1,): which of the sorted distinct `values` (N,) have the same float32 as the next.

    For fractions, differences up to rounding do not count.
    """
    if len(values) < 2:
        return np.zeros(0, bool)
    equal: NDArray[np.bool_] = np.diff(encoded) == 0
    if all_whole(values):
        return equal
    size = np.maximum(np.abs(values[:-1]), np.abs(values[1:]))
    return equal & (np.diff(values) > NOISE * size)


def harmful(lost: NDArray[np.bool_], values: Values, encoded: Values) -> NDArray[np.bool_]:
    """(N - 1,): those of the `lost` values, as `merged_values` returns them, that matter.

    All whole numbers do. Of fractions, those do not where float32 is fine enough for the values
    around: 3556.401479 and 3556.401482 become equal, which is no loss for lengths of 100 to 5000.
    """
    if len(values) < 2 or all_whole(values):
        return lost
    return lost & (np.spacing(np.abs(encoded[:-1])) > FINE * spans(encoded)[:-1])


def spans(encoded: Values) -> NDArray[np.float64]:
    """(N,): from lowest to highest of the quarter of the sorted `encoded` (N,) around each.

    Not of all: beside a 0 for "unknown", each time of a day is about the same number.
    """
    ranks, width = np.arange(len(encoded)), max(1, len(encoded) // 8)
    low, high = np.maximum(ranks - width, 0), np.minimum(ranks + width, len(encoded) - 1)
    wide = encoded.astype(np.float64)
    found: NDArray[np.float64] = wide[high] - wide[low]
    return found


def by_chance(distinct: int) -> int:
    """How many of `distinct` values may become equal; 0 below 2048 values.

    Of many random numbers, some are closer to each other than float32 resolves. How many grows with
    the square of their number.
    """
    return distinct**2 >> 22


def merged_example(values: Values, lost: NDArray[np.bool_]) -> str:
    """For a message: how many values are lost, and two that would become equal."""
    first = int(np.argmax(lost))
    return (
        f"{int(lost.sum())} of its {len(values)} distinct values would become equal to another "
        f"one as float32, the type of network inputs, for instance {values[first]} and "
        f"{values[first + 1]}"
    )
