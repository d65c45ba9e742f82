"""What a training makes small, and what it is watched by on the validation split."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.bundle.signature import Signature, Task
from tasks.columns.tokenizing import PADDING
from tasks.config import Train
from tasks.errors import InputError
from tasks.training.batches import DeviceRows as Rows

ValidationMetric = Literal["accuracy", "r2", "perplexity"]
EVALUATION_BATCH = 1024


@dataclass(frozen=True)
class Objective:
    """Loss and metric of a task. Targets of a regression are standardised."""

    task: Task
    label_smoothing: float
    imbalance: Literal["none", "weights", "sampler"]
    class_weights: Tensor | None
    """(K,) float32: the inverse of each class's frequency, 1 for an average row; None without
    `imbalance`."""

    @classmethod
    def of(cls, params: Train, signature: Signature, targets: Tensor) -> "Objective":
        """The objective of a training on rows with these `targets`.

        Raises:
            InputError: `train.imbalance` asks for balance where there are no classes.
        """
        weights = None
        if params.imbalance != "none":
            if not signature.classifies:
                raise InputError(
                    f"train.imbalance is {params.imbalance}, which balances classes; the task "
                    f"{signature.task} has none. Set it to none."
                )
            counts = torch.bincount(targets, minlength=len(signature.classes)).float()
            weights = len(targets) / (len(counts) * counts.clamp(min=1))
        return cls(signature.task, params.label_smoothing, params.imbalance, weights)

    def row_weights(self, targets: Tensor) -> Tensor:
        """How probable each row is where classes are drawn equally often, (N,), on the CPU."""
        assert self.class_weights is not None
        return self.class_weights[targets].cpu()

    @property
    def metric(self) -> ValidationMetric:
        if self.task == "language_model":
            return "perplexity"
        return "r2" if self.task == "regression" else "accuracy"

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The batch's mean loss, a scalar.

        `scores` are logits (B, K), values (B,) or, of a language model, (B, T, V).
        """
        if self.task == "regression":
            return F.mse_loss(scores, targets)
        if self.task == "language_model":
            total, tokens = _next_token(scores, targets, self.label_smoothing)
            return total / tokens.clamp(min=1)
        weights = self.class_weights if self.imbalance == "weights" else None
        return F.cross_entropy(scores, targets, weights, label_smoothing=self.label_smoothing)

    def _sums(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Of one batch (3,): the summed loss, its divisor, and the rows that were right."""
        zero = torch.zeros((), device=scores.device)
        if self.task == "regression":
            return torch.stack([F.mse_loss(scores, targets, reduction="sum"), zero, zero])
        if self.task == "language_model":
            return torch.stack([*_next_token(scores, targets), zero])
        # With the sampler, too: the best epoch is the one that is best at what was asked for.
        weights = self.class_weights
        total = F.cross_entropy(scores, targets, weights, reduction="sum")
        divisor = zero + len(targets) if weights is None else weights[targets].sum()
        return torch.stack([total, divisor, (scores.argmax(1) == targets).sum()])

    @torch.no_grad()
    def validate(
        self, scores_of: Callable[[dict[str, Tensor]], Tensor], held: Rows, batch_size: int
    ) -> tuple[float, float]:
        """Mean loss, without label smoothing, and metric on the rows held out."""
        # Logits over a vocabulary are large: a training batch is what is known to fit.
        size = batch_size if self.task == "language_model" else EVALUATION_BATCH
        sums = []
        for rows in torch.split(torch.arange(len(held)), size):
            inputs, targets = held.take(rows)
            sums.append(self._sums(scores_of(inputs), targets))
        total, divisor, right = torch.stack(sums).cpu().double().sum(0).tolist()
        if self.task == "regression":
            spread = (held.targets - held.targets.mean()).square().sum().item()
            return total / len(held), 1 - total / spread if spread > 0 else 0.0
        loss = total / max(divisor, 1e-12)
        if self.task == "language_model":
            return loss, math.exp(min(loss, 700.0))  # math.exp overflows beyond
        return loss, right / len(held)


def _next_token(scores: Tensor, tokens: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each token after the first, summed, and how many these are."""
    targets = tokens[:, 1:]
    total = F.cross_entropy(
        scores[:, :-1].flatten(0, 1),
        targets.flatten(),
        ignore_index=PADDING,
        reduction="sum",
        label_smoothing=smoothing,
    )
    return total, (targets != PADDING).sum()
