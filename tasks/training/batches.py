"""DeviceRows: rows on the device; and the batches of an epoch in random order."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.architectures.target_transforms import TargetScale
from tasks.dataset import read_split
from tasks.encoding import Encoder


@dataclass(frozen=True)
class DeviceRows:
    """Rows of a split on the device; every tensor has N rows."""

    inputs: dict[str, Tensor]
    """By tensor name of the signature."""
    targets: Tensor
    """Class numbers (N,) int64, standardised values (N,) float32, or for a language model the
    tokens (N, T) int64."""
    varying: frozenset[str]
    """Names of inputs whose second axis is padded to the longest row."""
    lengths: Tensor | None
    """Number of timesteps of each row, (N,) int64 on the CPU; None without varying inputs."""

    @classmethod
    def read(
        cls,
        prepared: Path,
        name: str,
        encoder: Encoder,
        device: torch.device,
        scale: TargetScale | None = None,
        rows: Tensor | None = None,
    ) -> "DeviceRows":
        """Read a split, or its `rows` with these numbers.

        `scale` is what the target is standardised by.

        Raises:
            InputError: a target has no transform.
        """
        split = read_split(prepared, name, encoder, None if rows is None else rows.numpy())
        # A copy, because torch needs writable memory and the split is memory-mapped read-only.
        inputs = {name: torch.tensor(array) for name, array in split.inputs.items()}
        targets = target_tensor(split.targets, scale, f"the {name} split")
        if encoder.signature.problem.target is None:
            targets = inputs["tokens"]
        varying = frozenset(t.name for t in encoder.signature.inputs if None in t.shape)
        on_device = {name: tensor.to(device) for name, tensor in inputs.items()}
        return cls(on_device, targets.to(device), varying, inputs["length"] if varying else None)

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Inputs and targets of the rows with these numbers, (B,) int64 on the CPU.

        Varying inputs are padded only to the longest row of the batch.
        """
        # Computed on the CPU: reading a value from the GPU would wait for it at every step.
        longest = None if self.lengths is None else max(1, int(self.lengths[rows].max()))
        index = rows.to(self.targets.device)

        def pick(tensor: Tensor, padded: bool) -> Tensor:
            return (tensor[:, :longest] if padded else tensor)[index]

        inputs = {name: pick(t, name in self.varying) for name, t in self.inputs.items()}
        return inputs, pick(self.targets, self.targets.dim() > 1)


def target_tensor(targets: NDArray[Any], scale: TargetScale | None, where: str) -> Tensor:
    """Targets (N,), for a regression standardised by `scale`.

    Raises:
        InputError: a target has no transform; names the rows by `where`.
    """
    if scale is None:
        return torch.tensor(targets)
    # Converted to float32 only after scaling: large values would lose their differences.
    standardised = scale.standardised(targets.astype(np.float64), where)
    return torch.tensor(standardised.astype(np.float32))


def in_batches(order: Tensor, size: int) -> list[Tensor]:
    """Row numbers of each batch. A last batch of one row is left out, because batch normalisation
    needs at least two.
    """
    return [batch for batch in torch.split(order, size) if len(batch) > 1]


def epoch_of(rows: int, size: int) -> tuple[int, int]:
    """How many batches an epoch has, and how many rows are in them: see `in_batches`."""
    full, rest = divmod(rows, size)
    return full + (rest > 1), rows - (rest == 1)


def generator_of(seed: int, epoch: int) -> torch.Generator:
    """The generator for the order of an epoch."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


def order_of(rows: int, seed: int, epoch: int, weights: Tensor | None = None) -> Tensor:
    """Row numbers in random order, (N,) int64 on the CPU; depends only on seed and epoch.

    Each row once or, with `weights` (N,), N rows drawn in proportion to them with replacement.
    """
    generator = generator_of(seed, epoch)
    if weights is None:
        return torch.randperm(rows, generator=generator)
    return torch.multinomial(weights, rows, replacement=True, generator=generator)
