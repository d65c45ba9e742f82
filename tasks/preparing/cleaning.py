"""Cleans features, and applies the rule for rows with missing values.

Missing values are nulls, NaN, infinities (also numbers too large for float32), text that is only
white space, and what a column type defines as missing.
"""

import numpy as np

from tasks.columns import CleanColumn
from tasks.errors import InputError
from tasks.preparing.rows import Indices, cell
from tasks.sources.raw import Raw


def clean(raw: Raw) -> dict[str, CleanColumn]:
    """The cleaned features by name, with the types in which they are stored.

    Raises:
        InputError: a value cannot be converted; names the row.
    """
    return {
        name: column.clean(raw.table[name].combine_chunks(), raw.column(name))
        for name, column in raw.types().items()
    }


def complete(
    raw: Raw, features: dict[str, CleanColumn], others: dict[str, CleanColumn], rule: str
) -> Indices:
    """The numbers of complete rows; with the rule `fill`, also of rows that can be filled.

    `others` are the target and the column that decides the split. They are never filled.

    Raises:
        InputError: the rule refuses a row, or no row is complete; names row and column.
    """
    fillable = [name for name, column in raw.types().items() if column.fillable]
    missing = {name: found.missing for name, found in (features | others).items()}
    if rule == "fill":
        missing = {name: mask for name, mask in missing.items() if name not in fillable}
    bad = np.zeros(len(raw), bool)
    for mask in missing.values():
        bad |= mask
    if rule == "refuse" and bad.any():
        row = int(np.argmax(bad))
        name = next(name for name, mask in missing.items() if mask[row])
        ways = "drop or fill" if name in fillable else "drop"
        raise InputError(
            f"{cell(raw, row, name)}: missing, NaN or infinite ({int(bad.sum())} such rows in "
            f"all). Correct the data, or set prepare.missing to {ways}."
        )
    if bad.all():
        empty = [repr(name) for name, mask in missing.items() if mask.all()]
        raise InputError(
            f"{raw.where}: every row has a missing value"
            + (f"; all values of {', '.join(empty)} are missing" if empty else "")
        )
    return np.flatnonzero(~bad)
