"""How the target of a regression is scaled: the network predicts a scaled value, the graph gives it
back in the user's unit.

A transform is strictly increasing, so a quantile of the transformed target is the transform of the
quantile. It is fitted to the training rows, before the standardisation.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.dataset import TARGET, read_table
from tasks.errors import InputError

KNOTS = 101
"""Of the transform `quantile`: one for each percent of the training rows."""
Values = NDArray[np.float64]


class TargetTransform(nn.Module, ABC):
    """What it has fitted are float64 buffers on the CPU: not every device supports float64."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TargetTransform":
        return self  # `to`, `cpu`, `half` etc. must not move or convert the buffers

    @abstractmethod
    def fit(self, values: Values) -> None:
        """Fit to the targets (N,) of the training rows, which are not all equal."""

    @abstractmethod
    def transformed(self, values: Values, where: str) -> Values:
        """(N,) in the user's unit -> (N,).

        Raises:
            InputError: a value has no transform; names the rows by `where`.
        """

    @abstractmethod
    def inverse(self, values: Tensor) -> Tensor:
        """(N,) float64 -> (N,) float64 in the user's unit. Part of the graph."""


class Log(TargetTransform):
    """The natural logarithm: errors count in proportion to the value."""

    def fit(self, values: Values) -> None:
        pass

    def transformed(self, values: Values, where: str) -> Values:
        bad = ~(values > 0)
        if bad.any():
            raise InputError(
                f"train.target_transform: log needs values above 0, but {int(bad.sum()):,} of "
                f"{len(values):,} rows of {where} have others, such as {values.min():g}. Use "
                "quantile, which takes any number, or none"
            )
        found: Values = np.log(values)
        return found

    def inverse(self, values: Tensor) -> Tensor:
        return values.exp()


class Quantile(TargetTransform):
    """The normal score of the rank among the training rows, linear between `KNOTS` quantiles.

    Predictions stay between the lowest and the highest training value.
    """

    target_scores: Tensor
    target_values: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("target_scores", "target_values"):
            self.register_buffer(name, torch.zeros(KNOTS, dtype=torch.float64))

    def fit(self, values: Values) -> None:
        levels, rows = np.linspace(0, 1, KNOTS), len(values)
        middles_of_ranks = (levels * (rows - 1) + 0.5) / rows
        scores = torch.special.ndtri(torch.tensor(middles_of_ranks)).numpy()
        # Equal quantiles, as of many zeros, are one knot, in the middle of their scores.
        knots, place = np.unique(np.quantile(values, levels), return_inverse=True)
        middles = np.bincount(place, scores) / np.bincount(place)
        rest = KNOTS - len(knots)  # repeated, since the shape may not depend on the rows
        self.target_values.copy_(torch.tensor(np.pad(knots, (0, rest), mode="edge")))
        self.target_scores.copy_(torch.tensor(np.pad(middles, (0, rest), mode="edge")))

    def transformed(self, values: Values, where: str) -> Values:
        knots, first = np.unique(self.target_values.numpy(), return_index=True)
        found: Values = np.interp(values, knots, self.target_scores.numpy()[first])
        return found

    def inverse(self, values: Tensor) -> Tensor:
        # A sum over all pieces, because the exporter knows no search.
        widths, rises = self.target_scores.diff(), self.target_values.diff()
        slopes = rises / widths.clamp(min=1e-300)
        inside = torch.minimum((values[:, None] - self.target_scores[:-1]).clamp(min=0), widths)
        return self.target_values[0] + (inside * slopes).sum(1)


TRANSFORMS: dict[str, Callable[[], TargetTransform]] = {"log": Log, "quantile": Quantile}


@dataclass(frozen=True)
class TargetScale:
    """How the target of a regression is standardised, after a transform if there is one."""

    mean: float
    std: float
    transform: TargetTransform | None = None

    @classmethod
    def of(cls, name: str, profile: Mapping[str, Any], prepared: Path) -> "TargetScale":
        """The scale of the training rows of a dataset; `name` is `train.target_transform`.

        Raises:
            InputError: a training row has no transform.
        """
        if name not in TRANSFORMS:
            return cls(*target_scale(profile))
        values = np.asarray(read_table(prepared, "train")[TARGET].to_numpy(), np.float64)
        transform = TRANSFORMS[name]()
        transform.fit(values)
        found = transform.transformed(values, "the training split")
        return cls(float(found.mean()), float(found.std()) or 1.0, transform)

    def standardised(self, values: Values, where: str) -> Values:
        """(N,) in the user's unit -> (N,), float64. Raises `InputError` as the transform does."""
        if self.transform is not None:
            values = self.transform.transformed(values, where)
        return (values - self.mean) / self.std


def target_scale(profile: Mapping[str, Any]) -> tuple[float, float]:
    """Mean and standard deviation of a regression's target in the user's unit, float64."""
    return profile["target"]["mean"], profile["target"]["std"] or 1.0
