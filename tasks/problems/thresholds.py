"""The threshold of a model of two classes: from which probability on the second one is predicted.

Probabilities stay as they are: they are calibrated, and the estimate of a job's accuracy needs
that. Only the predicted class follows from the threshold, which `signature.json` has.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.problems.class_draws import Counts
from tasks.problems.problem import refuse_not_finite

if TYPE_CHECKING:  # these import this package
    from tasks.bundle.signature import Signature
    from tasks.columns import Arrays
    from tasks.config import Evaluate

MOST_PROBABLE = 0.5
"""The default of `evaluate.threshold`: the more probable class, for any number of classes."""

DIGITS = 4
"""Significant digits of a chosen threshold: `evaluate` and `export` must choose the same one."""
CHOOSABLE = (
    "macro_f1",
    "balanced_accuracy",
    "macro_recall",
    "weighted_f1",
    "accuracy",
    "weighted_recall",
)
"""Metrics whose highest value is worth having, the default first. Precision is highest if one row
is predicted as the rare class; ROC AUC and the like don't depend on the threshold."""


def predicted_classes(
    probabilities: NDArray[np.floating], threshold: float | None
) -> NDArray[np.int64]:
    """(N,): the predicted class of each row (N, classes); without a threshold the most probable.

    A threshold is for two classes: the second one is predicted where its probability, as float32,
    is not below it.
    """
    if threshold is None:
        best: NDArray[np.int64] = probabilities.argmax(axis=1)
        return best
    reached = probabilities[:, 1].astype(np.float32) >= np.float32(threshold)
    return reached.astype(np.int64)


def best_threshold(
    actual: NDArray[np.int64], probabilities: NDArray[np.floating], metric: str
) -> float:
    """The threshold with the highest `metric` on these rows: class numbers `actual` (N,) and
    `probabilities` (N, 2). Of several, the one nearest to 0.5.

    Candidates are the middles between neighbouring probabilities, so both classes are predicted;
    0.5 if all rows have the same probability.
    """
    values, place = np.unique(probabilities[:, 1].astype(np.float64), return_inverse=True)
    if len(values) < 2:
        return 0.5
    rows = np.bincount(place, minlength=len(values))
    second = np.bincount(place, weights=actual, minlength=len(values))
    # For each candidate, the rows above it: all, and those of the second class.
    above, found = (np.cumsum(counts[::-1])[::-1][1:] for counts in (rows, second))
    every, positive = len(actual), float(actual.sum())
    counts = Counts(
        actual=np.tile([every - positive, positive], (len(above), 1)),
        predicted=np.stack([every - above, above], axis=1).astype(np.float64),
        right=np.stack([every - above - (positive - found), found], axis=1),
    )
    scores = counts.metrics()[metric]
    middles = (values[1:] + values[:-1]) / 2
    best = middles[scores >= scores.max() - 1e-12]
    return float(f"{best[np.argmin(np.abs(best - 0.5))]:.{DIGITS}g}")


def metric_of(gates: Collection[str]) -> str:
    """The metric that a threshold is chosen for: the first of `CHOOSABLE` that has a gate, else
    macro F1. The order of the gates says nothing: DVC and the file of a run don't keep it."""
    return next((name for name in CHOOSABLE if name in gates), CHOOSABLE[0])


def for_two_classes(what: str, classes: Sequence[str]) -> str:
    """The error about a parameter that needs two classes."""
    have = len(classes) or "none"
    return f"{what} is for two classes, and these data have {have}. Remove it from params.yaml"


def decided(
    params: "Evaluate", signature: "Signature", validation: "Callable[[], tuple[Any, Arrays]]"
) -> "Signature":
    """The signature with the threshold of `evaluate.threshold`; unchanged if that is 0.5.

    `validation` gives class numbers (N,) and the model's outputs for the validation split; it is
    called if the threshold is to be chosen.

    Raises:
        InputError: there is a threshold, but there are not two classes.
    """
    given = params.threshold
    if given == MOST_PROBABLE:
        return signature
    if len(signature.classes) != 2:
        raise InputError(for_two_classes(f"evaluate.threshold: {given}", signature.classes))
    if isinstance(given, float):
        return signature.predicting(threshold=given)
    targets, outputs = validation()
    refuse_not_finite(outputs, "row {} of the validation split".format)
    metric = metric_of(params.gates)
    chosen = best_threshold(targets, outputs["probabilities"], metric)
    return signature.predicting(threshold=chosen)
