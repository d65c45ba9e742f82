"""Metrics of classes on rows that are drawn again from the test rows, of one or several models."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.problems.bootstrap import DRAWS, Numbers, resampled_counts


class Counts(NamedTuple):
    """How often each class occurs in each draw, (draws, classes) each."""

    actual: Numbers
    predicted: Numbers
    right: Numbers

    def metrics(self) -> dict[str, Numbers]:
        """The metrics that follow from these, (draws,) each, as scikit-learn computes them with
        zero_division=0."""
        precision = _ratio(self.right, self.predicted)
        recall = _ratio(self.right, self.actual)
        f1 = _ratio(2 * self.right, self.actual + self.predicted)
        rows = np.maximum(1, self.actual.sum(axis=1))
        found = {
            "accuracy": self.right.sum(axis=1) / rows,
            # Only of classes that are drawn, as in scikit-learn.
            "balanced_accuracy": recall.sum(axis=1) / np.maximum(1, (self.actual > 0).sum(axis=1)),
        }
        for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
            found[f"macro_{name}"] = values.mean(axis=1)
            found[f"weighted_{name}"] = (values * self.actual).sum(axis=1) / rows
        return found


def draw_classes(
    actual: NDArray[np.int64], models: Sequence[NDArray[np.int64]], classes: int, seed: int
) -> list[Counts]:
    """The counts of each model in `DRAWS` draws, from its predicted classes (N,) beside the
    `actual` ones (N,). Each draw has the same rows for all models.

    Rows with the same classes are alike, so cells of the confusion matrix are drawn, not rows: the
    cost does not grow with the rows.
    """
    cells, counts = np.unique(np.stack([actual, *models]), axis=1, return_counts=True)
    found = [Counts(*np.zeros((3, DRAWS, classes))) for _ in models]
    for draw, drawn in enumerate(resampled_counts(counts, seed)):
        for of_model, predicted in zip(found, cells[1:], strict=True):
            right = np.where(predicted == cells[0], drawn, 0)
            of_model.actual[draw] = np.bincount(cells[0], drawn, classes)
            of_model.predicted[draw] = np.bincount(predicted, drawn, classes)
            of_model.right[draw] = np.bincount(predicted, right, classes)
    return found


def _ratio(part: Numbers, whole: Numbers) -> Numbers:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
