"""A stack of convolutions over a sequence, then the mean over time.

The fully convolutional network of Wang et al. 2017, https://arxiv.org/abs/1611.06455.
"""

from torch import Tensor, nn

from tasks.architectures.network import Parts
from tasks.architectures.series import BatchNorm, Convolution, Convolutions, Series
from tasks.bundle.signature import Signature
from tasks.config import Conv1d


def parts(params: Conv1d, signature: Signature) -> Parts:
    """(batch, time, channels) and length (batch,) -> (batch, the last of `widths`)."""
    front = Series(signature, params.scaling)
    layers: list[nn.Module] = []
    channels = front.channels
    for width, kernel in zip(params.widths, params.kernels, strict=True):
        layers.append(Layer(channels, width, kernel))
        channels = width
    return Parts(front, Convolutions(layers, params.dropout), channels)


class Layer(nn.Module):
    """A convolution, batch normalisation and ReLU."""

    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.convolution = Convolution(channels, width, kernel)
        self.norm = BatchNorm(width)

    def forward(self, signal: Tensor, valid: Tensor | None) -> Tensor:
        """(batch, channels, time) -> (batch, width, time)."""
        return nn.functional.relu(self.norm(self.convolution(signal, valid), valid))
