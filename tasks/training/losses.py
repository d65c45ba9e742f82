"""Losses by name: one explicit dict. `Problem.loss` is the name.

Each loss also computes the validation metric that the training prints.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.columns.tokenizing import PADDING
from tasks.config import Train


class Loss(ABC):
    """A loss for one training."""

    metric: ClassVar[str]
    """The name of the validation metric."""
    validation_batch: ClassVar[int | None] = 1024
    """Batch size for validation; None means the batch size of the training."""

    def __init__(self, params: Train, class_weights: Tensor | None) -> None:
        """`class_weights` (K,) float32 come from `train.imbalance`; None without it."""
        self._smoothing = params.label_smoothing

    @abstractmethod
    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar, from the network's float32 scores."""

    def weight(self, targets: Tensor) -> Tensor:
        """What the mean loss of a batch is divided by, a scalar: the weight of the batch."""
        return torch.tensor(float(len(targets)), device=targets.device)

    @abstractmethod
    def sums(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The sums (n,) of one batch that `result` needs; the caller adds them up over batches."""

    @abstractmethod
    def result(self, sums: list[float], targets: Tensor) -> tuple[float, float]:
        """Mean loss without label smoothing, and metric; `targets` are those of the whole split."""


class CrossEntropy(Loss):
    """Scores are logits (B, K), targets class numbers (B,)."""

    metric = "accuracy"

    def __init__(self, params: Train, class_weights: Tensor | None) -> None:
        super().__init__(params, class_weights)
        # The sampler already balances training batches. Validation is weighted in both cases, so
        # that the best epoch is the best for balanced classes.
        self._training_weights = class_weights if params.imbalance == "weights" else None
        self._weights = class_weights

    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        weights = self._training_weights
        return F.cross_entropy(scores, targets, weights, label_smoothing=self._smoothing)

    def weight(self, targets: Tensor) -> Tensor:
        weights = self._training_weights
        return super().weight(targets) if weights is None else weights[targets].sum()

    def sums(self, scores: Tensor, targets: Tensor) -> Tensor:
        total = F.cross_entropy(scores, targets, self._weights, reduction="sum")
        count = torch.zeros((), device=scores.device) + len(targets)
        divisor = count if self._weights is None else self._weights[targets].sum()
        return torch.stack([total, divisor, (scores.argmax(1) == targets).sum()])

    def result(self, sums: list[float], targets: Tensor) -> tuple[float, float]:
        total, divisor, right = sums
        return total / max(divisor, 1e-12), right / len(targets)


class SquaredError(Loss):
    """Scores and targets are standardised values (B,)."""

    metric = "r2"

    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(scores, targets)

    def sums(self, scores: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(scores, targets, reduction="sum").unsqueeze(0)

    def result(self, sums: list[float], targets: Tensor) -> tuple[float, float]:
        (total,) = sums
        spread = (targets - targets.mean()).square().sum().item()
        return total / len(targets), 1 - total / spread if spread > 0 else 0.0


class Huber(SquaredError):
    """Like the squared error, but beyond one standard deviation it grows like the absolute one."""

    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        return F.huber_loss(scores, targets)

    def sums(self, scores: Tensor, targets: Tensor) -> Tensor:
        total = F.huber_loss(scores, targets, reduction="sum")
        return torch.stack([total, F.mse_loss(scores, targets, reduction="sum")])

    def result(self, sums: list[float], targets: Tensor) -> tuple[float, float]:
        total, squared = sums
        return total / len(targets), super().result([squared], targets)[1]


class Quantile(Loss):
    """Scores are a quantile of standardised values (B,)."""

    metric = "pinball_skill"
    """How much lower the loss is than that of the best constant: the R² of a quantile (Koenker and
    Machado 1999)."""

    def __init__(self, params: Train, class_weights: Tensor | None) -> None:
        super().__init__(params, class_weights)
        assert params.quantile is not None
        self._level = params.quantile

    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        return self._each(scores, targets).mean()

    def sums(self, scores: Tensor, targets: Tensor) -> Tensor:
        return self._each(scores, targets).sum().unsqueeze(0)

    def result(self, sums: list[float], targets: Tensor) -> tuple[float, float]:
        (total,) = sums
        # On CUDA, torch refuses kthvalue, whose index may be one of several.
        targets = targets.cpu()
        # Not torch.quantile, which takes at most 16 million values.
        best = targets.kthvalue(max(1, math.ceil(self._level * len(targets)))).values
        constant = self._each(best.expand_as(targets), targets).sum().item()
        return total / len(targets), 1 - total / constant if constant > 0 else 0.0

    def _each(self, scores: Tensor, targets: Tensor) -> Tensor:
        error = targets - scores
        return torch.maximum(self._level * error, (self._level - 1) * error)


class NextToken(Loss):
    """Scores are logits (B, T, V) of the next token, targets the tokens (B, T)."""

    metric = "perplexity"
    validation_batch = None  # the logits are large; a training batch is known to fit into memory

    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        total, tokens = self._total(scores, targets, self._smoothing)
        return total / tokens.clamp(min=1)

    def weight(self, targets: Tensor) -> Tensor:
        return (targets[:, 1:] != PADDING).sum().clamp(min=1).float()

    def sums(self, scores: Tensor, targets: Tensor) -> Tensor:
        return torch.stack(self._total(scores, targets, 0.0))

    def result(self, sums: list[float], targets: Tensor) -> tuple[float, float]:
        total, tokens = sums
        loss = total / max(tokens, 1e-12)
        return loss, math.exp(min(loss, 700.0))  # math.exp overflows beyond

    def _total(self, scores: Tensor, tokens: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        """The summed cross-entropy of all tokens after the first, and how many they are."""
        targets = tokens[:, 1:]
        total = F.cross_entropy(
            scores[:, :-1].flatten(0, 1),
            targets.flatten(),
            ignore_index=PADDING,
            reduction="sum",
            label_smoothing=smoothing,
        )
        return total, (targets != PADDING).sum()


LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "squared_error": SquaredError,
    "huber": Huber,
    "quantile": Quantile,
    "next_token": NextToken,
}
