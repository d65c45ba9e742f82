"""Trains the best trials and the defaults again with other seeds, and decides between them.

Only losses of the validation split decide. They are judged twice:

- All trainings of the winner must be better than all of the defaults: three against three happens
  by chance in one of 20 cases.
- The winner must have learnt from the inputs. Trials are chosen by the validation rows, so the best
  of many may fit them by chance. If the labels were independent of the inputs, the mean loss of a
  model on n rows would be lower than that of the best constant prediction by log(m / 0.05) / n in
  at most 5 % of the cases, where m is the number of models that were looked at: one for each epoch
  of each trial. (The likelihood ratio has mean 1, Markov's inequality, and a union bound. For
  numbers: of a normal distribution, whose variance is that of the rows.)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow.compute as pc

from flows.tuning.studies import Trial
from tasks.config import Params
from tasks.dataset import TARGET, read_table
from tasks.problems import PROBLEMS

BEST = 3
SEEDS = 3
CHANCE = 0.05


@dataclass(frozen=True)
class Repeated:
    """The defaults (`trial` None) or one of the best trials, trained with other seeds."""

    trial: int | None
    values: Mapping[str, Any]
    """By name, as the trial had them."""
    losses: list[float]
    """The lowest validation loss by seed; infinite, if that training failed."""
    metrics: list[float]

    @property
    def mean(self) -> float:
        return fmean(self.losses) if self.losses else math.inf

    @property
    def name(self) -> str:
        return "the defaults" if self.trial is None else f"trial {self.trial}"

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it: None for a training that failed."""
        losses = [loss if math.isfinite(loss) else None for loss in self.losses]
        return {**asdict(self), "values": dict(self.values), "losses": losses}


@dataclass(frozen=True)
class Verdict:
    """Which trial is registered; None if none is better than the defaults. `reason` says why."""

    winner: int | None
    reason: str


def best_of(trials: Sequence[Trial]) -> list[Trial]:
    """The complete trials with the lowest loss, at most three."""
    complete = [trial for trial in trials if trial.loss is not None and math.isfinite(trial.loss)]
    return sorted(complete, key=lambda t: (t.loss, t.number))[:BEST]


def decide(repeated: Sequence[Repeated], looked_at: int, prepared: Path, params: Params) -> Verdict:
    """Choose among the defaults, which come first, and the others.

    `looked_at` is the number of models that were compared on the validation split.
    """
    defaults, *others = repeated
    if not others:
        return Verdict(None, "no trial was complete")
    best = min(others, key=lambda one: one.mean)
    if not max(best.losses) < min(defaults.losses):
        return Verdict(
            None,
            f"no better than the defaults: the validation losses of {best.name} are "
            f"{_range(best.losses)} with {len(best.losses)} seeds, those of the defaults "
            f"{_range(defaults.losses)}",
        )
    if shortfall := _not_learnt(best, looked_at, prepared, params):
        return Verdict(None, f"no better than the defaults: {shortfall}")
    gain = 1 - best.mean / defaults.mean if defaults.mean > 0 else 0.0
    return Verdict(
        best.trial,
        f"{best.name} is better than the defaults with every seed: validation loss "
        f"{_range(best.losses)} against {_range(defaults.losses)}, {gain:.1%} lower in the mean",
    )


def _not_learnt(best: Repeated, looked_at: int, prepared: Path, params: Params) -> str:
    """Why it is not certain that the winner has learnt from the inputs; empty if it is."""
    problem = PROBLEMS[params.prepare.task]
    if problem.target is None or params.train.architecture.name == "transformer_lm":
        return ""  # texts are never independent of the text before
    targets = read_table(prepared, "validation")[TARGET]
    rows = len(targets)
    needed = math.log(looked_at / CHANCE)
    if problem.standardised:
        # Of normal errors; of asymmetric Laplace errors, whose likelihood is the pinball loss.
        share = 1 if params.train.loss == "quantile" else 0.5
        found = -rows * share * math.log(max(1e-12, 1 - fmean(best.metrics)))
    else:
        found = rows * (_constant_loss(prepared, params) - best.mean)
    if found >= needed:
        return ""
    return (
        f"{best.name} predicts the {rows:,} validation rows hardly better than one constant "
        f"prediction for all of them would (log-likelihood ratio {found:.1f}); the best of "
        f"{looked_at:,} models may reach {needed:.1f} by chance. Either the inputs do not tell the "
        "target, or more validation rows are needed"
    )


def _constant_loss(prepared: Path, params: Params) -> float:
    """The validation loss of the best prediction that is the same for all rows."""
    count = _counts(prepared, "validation")
    weights = dict.fromkeys(count, 1.0)
    if params.train.imbalance != "none":  # then the loss of a row has the weight of its class
        training = _counts(prepared, "train")
        weights = {name: 1 / max(1, training.get(name, 0)) for name in count}
    shares = np.array([count[name] * weights[name] for name in count])
    shares = shares[shares > 0] / shares.sum()
    return float(-(shares * np.log(shares)).sum())


def _counts(prepared: Path, split: str) -> dict[str, int]:
    found = pc.value_counts(read_table(prepared, split)[TARGET].cast("string"))
    return {str(one["values"]): int(one["counts"]) for one in found.to_pylist()}


def _range(losses: Sequence[float]) -> str:
    low, high = min(losses), max(losses)
    return f"{low:.4f} to {high:.4f}"
