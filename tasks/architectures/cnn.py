"""Blocks of two 3x3 convolutions with batch normalisation, after Simonyan and Zisserman 2015.

https://arxiv.org/abs/1409.1556 (blocks of 3x3 convolutions), https://arxiv.org/abs/1502.03167
(batch normalisation).
"""

from torch import nn

from tasks.config import Cnn
from tasks.errors import InputError


def body(params: Cnn, shape: tuple[int, ...], classes: int) -> nn.Module:
    """(batch, channels, height, width) -> (batch, classes).

    Raises:
        InputError: more blocks than times the image can be halved.
    """
    channels, height, width = shape
    layers: list[nn.Module] = []
    for block, filters in enumerate(params.channels):
        if min(height, width) < 2:
            raise InputError(
                f"train.architecture.channels names {len(params.channels)} blocks, and each halves "
                f"the image; one of {shape[1]}x{shape[2]} allows {block}. Name fewer channels."
            )
        layers += [*_convolution(channels, filters), *_convolution(filters, filters)]
        layers.append(nn.MaxPool2d(2))
        channels, height, width = filters, height // 2, width // 2
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(channels * height * width, params.dense),
        nn.ReLU(),
        nn.Dropout(params.dropout),
        nn.Linear(params.dense, classes),
    )


def _convolution(channels: int, filters: int) -> list[nn.Module]:
    # Batch normalisation brings its own shift, so the convolution needs no bias.
    return [
        nn.Conv2d(channels, filters, 3, padding=1, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(),
    ]
