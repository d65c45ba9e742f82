"""Parts of all networks over timesteps: the mask of valid timesteps, positions, pooling."""

import math
from typing import Literal

import torch
from torch import Tensor, nn


def valid_timesteps(steps: Tensor, length: Tensor) -> Tensor:
    """(batch, time, width) and (batch,) int64 of at least 1 -> (batch, time), False on padding."""
    return torch.arange(steps.shape[1], device=length.device) < length[:, None]


def pool(steps: Tensor, valid: Tensor | None, how: Literal["mean", "max"]) -> Tensor:
    """(batch, time, width) -> (batch, width): the mean or maximum over the valid timesteps.

    `valid` is (batch, time); None means that all timesteps are valid.
    """
    if valid is None:
        return steps.mean(1) if how == "mean" else steps.amax(1)
    if how == "max":
        return steps.masked_fill(~valid[..., None], -math.inf).amax(1)
    return (steps * valid[..., None]).sum(1) / valid.sum(1, keepdim=True)


class Positions(nn.Module):
    """Adds a vector for its position to each timestep; there are at most `count` positions.

    Learned (Gehring et al. 2017, https://arxiv.org/abs/1705.03122) or sinusoidal (Vaswani et al.
    2017, https://arxiv.org/abs/1706.03762).
    """

    table: Tensor

    def __init__(self, kind: Literal["learned", "sinusoidal"], count: int, width: int) -> None:
        super().__init__()
        if kind == "learned":
            self.table = nn.Parameter(nn.init.normal_(torch.empty(count, width), std=width**-0.5))
        else:
            self.register_buffer("table", _sinusoids(count, width), persistent=False)

    def forward(self, steps: Tensor) -> Tensor:
        """(batch, time, width) -> the same shape; time is at most `count`."""
        return steps + self.table[: steps.shape[1]]


def _sinusoids(count: int, width: int) -> Tensor:
    """(count, width): sines on even columns, cosines on odd, wavelengths from 2 pi to 20,000 pi."""
    even = torch.arange(0, width, 2)
    wavelengths = torch.pow(torch.tensor(10_000.0), even / width)
    angles = torch.arange(count)[:, None] / wavelengths
    table = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]
    # The paper multiplies token vectors by the root of the width; dividing here has the same ratio.
    return table / math.sqrt(width)
