"""Blocks of convolutions and pooling, then dense layers.

LeCun et al. 1998, "Gradient-based learning applied to document recognition" (the preset `lenet`);
Simonyan and Zisserman 2015, https://arxiv.org/abs/1409.1556 (blocks of 3x3 convolutions); Ioffe and
Szegedy 2015, https://arxiv.org/abs/1502.03167 (batch normalisation).
"""

from torch import nn

from tasks.architectures import fronts
from tasks.architectures.network import Parts
from tasks.bundle.signature import Signature
from tasks.config import Cnn
from tasks.errors import InputError


def parts(params: Cnn, signature: Signature) -> Parts:
    """(batch, channels, height, width) -> (batch, the last of `dense`).

    Raises:
        InputError: the image is too small for this number of blocks.
    """
    front = fronts.Image(signature)
    channels, height, width = front.shape
    layers: list[nn.Module] = []
    lost = 0 if params.padding else params.convolutions * (params.kernel - 1)
    for block, filters in enumerate(params.channels):
        height, width = (height - lost) // 2, (width - lost) // 2
        if min(height, width) < 1:
            _, high, wide = front.shape
            raise InputError(
                f"train.architecture.channels has {len(params.channels)} blocks, each of which "
                + (f"removes {lost} pixels of height and width and " if lost else "")
                + f"halves height and width; an image of {high}x{wide} allows {block} blocks. Give "
                + ("fewer." if params.padding else "fewer, or set train.architecture.padding.")
            )
        for _ in range(params.convolutions):
            layers += _convolution(channels, filters, params)
            channels = filters
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    features = channels * height * width
    for units in params.dense:
        layers += [nn.Linear(features, units), nn.ReLU()]
        features = units
    return Parts(front, nn.Sequential(*layers, nn.Dropout(params.dropout)), features)


def _convolution(channels: int, filters: int, params: Cnn) -> list[nn.Module]:
    # Batch normalisation has its own shift, so the convolution needs no bias.
    padding = params.kernel // 2 if params.padding else 0
    layers: list[nn.Module] = [
        nn.Conv2d(channels, filters, params.kernel, padding=padding, bias=not params.batch_norm)
    ]
    if params.batch_norm:
        layers.append(nn.BatchNorm2d(filters))
    return [*layers, nn.ReLU()]
