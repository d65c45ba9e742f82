"""Features as they will be written, and rows with missing values by rule.

Missing are nulls, NaN, infinities (also what float32 cannot hold), text of nothing but white space,
and what each column type calls missing besides.
"""

import numpy as np

from tasks.columns import CleanColumn
from tasks.errors import InputError
from tasks.preparing.rows import Indices, cell
from tasks.sources.raw import Raw


def clean(raw: Raw) -> dict[str, CleanColumn]:
    """The features by name, each of the type that it is written as.

    Raises:
        InputError: a value cannot be read as what its column holds; names the row.
    """
    return {
        name: column.clean(raw.table[name].combine_chunks(), raw.column(name))
        for name, column in raw.types().items()
    }


def complete(
    raw: Raw, features: dict[str, CleanColumn], others: dict[str, CleanColumn], rule: str
) -> Indices:
    """Numbers of the rows that stay: those that lack nothing, or nothing that can be filled.

    `others` are the target and what decides the split: no rule fills those.

    Raises:
        InputError: the rule refuses a row, or none stays; names row and column.
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
            f"{raw.where}: no row has all of its values"
            + (f"; no row at all has a value of {', '.join(empty)}" if empty else "")
        )
    return np.flatnonzero(~bad)
