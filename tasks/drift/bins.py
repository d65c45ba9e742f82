"""Bins of a measure: where they begin, and how many rows are in each."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.measures import Measure

QUANTILES = 10
"""Bins of equal numbers of reference rows. Ten is the usual number for PSI (Yurdakul 2018)."""
MOST_LABELS = 50
"""Labels with a bin of their own; the rest share one, as rare ones would be in the comparison."""
FREQUENT = 5
"""Rows that a label must have for a bin. A rarer one may be among the known ones by chance."""
FEW_ROWS = 4096  # up to here sorting is faster: 10 in place of 23 ns a row of 2,048

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Bins:
    """Bins of numbers, between `edges` and beyond them, or of labels."""

    edges: tuple[float, ...] = ()
    """Ascending. Bin i + 1 begins at edge i and includes it; bin 0 is below all edges."""
    labels: tuple[str, ...] | None = None
    """A bin each; one more is for all other labels, known or not."""

    @property
    def size(self) -> int:
        return len(self.edges if self.labels is None else self.labels) + 1

    def count(self, values: NDArray[Any], measure: Measure) -> Counts:
        """Rows in each bin (size,), of values (N,) as `Measure.of` returns them."""
        if self.labels is not None:
            return self._by_label(values, measure)
        edges = np.array(self.edges, values.dtype)  # exact: edges were numbers of this dtype
        if len(values) <= FEW_ROWS:
            below = np.searchsorted(np.sort(values), edges)
        else:  # one fast pass for each edge: a third of the time of a search for each value
            below = np.array([np.count_nonzero(each) for each in values < edges[:, np.newaxis]])
        found: Counts = np.diff(below, prepend=0, append=len(values)).astype(np.int64)
        return found

    def _by_label(self, places: NDArray[Any], measure: Measure) -> Counts:
        found = np.bincount(places, minlength=len(measure.labels) + 1)
        own = found[_places(measure.labels, self.labels or ())]
        return np.append(own, len(places) - own.sum())


@lru_cache(maxsize=1024)
def _places(every: tuple[str, ...], some: tuple[str, ...]) -> NDArray[np.int64]:
    """The places of some labels among all, from 1. A column may have thousands."""
    number = {label: place for place, label in enumerate(every, start=1)}
    return np.array([number[label] for label in some], np.int64)


def of_frequent(places: NDArray[Any], measure: Measure) -> Bins:
    """A bin for each label that is frequent in these rows; `places` (N,) as `Measure.of` returns
    them."""
    found = np.bincount(places, minlength=len(measure.labels) + 1)[1:]
    most = np.argsort(-found, kind="stable")[:MOST_LABELS]
    chosen = np.sort(most[found[most] >= FREQUENT])
    return Bins(labels=tuple(measure.labels[place] for place in chosen))


def between_quantiles(values: NDArray[Any], measure: Measure) -> Bins:
    """Bins in which the values (N,) are spread evenly."""
    if not len(values):
        return Bins()
    with np.errstate(over="ignore", invalid="ignore"):  # near the end of float32; left out
        return Bins(edges=_edges(np.sort(values), measure.computed))


def _edges(values: NDArray[Any], computed: bool) -> tuple[float, ...]:
    """Edges for sorted values (N,): around the quantiles, and just outside the extremes.

    Values that make up a bin by themselves, such as the zeros of a column that is mostly zero, get
    a bin of their own, so that it makes no difference on which side of an edge they are. An edge
    lies between two values. Of computed ones, those that differ by rounding count as one.
    """
    rows = len(values)
    spread = float(values[(9 * rows) // 10] - values[rows // 10]) if computed else 0.0
    cuts = {0, rows}
    for quantile in range(1, QUANTILES):
        value = values[quantile * rows // QUANTILES]
        near = 1e-5 * spread + 1e-6 * abs(float(value)) if computed else 0.0
        start = int(np.searchsorted(values, value - near, "left"))
        end = int(np.searchsorted(values, value + near, "right"))
        cuts |= {start, end} if end - start > rows / (2 * QUANTILES) else {start}
    found = {_between(values, cut, computed, spread) for cut in cuts}
    return tuple(sorted(edge for edge in found if np.isfinite(edge)))  # as JSON has them


def _between(values: NDArray[Any], cut: int, computed: bool, spread: float) -> float:
    """An edge with the first `cut` of the sorted values below it, in the dtype of the values."""
    if cut in (0, len(values)):
        end = values[min(cut, len(values) - 1)]
        far = values.dtype.type(1e-4 * spread + 1e-5 * abs(float(end))) if computed else 0
        if cut == 0:
            return float(end - far)
        beyond = end + far
        return float(end + 1 if values.dtype.kind in "iu" else np.nextafter(beyond, np.inf))
    low, high = values[cut - 1], values[cut]
    middle = low + (high - low) // 2 if values.dtype.kind in "iu" else low + (high - low) / 2
    # Of neighbours in the dtype, the middle is rounded to the lower one.
    return float(middle if low < middle else high)


def as_document(bins: Bins, counts: Counts, offset: float) -> dict[str, Any]:
    """Bins and the rows of the reference in them, as JSON values."""
    of = {"edges": list(bins.edges)} if bins.labels is None else {"labels": list(bins.labels)}
    return {**of, "counts": counts.tolist(), **({"offset": offset} if offset else {})}


def of_document(document: Mapping[str, Any]) -> tuple[Bins, Counts]:
    labels = document.get("labels")
    bins = Bins(tuple(document.get("edges", ())), None if labels is None else tuple(labels))
    counts = np.array(document["counts"], np.int64)
    if counts.shape != (bins.size,):
        raise ValueError(f"{counts.size} counts for {bins.size} bins")
    return bins, counts
