"""Parts of convolutional networks over sequences: the front, and layers that never see padding.

A convolution pads both ends of a sequence with zeros. So padded timesteps are zero before each
convolution, and a row has the same result alone and in a batch of longer ones.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from tasks.architectures.fronts import Fronts, Inputs, Standardize
from tasks.architectures.outputs import lengths
from tasks.architectures.timesteps import pool, valid_timesteps
from tasks.bundle.signature import Signature
from tasks.columns import SequenceColumn
from tasks.config.architectures import Scaling

# Variance that is added to that of a sequence, in parts of the variance of all training timesteps:
# noise of a constant sequence is not taken for its shape.
LEAST_VARIANCE = 1e-4


class Series(nn.Module):
    """`sequence` (batch, time, features) float32 -> (batch, time, channels).

    Standardised by all training timesteps (`dataset`), or then each sequence by its own mean and
    standard deviation (`series`), or both beside each other.
    """

    def __init__(self, signature: Signature, scaling: Scaling) -> None:
        super().__init__()
        column = cast(SequenceColumn, signature.columns[0])
        self.scaling = scaling
        self.scale = Standardize(column.features)
        self.channels = column.features * (2 if scaling == "both" else 1)

    def forward(self, inputs: Inputs) -> Tensor:
        steps: Tensor = self.scale(inputs["sequence"])
        if self.scaling == "dataset":
            return steps
        length = lengths(inputs)
        valid = valid_timesteps(steps, length)[..., None]
        count = length[:, None, None]
        centred = steps - (steps * valid).sum(1, keepdim=True) / count
        variance = (centred.square() * valid).sum(1, keepdim=True) / count
        own = centred / torch.sqrt(variance + LEAST_VARIANCE)
        return own if self.scaling == "series" else torch.cat([steps, own], dim=2)


class Convolutions(nn.Module):
    """Layers over (batch, channels, time), then the mean over the valid timesteps, and dropout."""

    def __init__(self, layers: list[nn.Module], dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.dropout = nn.Dropout(dropout)

    def forward(self, steps: Tensor, length: Tensor) -> Tensor:
        """`steps` (batch, time, channels) and `length` (batch,) of at least 1 -> (batch, width)."""
        timesteps = valid_timesteps(steps, length)
        valid: Tensor | None = timesteps[:, None]
        if self.training and bool(timesteps.all()):
            valid = None  # with masks, a step of 16 rows takes a third longer
        signal = steps.transpose(1, 2)
        for layer in self.layers:
            signal = layer(signal, valid)
        pooled = pool(signal.transpose(1, 2), None if valid is None else timesteps, "mean")
        dropped: Tensor = self.dropout(pooled)
        return dropped


class Convolution(nn.Module):
    """A convolution that keeps the length, without bias: batch normalisation has a shift."""

    def __init__(self, channels: int, width: int, kernel: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(channels, width, kernel, padding=kernel // 2, bias=False)

    def forward(self, signal: Tensor, valid: Tensor | None) -> Tensor:
        """(batch, channels, time) and (batch, 1, time), None if all are -> (batch, width, time)."""
        found: Tensor = self.convolution(padded_with(0.0, signal, valid))
        return found


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of which padding is no part."""

    def forward(self, signal: Tensor, valid: Tensor | None) -> Tensor:  # type: ignore[override]
        """(batch, channels, time) -> the same shape."""
        if valid is None or not self.training:
            return self.normalised(signal)
        timesteps, steps = valid[:, 0], signal.transpose(1, 2)
        normed = torch.zeros_like(steps)
        normed[timesteps] = self.normalised(steps[timesteps])
        return normed.transpose(1, 2)

    def normalised(self, values: Tensor) -> Tensor:
        """(rows, channels, ...) -> the same shape. With several processes, of the rows of all
        (`tasks.training.norms`)."""
        return super().forward(values)


def largest_of_three(signal: Tensor, valid: Tensor | None) -> Tensor:
    """(batch, channels, time) -> the same shape: the largest of a timestep and its neighbours."""
    # Not max_pool1d: the exporter would make the number of timesteps a constant.
    filled = nn.functional.pad(padded_with(-math.inf, signal, valid), (1, 1), value=-math.inf)
    neighbours = torch.maximum(filled[:, :, :-2], filled[:, :, 2:])
    return padded_with(0.0, torch.maximum(filled[:, :, 1:-1], neighbours), valid)


def padded_with(value: float, signal: Tensor, valid: Tensor | None) -> Tensor:
    """`signal` (batch, channels, time) with `value` in place of padded timesteps."""
    return signal if valid is None else signal.masked_fill(~valid, value)


FRONTS: Fronts = {SequenceColumn: Series}
