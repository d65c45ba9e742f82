"""State: everything that changes during a training, and its conversion to one safetensors file."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricOptimizer
from torch import Tensor

from tasks.architectures import Network
from tasks.training.optimisation import Schedule
from tasks.training.processes import Processes

# A tree of dicts and lists whose leaves are tensors or JSON values.
Tree = Any
LEAF = "tensor:"


@dataclass
class State:
    """Everything that changes during a training. A restored training gives the same bits."""

    fabric: Fabric
    processes: Processes
    """All processes have the same state."""
    network: Network
    optimizer: _FabricOptimizer
    schedule: Schedule
    epoch: int = 1
    """The current epoch, from 1."""
    batch: int = 0
    """How many batches of the epoch are done."""
    loss: Tensor = field(init=False)
    """The loss summed over the rows of these batches."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the history, one for each finished epoch."""
    best: dict[str, Any] = field(default_factory=lambda: {"validation_loss": math.inf, "epoch": 0})
    """The row with the lowest validation loss."""
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.loss = torch.zeros((), device=self.fabric.device)

    def scores(self, inputs: dict[str, Tensor]) -> Tensor:
        """The network's scores, float32."""
        # Fabric's wrapper would round raw inputs to half precision before the network scales them.
        with self.fabric.autocast():
            scores: Tensor = self.network(inputs)
        return scores.float()

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Add the row of a finished epoch, and keep its weights if they are the best."""
        self.rows.append(row)
        if row["validation_loss"] < self.best["validation_loss"]:
            self.best = row
            self.best_weights = {k: v.clone() for k, v in self.network.state_dict().items()}
        self.epoch, self.batch, self.loss = self.epoch + 1, 0, torch.zeros_like(self.loss)

    def tree(self) -> Tree:
        """Everything that `restore` needs."""
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "loss": self.loss,
            "rows": self.rows,
            "best": self.best,
            "best_weights": self.best_weights,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            # The state of the gradient scaler, if there is one.
            "precision": self.fabric.strategy.precision.state_dict(),
            "rng_state": _rng_state(self.fabric.device),
        }

    def restore(self, tree: Tree) -> None:
        """Restore the result of `tree`, which another process may have written."""
        device = self.fabric.device
        self.epoch, self.batch = tree["epoch"], tree["batch"]
        self.rows, self.best = tree["rows"], tree["best"]
        self.loss = tree["loss"].to(device)
        self.best_weights = dict(tree["best_weights"])
        self.network.load_state_dict(tree["network"])
        optimizer = tree["optimizer"]
        # JSON turned the parameters' numbers into strings.
        optimizer["state"] = {int(number): s for number, s in optimizer["state"].items()}
        self.optimizer.load_state_dict(optimizer)
        self.schedule.load_state_dict(tree["schedule"])
        self.fabric.strategy.precision.load_state_dict(tree["precision"])
        torch.set_rng_state(tree["rng_state"]["cpu"])
        if device.type != "cpu":
            getattr(torch, device.type).set_rng_state(tree["rng_state"][device.type])


def _rng_state(device: torch.device) -> dict[str, Tensor]:
    """The states of the random number generators of CPU and device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = getattr(torch, device.type).get_rng_state()
    return states


def split(tree: Tree, tensors: dict[str, Tensor]) -> Tree:
    """The tree as JSON values. Its tensors are copied to the CPU and added to `tensors`."""
    if isinstance(tree, Tensor):
        # Copies, because safetensors refuses tensors that share memory.
        name = str(len(tensors))
        tensors[name] = tree.detach().to("cpu", copy=True).contiguous()
        return LEAF + name
    if isinstance(tree, dict):
        return {str(key): split(value, tensors) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [split(value, tensors) for value in tree]
    return tree


def join(tree: Tree, tensors: dict[str, Tensor]) -> Tree:
    """The reverse of `split`."""
    if isinstance(tree, str) and tree.startswith(LEAF):
        return tensors[tree.removeprefix(LEAF)]
    if isinstance(tree, dict):
        return {key: join(value, tensors) for key, value in tree.items()}
    if isinstance(tree, list):
        return [join(value, tensors) for value in tree]
    return tree
