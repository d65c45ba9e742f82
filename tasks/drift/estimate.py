"""Accuracy of a job without labels, estimated from the probabilities of its predictions.

Confidence-based performance estimation: if a model is right in 90 % of the cases in which it says
90 %, the mean of what it says is its accuracy (Guillory et al. 2021; Garg et al. 2022). What it
says is calibrated first, on the test split, by a logistic curve (Platt 1999).

It holds where the rows of a job are others than those of the training, and each still means what
it meant (covariate shift). Where the classes have other shares, or the same row has another label
now, probabilities are wrong in a way that nobody sees without labels.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.drift.bins import Bins

STEP = 0.5
CENTRES = np.arange(-4.0, 14.5, STEP)
"""Log-odds of the bins of probabilities, from 0.018 to 0.999999, where float32 ends."""
BINS = Bins(edges=tuple(1 / (1 + np.exp(-(CENTRES[1:] - STEP / 2)))))
INPUTS = np.stack([CENTRES, np.ones(BINS.size)], axis=1)
"""(bins, 2): what slope and offset are multiplied by."""
PRIOR = np.array([1.0, 0.0])
PRECISION = np.array([4.0, 1.0])
"""Before any row is seen, the curve is that of a calibrated model: slope 1 within 0.5, offset 0
within 1 (one standard deviation). It decides where the test split has few wrong predictions."""
Z = 1.96
"""The interval is to contain the accuracy of 95 of 100 jobs."""


@dataclass(frozen=True)
class Estimate:
    """The accuracy of a job, as far as it can be known without labels."""

    accuracy: float
    low: float
    high: float
    """Between them in 95 of 100 jobs."""
    measured: float
    """The accuracy on the test split, for comparison."""
    caution: str | None = None
    """Why the estimate may be wrong beyond its interval."""

    def __str__(self) -> str:
        text = (
            f"estimated accuracy {self.accuracy:.3f} [{self.low:.3f}, {self.high:.3f}], "
            f"{self.measured:.3f} on the test split"
        )
        return f"{text}; {self.caution}" if self.caution else text


@dataclass(frozen=True)
class Calibration:
    """How often a model is right, by the probability that it gives its predictions."""

    curve: tuple[float, float]
    """Slope and offset: log-odds of being right, from the log-odds that the model gives."""
    covariance: tuple[tuple[float, float], tuple[float, float]]
    rows: int
    right: int

    @classmethod
    def fit(cls, probabilities: NDArray[Any], right: NDArray[np.bool_]) -> "Calibration":
        """From the test split: the probabilities (N,) of its predictions, and which are right."""
        bins = np.digitize(probabilities, np.array(BINS.edges, probabilities.dtype))
        rows = np.bincount(bins, minlength=BINS.size)
        good = np.bincount(bins, weights=right, minlength=BINS.size)
        curve = PRIOR
        for _ in range(50):  # Newton's method; the sum is convex, ten steps are usual
            expected = _logistic(INPUTS @ curve)
            gradient = INPUTS.T @ (good - rows * expected) - PRECISION * (curve - PRIOR)
            weights = rows * expected * (1 - expected)
            hessian = (INPUTS.T * weights) @ INPUTS + np.diag(PRECISION)
            step = np.linalg.solve(hessian, gradient)
            curve = curve + step / max(1.0, float(np.abs(step).max()))
            if np.abs(step).max() < 1e-9:
                break
        slope, offset = curve.tolist()
        (a, b), (c, d) = np.linalg.inv(hessian).tolist()
        return cls((slope, offset), ((a, b), (c, d)), len(right), int(right.sum()))

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Calibration":
        """From the content of `profile.json`. Raises KeyError, TypeError, ValueError."""
        slope, offset = map(float, document["curve"])
        (a, b), (c, d) = document["covariance"]
        covariance = ((float(a), float(b)), (float(c), float(d)))
        return cls((slope, offset), covariance, int(document["rows"]), int(document["right"]))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def estimate(self, counts: NDArray[np.int64], caution: str | None) -> Estimate | None:
        """The accuracy of a job with `counts` (BINS.size,) rows; None if it has no rows.

        The interval is that of two samples: the test split, which gave the curve, and the job.
        """
        rows = int(counts.sum())
        if not rows or not self.rows:
            return None
        expected = _logistic(INPUTS @ np.array(self.curve))
        accuracy = float(counts @ expected) / rows
        spread = counts * expected * (1 - expected)
        gradient = (INPUTS.T @ spread) / rows
        variance = float(spread.sum()) / rows**2 + gradient @ np.array(self.covariance) @ gradient
        # On the scale of log-odds, where an interval cannot leave 0 and 1.
        inside = min(max(accuracy, 1e-9), 1 - 1e-9)
        odds = np.log(inside / (1 - inside))
        far = Z * float(np.sqrt(variance)) / (inside * (1 - inside))
        low, high = _logistic(np.array([odds - far, odds + far])).tolist()
        return Estimate(
            accuracy=float(f"{accuracy:.4g}"),
            low=float(f"{low:.4g}"),
            high=float(f"{high:.4g}"),
            measured=float(f"{self.right / self.rows:.4g}"),
            caution=caution,
        )


def _logistic(odds: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
    return found
