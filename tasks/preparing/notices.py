"""What a person should know of a preparation: rows that a rule removed, test rows in training."""

import numpy as np
from numpy.typing import NDArray

from tasks.preparing.rows import Indices

# Below this share, what was removed is in the report alone.
WORTH_SAYING = 0.05


def removed(
    rule: str, before: Indices, after: Indices, rows_in: int, given: NDArray[np.object_] | None
) -> list[str]:
    """Sentences about a rule that left the rows `after` of those `before`, of `rows_in` in all.

    `given` (rows_in,) names the split of each row, where one is given: what a given test split
    lost is always worth a sentence.
    """
    lost, said = len(before) - len(after), []
    if lost > WORTH_SAYING * rows_in:
        said.append(f"{rule} removed {lost:,} of {rows_in:,} rows ({lost / rows_in:.1%})")
    if given is not None:
        test = int((given == "test").sum())
        missing = int((given[before] == "test").sum() - (given[after] == "test").sum())
        if missing:
            said.append(f"{rule} removed {missing:,} of the {test:,} rows of the given test split")
    return said


def seen(test_rows: int, equal: int) -> list[str]:
    """A sentence about test rows whose features a training row has, too, if there are many."""
    if equal <= WORTH_SAYING * test_rows:
        return []
    return [
        f"{equal:,} of {test_rows:,} test rows ({equal / test_rows:.1%}) have an equal row in "
        "training: their score says little of rows that were never seen"
    ]
