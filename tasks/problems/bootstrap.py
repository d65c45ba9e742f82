"""Bootstrap intervals of metrics (Efron 1979): what they would be on other test rows of this kind.

Rows are drawn again and again from the test rows, with replacement. Metrics are computed from sums
over rows, so no draw computes them row by row.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
# Of metrics that are computed from the rows of each draw, such as ROC AUC: 1 to 10 ms each. The
# share of 90 % of so many draws is known to within 2 points.
DRAWS_OF_ROWS = 200
CONFIDENCE = 0.95
# Of more rows, so many groups of about equal size are drawn in their place: 1,000 draws of 20,000
# take 0.5 s, and a group of random rows varies like its rows.
MOST = 20_000
AT_ONCE = 50  # draws: 8 MB of numbers at MOST rows

Numbers = NDArray[np.float64]


def resampled_counts(counts: NDArray[np.int64], seed: int) -> Iterator[NDArray[np.int64]]:
    """`DRAWS` times (M,): how often each of M different outcomes occurs among as many rows, drawn
    again; `counts` (M,) is how often it occurred."""
    rows, generator = int(counts.sum()), np.random.default_rng(seed)
    for _ in range(DRAWS):
        yield generator.multinomial(rows, counts / max(1, rows))


def resampled_rows(rows: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """`DRAWS_OF_ROWS` times the numbers of `rows` rows, drawn again. Of more than `MOST`, as many
    as that, so the draws vary more than they should: a small difference is less certain."""
    generator = np.random.default_rng(seed)
    for _ in range(DRAWS_OF_ROWS):
        yield generator.integers(0, rows, min(rows, MOST))


def resampled_sums(values: Numbers, seed: int) -> Numbers:
    """(DRAWS, S): the sums over rows that are drawn again, of `values` (N, S) of each row."""
    generator = np.random.default_rng(seed)
    if len(values) > MOST:
        order = generator.permutation(len(values))
        starts = np.linspace(0, len(values), MOST, endpoint=False).astype(np.int64)
        values = np.add.reduceat(values[order], starts)
    rows, sums, columns = len(values), [], np.ascontiguousarray(values.T)
    for start in range(0, DRAWS, AT_ONCE):
        size = min(AT_ONCE, DRAWS - start)
        drawn = generator.integers(0, rows, (size, rows)) + rows * np.arange(size)[:, np.newaxis]
        counts = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows)
        # Column by column: in one product, equal columns may differ in their last bits.
        weights = counts.astype(np.float64)
        sums.append(np.stack([weights @ column for column in columns], axis=1))
    return np.concatenate(sums)


def interval(draws: Numbers) -> tuple[float, float] | None:
    """The middle `CONFIDENCE` of (DRAWS,) values of a metric; None if it is undefined in a draw."""
    if not np.isfinite(draws).all():
        return None
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, (outside, 1 - outside))
    return float(low), float(high)
