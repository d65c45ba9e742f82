"""What labels say of a champion: whether it meets its gates, and how the version before it does.

Both are judged on the newest jobs that have enough labels together, so that good months do not hide
a bad week, and with a certainty of 99 %, so that chance starts nothing.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.feedback import Predicted
from tasks import feedback
from tasks.bundle.signature import Signature
from tasks.config import Bounds, Evaluate
from tasks.problems import METRICS
from tasks.words import counted

DRAWS = 200
CERTAIN = 0.99
MOST = 20_000
"""Rows that are resampled: more make the interval no narrower than matters here."""

Values = NDArray[Any]


@dataclass(frozen=True)
class Labelled:
    """Labels and predictions (N,) of the newest jobs."""

    labels: Values
    predictions: Values


def newest(found: Sequence[Predicted], least: int) -> tuple[list[Predicted], Labelled] | None:
    """The newest jobs that have `least` labels together; None if all have fewer."""
    used: list[Predicted] = []
    parts: list[feedback.Labelled] = []
    seen: set[str] = set()
    for one in found:
        if one.job.input_sha256 in seen:  # the same rows again say nothing new
            continue
        part = feedback.labelled(one.labels, one.table())
        if part is None:
            continue
        seen.add(one.job.input_sha256)
        used.append(one)
        parts.append(part)
        if sum(len(part.labels) for part in parts) >= least:
            return used, Labelled(
                _joined(p.labels for p in parts), _joined(p.predictions for p in parts)
            )
    return None


def _joined(parts: Iterator[Any]) -> Values:
    return np.concatenate([part.to_numpy(zero_copy_only=False) for part in parts])


def below_gates(found: Sequence[Predicted], evaluation: Evaluate, least: int) -> str:
    """How the newest labels show that a gate is not met; empty if they do not.

    A gate is missed if the end of the interval that is better does not reach it.
    """
    chosen = newest(found, least)
    if chosen is None:
        return ""
    used, rows = chosen
    signature = used[0].signature
    measured = signature.problem.measured(signature, rows.labels, rows.predictions)
    missed = {}
    for name, gate in evaluation.gates.items():
        bound, lower = _bound(gate, METRICS[name].lower_is_better), METRICS[name].lower_is_better
        value = measured.get(name)
        if bound is not None and value is not None and (value > bound if lower else value < bound):
            missed[name] = bound
    draws = _draws(signature, rows) if missed else []
    for name, bound in missed.items():
        lower = METRICS[name].lower_is_better
        values = [draw[name] for draw in draws if name in draw]
        best = float(np.quantile(values, 1 - CERTAIN if lower else CERTAIN))
        if (best > bound) if lower else (best < bound):
            return (
                f"{name} {measured[name]:.4f} on {counted(len(rows.labels), 'label')} of "
                f"{counted(len(used), 'job')}, at best {best:.4f}, misses the gate "
                f"{'<=' if lower else '>='} {bound:g}"
            )
    return ""


def _draws(signature: Signature, rows: Labelled) -> list[dict[str, float]]:
    """The metrics of rows that are drawn again."""
    number, generator = len(rows.labels), np.random.default_rng(0)
    drawn = (generator.integers(0, number, min(number, MOST)) for _ in range(DRAWS))
    measured = signature.problem.measured
    return [measured(signature, rows.labels[d], rows.predictions[d]) for d in drawn]


def _bound(gate: float | Bounds, lower: bool) -> float | None:
    if isinstance(gate, Bounds):
        return gate.at_most if lower else gate.at_least
    return gate


@dataclass(frozen=True)
class Comparison:
    """Two versions on the same labelled rows."""

    rows: int
    metric: str
    champion: float
    other: float
    chance: float
    """The probability that the champion looks so much worse although it is not."""

    @property
    def worse(self) -> bool:
        return self.chance < 1 - CERTAIN


def compare(
    labels: Values,
    champion: Values,
    other: Values,
    *,
    classes: bool,
    balanced: bool = False,
    quantile: float | None = None,
) -> Comparison:
    """Compare predictions (N,) for the same rows with their labels.

    Classes: the rows that only one of the two has right, by the sign test (McNemar 1947, exact).
    Numbers: the mean of the differences of their absolute errors, or of their pinball losses for a
    `quantile`, by its standard error. `balanced`: so too for classes, each with the same weight,
    for a model with a threshold: by rows, "no" for everybody would be the better model.
    """
    if classes and balanced:
        names, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
        weights = (len(labels) / len(names) / counts)[place]
        own, its = weights * (champion != labels), weights * (other != labels)
        one, two = (1 - float(wrong.mean()) for wrong in (own, its))
        return Comparison(len(labels), "balanced_accuracy", one, two, _by_chance(own - its))
    if classes:
        from scipy.stats import binomtest  # imported late: few looks compare

        own, its = champion == labels, other == labels
        won, lost = int((its & ~own).sum()), int((own & ~its).sum())
        chance = binomtest(won, won + lost, alternative="greater").pvalue if won else 1.0
        return Comparison(len(labels), "accuracy", float(own.mean()), float(its.mean()), chance)
    metric = "mae" if quantile is None else "pinball_loss"
    own, its = np.abs(champion - labels), np.abs(other - labels)
    if quantile is not None:
        own, its = (
            np.where(labels > given, quantile, 1 - quantile) * error
            for given, error in ((champion, own), (other, its))
        )
    chance = _by_chance(own - its)
    return Comparison(len(labels), metric, float(own.mean()), float(its.mean()), chance)


def _by_chance(gain: Values) -> float:
    """The probability that the mean of `gain` (N,) is so far above 0 by chance."""
    error = float(gain.std(ddof=1)) / math.sqrt(len(gain)) if len(gain) > 1 else 0.0
    return 0.5 * math.erfc(float(gain.mean()) / error / math.sqrt(2)) if error else 1.0
