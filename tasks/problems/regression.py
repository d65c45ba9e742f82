"""Regression: predicts a number."""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.measures import Measure
from tasks.problems.bootstrap import resampled_sums
from tasks.problems.problem import Metric, Metrics, Output, Problem, Rows
from tasks.problems.targets import NumberTarget

if TYPE_CHECKING:
    from tasks.baselines import Examples
    from tasks.bundle.signature import Signature
    from tasks.columns import Arrays, Column
    from tasks.encoding import Encoder
    from tasks.problems.problem import Predict

# Points in the plot: more of them would not be visible.
POINTS = 1000


class Scored(NamedTuple):
    """Actual and predicted numbers, (N,) float64 each."""

    actual: NDArray[np.float64]
    predicted: NDArray[np.float64]
    quantile: float | None = None
    """Which one is predicted; None: the mean."""

    @property
    def pinball(self) -> NDArray[np.float64] | None:
        """(N,): the pinball loss of each row (Koenker and Bassett 1978); None if no quantile is
        predicted. The quantile has the lowest mean."""
        if self.quantile is None:
            return None
        error = self.actual - self.predicted
        return np.maximum(self.quantile * error, (self.quantile - 1) * error)


def _sklearn(name: str, scored: Scored) -> float:
    # Imported late: the import takes 1 s, and predictions do not need metrics.
    from sklearn import metrics

    return float(getattr(metrics, name)(scored.actual, scored.predicted))


class Regression(Problem):
    """Metrics are computed by scikit-learn."""

    name = "regression"
    tasks = ("regression",)
    target = NumberTarget()
    headline = ("r2", "mae")
    evaluated = ("prediction",)
    predicted = ("prediction",)
    loss = "squared_error"
    losses = ("huber", "quantile")
    scores = "scaled_number"
    standardised = True
    metrics = (
        Metric("r2", "R²", lambda s: _sklearn("r2_score", s), low=-math.inf, example=0.5),
        Metric(
            "mae",
            "MAE",
            lambda s: _sklearn("mean_absolute_error", s),
            lower_is_better=True,
            high=math.inf,
        ),
        Metric(
            "rmse",
            "RMSE",
            lambda s: math.sqrt(_sklearn("mean_squared_error", s)),
            lower_is_better=True,
            high=math.inf,
        ),
        Metric(
            "mse",
            "MSE",
            lambda s: _sklearn("mean_squared_error", s),
            lower_is_better=True,
            high=math.inf,
        ),
        Metric(
            "pinball_loss",
            "pinball loss",
            lambda s: None if s.pinball is None else float(s.pinball.mean()),
            lower_is_better=True,
            high=math.inf,
        ),
    )

    def outputs(
        self, columns: "tuple[Column, ...]", classes: tuple[str, ...]
    ) -> tuple[Output, ...]:
        return (Output("prediction", "float64", ()),)

    def scored(
        self, signature: "Signature", targets: NDArray[Any], outputs: "Arrays", bins: int
    ) -> Scored:
        # Models of older releases predict float32.
        predicted = outputs["prediction"].astype(np.float64)
        return Scored(targets, predicted, signature.quantile)

    def headline_of(self, signature: "Signature") -> tuple[str, ...]:
        """Of a quantile, the pinball loss alone: R² is best for the mean, MAE for the median."""
        return self.headline if signature.quantile is None else ("pinball_loss",)

    def redrawn(
        self, models: Sequence[Scored], names: Collection[str], seed: int
    ) -> list[dict[str, NDArray[np.float64]]]:
        # Minus the mean: the squares of large numbers would lose the small differences.
        actual = models[0].actual - models[0].actual.mean()
        errors = [scored.predicted - scored.actual for scored in models]
        each = [values for error in errors for values in (np.abs(error), error**2)]
        values = np.stack([np.ones(len(actual)), actual, actual**2, *each], axis=1)
        rows, total, squares, *sums = resampled_sums(values, seed).T
        found = []
        for absolute, squared in zip(sums[::2], sums[1::2], strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):  # rows of one value have no R²
                r2 = 1 - squared / (squares - total**2 / rows)
            mse = squared / rows
            found.append({"r2": r2, "mae": absolute / rows, "mse": mse, "rmse": np.sqrt(mse)})
        for of_model, scored in zip(found, models, strict=True):
            if scored.pinball is not None:
                loss = resampled_sums(np.stack([np.ones(len(actual)), scored.pinball], 1), seed)
                of_model["pinball_loss"] = loss[:, 1] / loss[:, 0]
        return [{name: drawn[name] for name in names} for drawn in found]

    def baselines(
        self, signature: "Signature", train: "Examples"
    ) -> Iterator[tuple[str, bool, "Predict"]]:
        """The mean, or the quantile, of the training rows, and the quick model."""
        quantile = signature.quantile
        name = "mean" if quantile is None else f"quantile {quantile:g}"
        value = train.targets.mean() if quantile is None else np.quantile(train.targets, quantile)
        yield name, False, lambda rows: {"prediction": np.full(len(rows), value)}
        model = train.quick_model("number", quantile=quantile)
        yield model.name, True, lambda rows: {"prediction": model.predict(rows.table)}

    def columns(self, encoder: "Encoder", outputs: "Arrays") -> dict[str, pa.Array]:
        """The number alone: a regression has no score."""
        return {"prediction": pa.array(outputs["prediction"])}

    def measures(self, signature: "Signature") -> tuple[Measure, ...]:
        found = Measure(
            "value", lambda outputs: outputs["prediction"], held_out=True, computed=True
        )
        return (found,)

    def measured(
        self, signature: "Signature", labels: NDArray[Any], predicted: NDArray[Any]
    ) -> dict[str, float]:
        """Without R² where it is not defined: for a single row, or equal labels."""
        scored = Scored(labels, predicted, signature.quantile)
        if scored.pinball is not None:
            return {"pinball_loss": float(scored.pinball.mean())}
        found = {"mae": _sklearn("mean_absolute_error", scored)}
        return {"r2": _sklearn("r2_score", scored), **found} if np.ptp(labels) > 0 else found

    def plots(
        self, signature: "Signature", metrics: Metrics, targets: NDArray[Any], outputs: "Arrays"
    ) -> dict[str, Rows]:
        pairs = zip(targets[:POINTS].tolist(), outputs["prediction"].tolist(), strict=False)
        return {"predictions.csv": [{"actual": a, "predicted": p} for a, p in pairs]}
