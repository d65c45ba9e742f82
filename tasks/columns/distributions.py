"""Distributions of values: constants to normalise by, and a reference to detect drift."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

BINS = 16
BATCH = 1 << 22  # bytes counted at once; bincount widens each to int64


def counts(values: pa.Array | pa.ChunkedArray) -> dict[str, int]:
    """Row counts by value, in alphabetical order; missing values are not counted."""
    found = pc.value_counts(values.drop_null()).to_pylist()
    return {c["values"]: c["counts"] for c in sorted(found, key=lambda c: str(c["values"]))}


def moments(values: NDArray[Any]) -> dict[str, list[Any]]:
    """`distribution` of each column of (N, C), as lists of C."""
    each = [distribution(values[:, number]) for number in range(values.shape[1])]
    return {name: [found[name] for found in each] for name in each[0]}


def distribution(values: NDArray[Any]) -> dict[str, Any]:
    """Mean, standard deviation, extremes and a histogram of numbers (N,)."""
    weights, low, high = None, float(values.min()), float(values.max())
    if values.dtype == np.uint8:  # images: 256 counts in place of millions of pixels
        batches = np.array_split(values, len(values) // BATCH + 1)
        weights = np.sum([np.bincount(batch, minlength=256) for batch in batches], axis=0)
        values = np.arange(256)
    values = values.astype(np.float64)
    mean = np.average(values, weights=weights)
    bins: int | list[float] = BINS
    if high - low < 2 * BINS * np.spacing(max(abs(low), abs(high))):
        bins = [low, float(np.nextafter(high, np.inf))]  # the values are equal up to rounding
    found, edges = np.histogram(values, bins, (low, high), weights=weights)
    return {
        "mean": float(mean),
        "std": float(np.sqrt(np.average(np.square(values - mean), weights=weights))),
        "min": low,
        "max": high,
        "histogram": {"counts": found.tolist(), "edges": edges.tolist()},
    }
