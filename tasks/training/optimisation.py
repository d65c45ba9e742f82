"""The optimizer, frozen weights, and the schedule of the learning rate."""

import math
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

from tasks.config import Train
from tasks.errors import InputError


def freeze(network: nn.Module, patterns: list[str]) -> None:
    """Freeze the weights whose names match one of `patterns` (shell wildcards).

    Raises:
        InputError: a pattern matches no weight, or all weights would be frozen.
    """
    weights = dict(network.named_parameters())
    for pattern in patterns:
        matching = [name for name in weights if fnmatchcase(name, pattern)]
        if not matching:
            raise InputError(
                f"train.freeze: {pattern!r} matches no weight; the weights are {', '.join(weights)}"
            )
        for name in matching:
            weights[name].requires_grad_(False)
    if not any(weight.requires_grad for weight in weights.values()):
        raise InputError("train.freeze matches all weights; remove a pattern")


def begin_epoch(network: nn.Module) -> None:
    """Set the network to training mode, but keep the running statistics of frozen norms."""
    network.train()
    for module in network.modules():
        weights = module.parameters(recurse=False)
        if hasattr(module, "running_mean") and not any(w.requires_grad for w in weights):
            module.eval()


def make_optimizer(network: nn.Module, params: Train) -> Optimizer:
    """The optimizer of the weights that are not frozen."""
    p = params.optimizer
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    if p.name == "sgd":
        return SGD(
            weights,
            lr=p.learning_rate,
            momentum=p.momentum,
            nesterov=p.momentum > 0,
            weight_decay=p.weight_decay,
        )
    kind = Adam if p.name == "adam" else AdamW
    return kind(weights, lr=p.learning_rate, weight_decay=p.weight_decay)


class Schedule:
    """The learning rate, updated after each optimizer step, and for `plateau` after each epoch.

    `steps` is the number of optimizer steps in one epoch.

    Warm-up and decay are one factor of a `LambdaLR`. torch's `SequentialLR` of `LinearLR` and
    `CosineAnnealingLR` differs by up to 2e-18, which changes the bytes of models. It does not
    accept `ReduceLROnPlateau` either.
    """

    def __init__(self, optimizer: Optimizer, params: Train, steps: int) -> None:
        p = params.schedule
        self._warmup = 0 if p.name == "one_cycle" else round(p.warmup * steps)
        self._plateau: ReduceLROnPlateau | None = None
        self._by_step: LambdaLR | OneCycleLR
        if p.name == "one_cycle":
            # `cycle_momentum` would override the user's momentum.
            self._by_step = OneCycleLR(
                optimizer,
                max_lr=params.optimizer.learning_rate,
                total_steps=params.epochs * steps,
                cycle_momentum=False,
            )
            return
        after = max(1, params.epochs * steps - self._warmup)

        def factor(step: int) -> float:
            if step < self._warmup:
                return (step + 1) / self._warmup
            if p.name == "cosine":
                return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - self._warmup) / after)))
            return p.factor ** (step // steps // p.every) if p.name == "step" else 1.0

        self._by_step = LambdaLR(optimizer, factor)
        if p.name == "plateau":
            # torch reduces the rate in the epoch after `patience` epochs without improvement.
            self._plateau = ReduceLROnPlateau(
                optimizer, factor=p.factor, patience=p.every - 1, threshold=0
            )

    def step(self) -> None:
        """Call after each step of the optimizer."""
        # LambdaLR computes from the initial rate: after the warm-up, it would undo `plateau`.
        if self._plateau is None or self._by_step.last_epoch < self._warmup:
            self._by_step.step()

    def end_epoch(self, validation_loss: float) -> None:
        """Call after each epoch."""
        if self._plateau is not None and self._by_step.last_epoch >= self._warmup:
            self._plateau.step(validation_loss)

    def state_dict(self) -> dict[str, Any]:
        plateau = None if self._plateau is None else self._plateau.state_dict()
        return {"by_step": self._by_step.state_dict(), "plateau": plateau}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._by_step.load_state_dict(state["by_step"])
        if self._plateau is not None:
            self._plateau.load_state_dict(state["plateau"])
