"""Numbers as float32, in which networks count: which values would become equal, and what helps.

float32 has 24 bits: it holds 1,700,000,000 and the next larger number is 1,700,000,128. Where that
would lose values, a column is encoded as its distance from an `offset` of the signature.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT = 2**53  # to here float64 has every whole number
NOISE = 2.0**-48  # of a float64: what is closer differs by rounding alone
Values = NDArray[Any]


def whole(values: Values) -> bool:
    """Whether these are counts, seconds or ids, where every difference means something."""
    if values.dtype.kind in "iu":
        return True
    return bool((values == np.rint(values)).all() and (np.abs(values) <= EXACT).all())


def merged(values: Values, encoded: Values, least: float = 0.0) -> NDArray[np.bool_]:
    """Of sorted distinct `values` (N,), (N - 1,): which have the same float32 as the next one.

    Differences of fractions up to rounding, or up to `least`, do not count.
    """
    if len(values) < 2:
        return np.zeros(0, bool)
    equal: NDArray[np.bool_] = np.diff(encoded) == 0
    if whole(values):
        return equal
    size = np.maximum(np.abs(values[:-1]), np.abs(values[1:]))
    return equal & (np.diff(values) > np.maximum(NOISE * size, least))


def by_chance(distinct: int) -> int:
    """How many of `distinct` values may become equal.

    Among many random numbers some are closer to each other than float32 resolves, at the square
    of how many there are. None below 2048.
    """
    return distinct**2 >> 22


def example(values: Values, lost: NDArray[np.bool_]) -> str:
    """For a message: how many are lost, and two that would be one."""
    first = int(np.argmax(lost))
    return (
        f"{int(lost.sum())} of its {len(values)} distinct values would become equal to another "
        f"one as float32, in which networks count, for instance {values[first]} and "
        f"{values[first + 1]}"
    )
