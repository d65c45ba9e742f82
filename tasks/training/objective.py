"""Objective: the loss of a training, class weights, and validation."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.bundle.signature import Signature
from tasks.config import Train
from tasks.errors import InputError
from tasks.training.losses import LOSSES, Loss
from tasks.training.processes import Processes
from tasks.training.rows import Whole, Windows


@dataclass(frozen=True)
class Objective:
    """The loss that a training minimises. Targets of a regression are standardised."""

    loss: Loss
    class_weights: Tensor | None
    """(K,) float32: the inverse frequency of each class, scaled so that the mean over rows is 1;
    None without `train.imbalance`."""

    @classmethod
    def of(cls, params: Train, signature: Signature, targets: Iterable[Tensor]) -> "Objective":
        """The objective of a training on rows with these `targets`, in parts.

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
            classes = len(signature.classes)
            counts = torch.stack([torch.bincount(t, minlength=classes) for t in targets]).sum(0)
            weights = int(counts.sum()) / (classes * counts.float().clamp(min=1))
        name = signature.problem.loss if params.loss == "auto" else params.loss
        return cls(LOSSES[name](params, weights), weights)

    def row_weights(self, targets: Tensor) -> Tensor:
        """(N,) on the CPU: sampling weights of rows with which all classes are equally frequent."""
        assert self.class_weights is not None
        return self.class_weights[targets].cpu()

    def batch_loss(
        self, scores: Tensor, targets: Tensor, processes: Processes
    ) -> tuple[Tensor, Tensor]:
        """This process's part of the mean loss of a batch, to minimise, and the mean loss.

        The parts of all processes add up to the mean loss, and so do their gradients.
        """
        mean = self.loss(scores, targets)
        if processes.size == 1:
            return mean, mean.detach()
        weight = self.loss.weight(targets)
        total, weights = processes.total(torch.stack([mean.detach() * weight, weight]))
        return mean * (weight / weights), total / weights

    @torch.no_grad()
    def validate(
        self,
        scores_of: Callable[[dict[str, Tensor]], Tensor],
        validation: Whole | Windows,
        batch_size: int,
        processes: Processes,
    ) -> tuple[float, float]:
        """Mean loss without label smoothing, and metric, on the validation split."""
        size = self.loss.validation_batch or batch_size
        batches = torch.split(torch.arange(len(validation)), size)
        sums = []
        for rows in batches[processes.rank :: processes.size] or batches[:1]:
            inputs, targets = validation.in_order(rows)
            sums.append(self.loss.sums(scores_of(inputs), targets))
        # Added up in float64 on the CPU, because not every device supports float64.
        total = torch.stack(sums).cpu().double().sum(0)
        if processes.size > 1:  # which may be more than there are batches
            total *= processes.rank < len(batches)
            total = processes.total(total.to(processes.device))
        return self.loss.result(total.tolist(), validation.all_targets)
