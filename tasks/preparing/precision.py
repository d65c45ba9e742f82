"""Does a column of numbers survive float32, in which networks count?

A float32 has 24 bits: of Unix times of one minute, or of dates to the second, most become equal.
Less an offset that lies among them, they stay apart.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.errors import InputError

# Of numbers with a fraction, as many as this may become equal to a neighbour: among a million
# random ones some do, at distances of a ten-millionth of their range.
SHARE = 0.01
MANY = 100_000


def offset_of(
    train: NDArray[np.float64], every: NDArray[np.float64], *, accepted: bool, name: str
) -> float:
    """What to subtract from a column, in float64, before it becomes float32.

    0 where float32 keeps all of its values apart as they are. `train` (N,) are the values of the
    training split, from which the offset is taken, `every` (M,) those of all splits, none of them
    missing. Values that would still become equal are refused, unless the column was `accepted`.

    Raises:
        InputError: float32 cannot keep the values apart; says how many, and what to do.
    """
    distinct = np.unique(every)
    kept = _kept(distinct, 0.0)
    if kept == len(distinct):
        return 0.0
    offset = float(np.median(train))
    kept_less_offset = _kept(distinct, offset)
    if kept_less_offset <= kept:
        offset, kept_less_offset = 0.0, kept
    lost = len(distinct) - kept_less_offset
    whole = bool((distinct == np.rint(distinct)).all())
    harmless = not whole and (lost <= SHARE * len(distinct) or kept_less_offset > MANY)
    if lost and not accepted and not harmless:
        raise InputError(
            f"column {name!r} has {len(distinct):,} distinct values from {distinct[0]:.17g} to "
            f"{distinct[-1]:.17g}, of which float32, in which networks count, keeps only "
            f"{kept_less_offset:,} apart. Name an identifier in prepare.source.ignore, split the "
            "column in two (such as day and second), or accept what is lost with "
            f"prepare.source.columns: {{{name}: number}} (or date, or category)"
        )
    return offset


def refuse_inexact(values: Any, name: str) -> None:
    """Raises `InputError` where whole numbers, (N,) integers, are not all distinct as float64."""
    low, high = (abs(bound or 0) for bound in pc.min_max(values).as_py().values())
    if max(low, high) <= 2**53:
        return
    distinct = pc.unique(values)
    if len(pc.unique(distinct.cast(pa.float64(), safe=False))) < len(distinct):
        raise InputError(
            f"column {name!r} has whole numbers beyond 2^53, up to {max(low, high)}, which no "
            "network can tell from their neighbours. Name an identifier in "
            "prepare.source.ignore; a true category in prepare.source.columns"
        )


def _kept(distinct: NDArray[np.float64], offset: float) -> int:
    """How many of sorted distinct values (N,) are still distinct as float32, less an offset."""
    return 1 + int(np.count_nonzero(np.diff((distinct - offset).astype(np.float32))))
