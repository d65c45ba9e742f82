"""Classification: one of two or more classes."""

import math
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.measures import Measure
from tasks.problems.bootstrap import resampled_rows
from tasks.problems.class_draws import draw_classes
from tasks.problems.problem import Metric, Metrics, Output, Problem, Rows
from tasks.problems.targets import ClassTarget
from tasks.problems.thresholds import predicted_classes

if TYPE_CHECKING:
    from tasks.baselines import Examples
    from tasks.bundle.signature import Signature
    from tasks.columns import Arrays, Column
    from tasks.encoding import Encoder
    from tasks.problems.problem import Predict

# These need the probabilities of the rows; the others follow from counts of classes.
OF_PROBABILITIES = {"roc_auc", "average_precision", "log_loss", "calibration_error"}
PER_CLASS = ("precision", "recall", "f1", "support")


def _sklearn() -> Any:
    # Imported late: the import takes 1 s, and predictions do not need metrics.
    from sklearn import metrics

    return metrics


@dataclass(frozen=True)
class Scored:
    """Predicted classes beside the actual ones, as scikit-learn takes them."""

    labels: NDArray[np.int64]
    """(N,)"""
    probabilities: NDArray[np.float64]
    """(N, classes)"""
    predicted: NDArray[np.int64]
    """(N,): chosen by the threshold, else the class with the highest float32 probability, as in
    predictions."""
    classes: tuple[str, ...]
    bins: int

    def take(self, rows: NDArray[np.int64]) -> "Scored":
        """These rows alone, (N,) numbers of rows in this order."""
        return replace(
            self,
            labels=self.labels[rows],
            probabilities=self.probabilities[rows],
            predicted=self.predicted[rows],
        )

    @property
    def numbers(self) -> NDArray[np.int64]:
        return np.arange(len(self.classes))

    def averages(self, average: str | None) -> Any:
        """Precision, recall, F1 and support: averaged, or with None for each class."""
        return _sklearn().precision_recall_fscore_support(
            self.labels, self.predicted, labels=self.numbers, average=average, zero_division=0
        )

    @cached_property
    def macro(self) -> Any:
        return self.averages("macro")

    @cached_property
    def weighted(self) -> Any:
        return self.averages("weighted")

    @cached_property
    def calibration(self) -> list[dict[str, float]]:
        """Mean confidence, accuracy and row count of each bin that is not empty. The confidence is
        the probability of the predicted class, below 0.5 if a threshold chose it.

        Written by hand: torchmetrics needs torch and returns no bins, and scikit-learn's
        `calibration_curve` returns no row counts.
        """
        confidence = _of_class(self.probabilities, self.predicted)
        correct = self.predicted == self.labels
        bin_of = np.minimum((confidence * self.bins).astype(int), self.bins - 1)
        return [
            {
                "confidence": float(confidence[bin_of == b].mean()),
                "accuracy": float(correct[bin_of == b].mean()),
                "rows": int((bin_of == b).sum()),
            }
            for b in np.unique(bin_of)
        ]


def _of_two(name: str, scored: Scored) -> float | None:
    """The area under a curve for the second of two classes; None for more classes."""
    if len(scored.classes) != 2:
        return None
    area: float = getattr(_sklearn(), name)(scored.labels, scored.probabilities[:, 1])
    return area


def _log_loss(scored: Scored) -> float:
    # float32 probabilities add up to 1 only approximately, and scikit-learn warns of that.
    rows = scored.probabilities / scored.probabilities.sum(1, keepdims=True)
    loss: float = _sklearn().log_loss(scored.labels, rows, labels=scored.numbers)
    return loss


def _calibration_error(scored: Scored) -> float:
    """Expected calibration error of the predicted class (Guo et al. 2017,
    https://arxiv.org/abs/1706.04599)."""
    rows = len(scored.labels)
    return sum(abs(b["accuracy"] - b["confidence"]) * b["rows"] / rows for b in scored.calibration)


def _of_class(probabilities: NDArray[Any], classes: NDArray[np.int64]) -> NDArray[Any]:
    """(N,): of each row (N, classes) the probability of one class. For the most probable of two,
    half the time that `max` takes."""
    found: NDArray[Any] = probabilities[np.arange(len(probabilities)), classes]
    return found


def _predicted(signature: "Signature", outputs: "Mapping[str, NDArray[Any]]") -> NDArray[np.int64]:
    """(N,): the class that a model with this signature predicts. The only place that decides."""
    return predicted_classes(outputs["probabilities"], signature.threshold)


