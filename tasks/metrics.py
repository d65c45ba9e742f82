"""Metrics of a model on one split, and the gates that judge them. Needs no torch."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    precision_recall_fscore_support,
    r2_score,
    roc_auc_score,
)

from tasks.bundle.signature import Signature
from tasks.config import LowerIsBetter, Metric
from tasks.session import refuse_not_finite

AVERAGES = ("precision", "recall", "f1")
# The outputs of the graph that a task is judged by.
JUDGED = {
    "binary": ("probabilities",),
    "multiclass": ("probabilities",),
    "regression": ("prediction",),
    "language_model": ("log_likelihood", "scored"),
}


@dataclass(frozen=True)
class Metrics:
    """`summary` by name; `headline` names those to show first, and to compare versions by.

    For classes also `per_class` by class, `confusion[actual][predicted]`, and `calibration`: one
    row for each bin that is not empty, of confidence, accuracy, rows.
    """

    rows: int
    headline: list[str]
    summary: dict[str, float]
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    calibration: list[dict[str, float]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return ", ".join(f"{name} {self.summary[name]:.4f}" for name in self.headline)


def measure(
    signature: Signature,
    targets: NDArray[Any],
    outputs: Mapping[str, NDArray[Any]],
    bins: int,
) -> Metrics:
    """Judge the graph's `outputs` (those that `JUDGED` names) against `targets` (N,).

    Raises:
        InputError: an output is NaN or infinite: such a model has no metrics.
    """
    refuse_not_finite(outputs, "row {} of the test split".format)
    if signature.task == "regression":
        return score_numbers(targets, outputs["prediction"])
    if signature.task == "language_model":
        return score_text(outputs["log_likelihood"], outputs["scored"])
    return score(targets, outputs["probabilities"], signature.classes, bins)


def score(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    classes: tuple[str, ...],
    bins: int,
) -> Metrics:
    """Judge `probabilities` (N, classes) against `labels` (N,); the definitions are scikit-learn's.

    Calibration error is the expected calibration error of the predicted class over `bins` of
    equal width (Guo et al. 2017, https://arxiv.org/abs/1706.04599). With two classes there are
    also the areas under the ROC and the precision-recall curve, of the second class.
    """
    predicted = probabilities.argmax(axis=1)
    numbers = np.arange(len(classes))
    each = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0)
    summary = {
        "accuracy": accuracy_score(labels, predicted),
        "balanced_accuracy": balanced_accuracy_score(labels, predicted),
    }
    for average in ("macro", "weighted"):
        values = precision_recall_fscore_support(
            labels, predicted, labels=numbers, average=average, zero_division=0
        )
        summary |= {f"{average}_{n}": v for n, v in zip(AVERAGES, values[:3], strict=True)}
    rows = probabilities.astype(np.float64)
    if len(classes) == 2:
        summary["roc_auc"] = roc_auc_score(labels, rows[:, 1])
        summary["average_precision"] = average_precision_score(labels, rows[:, 1])
    summary["log_loss"] = log_loss(labels, rows / rows.sum(1, keepdims=True), labels=numbers)
    calibration = _calibration(predicted == labels, rows.max(axis=1), bins)
    summary["calibration_error"] = sum(
        abs(b["accuracy"] - b["confidence"]) * b["rows"] / len(labels) for b in calibration
    )
    return Metrics(
        rows=len(labels),
        headline=["macro_f1", "accuracy"],
        summary={name: float(value) for name, value in summary.items()},
        per_class={
            label: {n: float(each[i][number]) for i, n in enumerate((*AVERAGES, "support"))}
            for number, label in enumerate(classes)
        },
        confusion=confusion_matrix(labels, predicted, labels=numbers).tolist(),
        calibration=calibration,
    )


def score_numbers(targets: NDArray[np.float64], predictions: NDArray[np.float64]) -> Metrics:
    """Judge `predictions` (N,) of a regression; the definitions are scikit-learn's."""
    # The predictions of an older release are float32, and their errors count as they are.
    predictions = predictions.astype(np.float64)
    mse = float(mean_squared_error(targets, predictions))
    summary = {
        "r2": float(r2_score(targets, predictions)),
        "mae": float(mean_absolute_error(targets, predictions)),
        "rmse": math.sqrt(mse),
        "mse": mse,
    }
    return Metrics(rows=len(targets), headline=["r2", "mae"], summary=summary)


def score_text(log_likelihood: NDArray[np.float32], scored: NDArray[np.int64]) -> Metrics:
    """Judge a language model by `log_likelihood` (N,) of texts of `scored` (N,) tokens.

    Perplexity is exp of the mean negative log-likelihood of a token (Jelinek et al. 1977); it
    compares models over the same tokenizer only.
    """
    tokens = max(1, int(scored.sum()))
    perplexity = math.exp(min(700.0, -float(log_likelihood.astype(np.float64).sum()) / tokens))
    return Metrics(len(scored), ["perplexity"], {"perplexity": perplexity})


def _calibration(
    correct: NDArray[np.bool_], confidence: NDArray[np.float64], bins: int
) -> list[dict[str, float]]:
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        {
            "confidence": float(confidence[bin_of == b].mean()),
            "accuracy": float(correct[bin_of == b].mean()),
            "rows": int((bin_of == b).sum()),
        }
        for b in np.unique(bin_of)
    ]


@dataclass(frozen=True)
class Verdict:
    """One gate, what it asked for and what it found."""

    gate: str
    value: float | None
    condition: str
    passed: bool

    def __str__(self) -> str:
        found = "not measured" if self.value is None else f"{self.value:.4f}"
        return f"{self.gate} {found} ({self.condition}): {'passed' if self.passed else 'REFUSED'}"


def judge(gates: Mapping[Metric, float], summary: Mapping[str, float]) -> list[Verdict]:
    """A verdict for each gate. Fails closed: no gates, a missing metric or a NaN are refusals."""
    if not gates:
        return [Verdict("gates", None, "at least one in evaluate.gates", False)]
    verdicts = []
    for gate, threshold in gates.items():
        value = summary.get(gate, math.nan)
        lower = gate in get_args(LowerIsBetter)
        passed = value <= threshold if lower else value >= threshold  # False with a NaN
        verdicts.append(
            Verdict(
                gate,
                None if math.isnan(value) else value,
                f"{'<=' if lower else '>='} {threshold:g}",
                passed,
            )
        )
    return verdicts
