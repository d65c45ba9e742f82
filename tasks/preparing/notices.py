"""Notices about the prepared data: rows removed by a rule, and test rows that are in training."""

import numpy as np
from numpy.typing import NDArray

from tasks.preparing.rows import Indices

# Removed rows below this share are only in the report.
WORTH_SAYING = 0.05


def removal_notices(
    rule: str, before: Indices, after: Indices, rows_in: int, given: NDArray[np.object_] | None
) -> list[str]:
    """Notices about a rule that left the rows `after` of the rows `before`; `rows_in` is the total.

    `given` (rows_in,) is the split of each row, if it is given. Any row removed from a given test
    split gets a notice.
    """
    lost, found = len(before) - len(after), []
    if lost > WORTH_SAYING * rows_in:
        found.append(f"{rule} removed {lost:,} of {rows_in:,} rows ({lost / rows_in:.1%})")
    if given is not None:
        test = int((given == "test").sum())
        missing = int((given[before] == "test").sum() - (given[after] == "test").sum())
        if missing:
            found.append(f"{rule} removed {missing:,} of the {test:,} rows of the given test split")
    return found


def seen_notices(test_rows: int, equal: int) -> list[str]:
    """A notice about test rows with equal features in training, if there are many."""
    if equal <= WORTH_SAYING * test_rows:
        return []
    return [
        f"{equal:,} of {test_rows:,} test rows ({equal / test_rows:.1%}) have an equal row in "
        "training: their score says little of rows that were never seen"
    ]
