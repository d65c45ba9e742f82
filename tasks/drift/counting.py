"""Counters of a job's rows. Of several batches, shards or jobs, they are added."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.columns import Column
from tasks.drift.estimate import BINS
from tasks.drift.reference import Reference


class Tally:
    """The counters of some rows: one array of whole numbers, in the order of the reference.

    The sum over all rows of a job is the same however they were divided into batches.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.counts: NDArray[np.int64] = np.zeros(reference.size, np.int64)

    def after(self, earlier: "Tally | None") -> "Tally":
        """The counters of these rows and of `earlier` ones, which must not be used further."""
        if earlier is None:
            return self
        earlier.counts += self.counts
        return earlier

    def add_column(self, column: Column, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Count the rows of a batch by one column; `arrays` are what its `encode` returned."""
        for counted in self.reference.columns.get(column.name, ()):
            values = counted.measure.of(arrays)
            self.counts[counted.place] += counted.bins.count(values, counted.measure)

    def add_predictions(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Count the rows of a batch by what the model returned for them."""
        for counted in self.reference.predictions:
            values = counted.measure.of(outputs)
            self.counts[counted.place] += counted.bins.count(values, counted.measure)
        if self.reference.calibration and (certainty := self.reference.certainty):
            self.counts[self.reference.compared :] += BINS.count(certainty.of(outputs), certainty)