def _drawn_by_rows(metric: Metric, scored: Scored, seed: int) -> NDArray[np.float64]:
    """Values of a metric, (draws,), from the rows of each draw: NaN where it is undefined."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a draw of a single class has no ROC AUC
        drawn = (
            metric.compute(scored.take(rows)) for rows in resampled_rows(len(scored.labels), seed)
        )
        return np.array([math.nan if value is None else value for value in drawn])


class Classification(Problem):
    """The predicted class is the most probable one; of two, also by a threshold of the signature.
    Metrics are computed by scikit-learn."""

    name = "classification"
    tasks = ("binary", "multiclass")
    target = ClassTarget()
    headline = ("macro_f1", "accuracy")
    evaluated = ("probabilities",)
    predicted = ("probabilities",)
    loss = "cross_entropy"
    thresholds = True
    scores = "class_probabilities"
    metrics = (
        Metric(
            "accuracy",
            "accuracy",
            lambda s: _sklearn().accuracy_score(s.labels, s.predicted),
            example=0.9,
        ),
        Metric(
            "balanced_accuracy",
            "balanced accuracy",
            lambda s: _sklearn().balanced_accuracy_score(s.labels, s.predicted),
        ),
        Metric("macro_precision", "macro precision", lambda s: s.macro[0]),
        Metric("macro_recall", "macro recall", lambda s: s.macro[1]),
        Metric("macro_f1", "macro F1", lambda s: s.macro[2], example=0.85),
        Metric("weighted_precision", "weighted precision", lambda s: s.weighted[0]),
        Metric("weighted_recall", "weighted recall", lambda s: s.weighted[1]),
        Metric("weighted_f1", "weighted F1", lambda s: s.weighted[2]),
        Metric("roc_auc", "ROC AUC", lambda s: _of_two("roc_auc_score", s), two_classes=True),
        Metric(
            "average_precision",
            "average precision",
            lambda s: _of_two("average_precision_score", s),
            two_classes=True,
        ),
        Metric("log_loss", "log loss", _log_loss, lower_is_better=True, high=math.inf),
        Metric("calibration_error", "calibration error", _calibration_error, lower_is_better=True),
    )

    def task(self, classes: tuple[str, ...]) -> str:
        return "binary" if len(classes) == 2 else "multiclass"

    def outputs(
        self, columns: "tuple[Column, ...]", classes: tuple[str, ...]
    ) -> tuple[Output, ...]:
        return tuple(
            Output(name, "float32", (len(classes),)) for name in ("logits", "probabilities")
        )

    def scored(
        self, signature: "Signature", targets: NDArray[Any], outputs: "Arrays", bins: int
    ) -> Scored:
        probabilities = outputs["probabilities"].astype(np.float64)
        predicted = _predicted(signature, outputs)
        return Scored(targets, probabilities, predicted, signature.classes, bins)

    def details(self, scored: Scored) -> dict[str, Any]:
        each = scored.averages(None)
        confusion = _sklearn().confusion_matrix(
            scored.labels, scored.predicted, labels=scored.numbers
        )
        return {
            "per_class": {
                label: {name: float(each[i][number]) for i, name in enumerate(PER_CLASS)}
                for number, label in enumerate(scored.classes)
            },
            "confusion": confusion.tolist(),
            "calibration": scored.calibration,
        }

    def redrawn(
        self, models: Sequence[Scored], names: Collection[str], seed: int
    ) -> list[dict[str, NDArray[np.float64]]]:
        found: list[dict[str, NDArray[np.float64]]] = [{} for _ in models]
        if not OF_PROBABILITIES.issuperset(names):
            labels, classes = models[0].labels, len(models[0].classes)
            counts = draw_classes(labels, [m.predicted for m in models], classes, seed)
            found = [counted.metrics() for counted in counts]
        for metric in self.metrics:
            if metric.name in OF_PROBABILITIES.intersection(names):
                for of_model, scored in zip(found, models, strict=True):
                    of_model[metric.name] = _drawn_by_rows(metric, scored, seed)
        return [{name: of_model[name] for name in names} for of_model in found]

    def baselines(
        self, signature: "Signature", train: "Examples"
    ) -> Iterator[tuple[str, bool, "Predict"]]:
        """The shares of the classes, so the most frequent one for every row; and the quick model,
        if there is more than one class to learn."""
        classes = len(signature.classes)
        counts = np.bincount(train.targets, minlength=classes)
        shares = (counts / counts.sum()).astype(np.float32)
        yield (
            "most frequent class",
            False,
            lambda rows: {"probabilities": np.tile(shares, (len(rows), 1))},
        )
        present = int(np.count_nonzero(counts))
        if present > 1:
            model = train.quick_model("class", present if present > 2 else 1)
            yield (
                model.name,
                True,
                lambda rows: {"probabilities": model.probabilities(rows.table, classes)},
            )

    def columns(self, encoder: "Encoder", outputs: "Arrays") -> dict[str, pa.Array]:
        """The predicted class, and its probability (float32)."""
        predicted = _predicted(encoder.signature, outputs)
        classes = pa.array(encoder.signature.classes, pa.string())
        return {
            "prediction": classes.take(pa.array(predicted)),
            "score": pa.array(_of_class(outputs["probabilities"], predicted)),
        }

    def measures(self, signature: "Signature") -> tuple[Measure, ...]:
        """The class that the model predicts, whatever the threshold of a job, and its
        probability."""
        found = Measure(
            "class",
            lambda outputs: _predicted(signature, outputs) + 1,
            signature.classes,
            held_out=True,
        )
        return found, self.certainty(signature)

    def certainty(self, signature: "Signature") -> Measure:
        return Measure(
            "confidence",
            lambda outputs: _of_class(outputs["probabilities"], _predicted(signature, outputs)),
            held_out=True,
            computed=True,
        )

    def right(
        self, signature: "Signature", targets: NDArray[Any], outputs: "Arrays"
    ) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = _predicted(signature, outputs) == targets
        return found

    def measured(
        self, signature: "Signature", labels: NDArray[Any], predicted: NDArray[Any]
    ) -> dict[str, float]:
        """The classes of macro F1 are those that occur: a few labels have few classes."""
        macro = _sklearn().f1_score(labels, predicted, average="macro", zero_division=0)
        return {"accuracy": float((labels == predicted).mean()), "macro_f1": float(macro)}

    def plots(
        self, signature: "Signature", metrics: Metrics, targets: NDArray[Any], outputs: "Arrays"
    ) -> dict[str, Rows]:
        named = np.array(signature.classes)
        best = named[_predicted(signature, outputs)]
        return {
            "confusion.csv": [
                {"actual": a, "predicted": p} for a, p in zip(named[targets], best, strict=True)
            ],
            "calibration.csv": metrics.calibration,
            "per_class.csv": [{"class": c, **row} for c, row in metrics.per_class.items()],
        }
