"""Network: a body behind the numeric preprocessing that belongs to the model."""

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """Raw images in, logits out; the scaling is part of the weights, so nobody can forget it."""

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def normalise_by(self, mean: list[float], std: list[float]) -> None:
        """Set mean and standard deviation of each channel, taken from the training split."""
        self.mean.copy_(torch.tensor(mean))
        # A channel that never changes carries nothing; dividing by its zero would make NaN.
        self.std.copy_(torch.tensor([s if s > 0 else 1.0 for s in std]))

    def forward(self, image: Tensor) -> Tensor:
        """(batch, height, width, channels) of uint8 or float32 -> (batch, classes)."""
        normalised = (image.to(torch.float32) - self.mean) / self.std
        logits: Tensor = self.body(normalised.permute(0, 3, 1, 2))
        return logits
