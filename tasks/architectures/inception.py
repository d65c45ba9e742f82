"""A residual stack of convolutions of several lengths beside each other.

InceptionTime, Ismail Fawaz et al. 2020, https://arxiv.org/abs/1909.04939, one network of its
ensemble of five. A convolution of one timestep first reduces the channels, so long ones stay cheap.
"""

import torch
from torch import Tensor, nn

from tasks.architectures.network import Parts
from tasks.architectures.series import (
    BatchNorm,
    Convolution,
    Convolutions,
    Series,
    largest_of_three,
)
from tasks.bundle.signature import Signature
from tasks.config import Inception

RESIDUAL = 3  # blocks between two residual connections


def parts(params: Inception, signature: Signature) -> Parts:
    """(batch, time, channels) and length (batch,) -> (batch, width of all convolutions)."""
    front = Series(signature, params.scaling)
    width = params.width * (len(params.kernels) + 1)
    layers: list[nn.Module] = []
    channels = front.channels
    for start in range(0, params.depth, RESIDUAL):
        layers.append(Residual(channels, params, min(RESIDUAL, params.depth - start)))
        channels = width
    return Parts(front, Convolutions(layers, params.dropout), width)


class Block(nn.Module):
    """Convolutions of each length and of the largest of three timesteps, beside each other."""

    def __init__(self, channels: int, params: Inception) -> None:
        super().__init__()
        width = params.width
        self.bottleneck = Convolution(channels, width) if channels > width else None
        narrow = min(channels, width)
        self.branches = nn.ModuleList(Convolution(narrow, width, k) for k in params.kernels)
        self.largest = Convolution(channels, width)
        self.norm = BatchNorm(width * (len(params.kernels) + 1))

    def forward(self, signal: Tensor, valid: Tensor | None) -> Tensor:
        """(batch, channels, time) -> (batch, width of all, time), before ReLU."""
        narrow = signal if self.bottleneck is None else self.bottleneck(signal, valid)
        found = [branch(narrow, valid) for branch in self.branches]
        found.append(self.largest(largest_of_three(signal, valid), valid))
        normed: Tensor = self.norm(torch.cat(found, dim=1), valid)
        return normed


class Residual(nn.Module):
    """Blocks in a row, to whose result their input is added."""

    def __init__(self, channels: int, params: Inception, blocks: int) -> None:
        super().__init__()
        width = params.width * (len(params.kernels) + 1)
        before = [channels, *[width] * (blocks - 1)]
        self.blocks = nn.ModuleList(Block(count, params) for count in before)
        self.shortcut = Convolution(channels, width)
        self.norm = BatchNorm(width)

    def forward(self, signal: Tensor, valid: Tensor | None) -> Tensor:
        """(batch, channels, time) -> (batch, width of all, time)."""
        short = self.norm(self.shortcut(signal, valid), valid)
        *first, last = self.blocks
        for block in first:
            signal = nn.functional.relu(block(signal, valid))
        return nn.functional.relu(last(signal, valid) + short)
