"""Objective: the loss of a training, class weights, and validation."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.bundle.signature import Signature
from tasks.config import Train
from tasks.errors import InputError
from tasks.training.batches import DeviceRows
from tasks.training.losses import LOSSES, Loss


@dataclass(frozen=True)
class Objective:
    """The loss that a training minimises. Targets of a regression are standardised."""

    loss: Loss
    class_weights: Tensor | None
    """(K,) float32: the inverse frequency of each class, scaled so that the mean over rows is 1;
    None without `train.imbalance`."""

    @classmethod
    def of(cls, params: Train, signature: Signature, targets: Tensor) -> "Objective":
        """The objective of a training on rows with these `targets`.

        Raises:
            InputError: `train.imbalance` is set, but the task has no classes.
        """
        weights = None
        if params.imbalance != "none":
            if not signature.classifies:
                raise InputError(
                    f"train.imbalance is {params.imbalance}, which balances classes, but the task "
                    f"{signature.task} has no classes. Set train.imbalance to none."
                )
            counts = torch.bincount(targets, minlength=len(signature.classes)).float()
            weights = len(targets) / (len(counts) * counts.clamp(min=1))
        name = signature.problem.loss if params.loss == "auto" else params.loss
        return cls(LOSSES[name](params, weights), weights)

    def row_weights(self, targets: Tensor) -> Tensor:
        """(N,) on the CPU: sampling weights of rows with which all classes are equally frequent."""
        assert self.class_weights is not None
        return self.class_weights[targets].cpu()

    @torch.no_grad()
    def validate(
        self,
        scores_of: Callable[[dict[str, Tensor]], Tensor],
        validation: DeviceRows,
        batch_size: int,
    ) -> tuple[float, float]:
        """Mean loss without label smoothing, and metric, on the validation split."""
        size = self.loss.validation_batch or batch_size
        sums = []
        for rows in torch.split(torch.arange(len(validation)), size):
            inputs, targets = validation.take(rows)
            sums.append(self.loss.sums(scores_of(inputs), targets))
        # Added up in float64 on the CPU, because not every device supports float64.
        total = torch.stack(sums).cpu().double().sum(0).tolist()
        return self.loss.result(total, validation.targets)
