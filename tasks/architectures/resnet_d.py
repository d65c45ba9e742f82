"""A residual network whose cost hardly depends on the size of the images.

The changes of ResNet-D (He et al. 2019, https://arxiv.org/abs/1812.01187) to He et al. 2015,
https://arxiv.org/abs/1512.03385: convolutions of 3x3 reduce the image before the first stage, and
a shortcut takes the mean of four pixels, not every fourth one. How often an image is halved depends
on its size: large ones are affordable, and small ones are not reduced to a single pixel. The last
layer sees the place of what was found, not only its mean: images of one kind are often centred.
"""

from torch import Tensor, nn

from tasks.architectures import fronts
from tasks.architectures.network import Parts
from tasks.bundle.signature import Signature
from tasks.config import ResNetD

FIRST = 16  # pixels of the longer side in the first stage, at most
SMALLEST = 7  # pixels from which a later stage halves a side
Pair = tuple[int, int]


def parts(params: ResNetD, signature: Signature) -> Parts:
    """(batch, channels, height, width), of any size -> (batch, the last of `widths` * pixels)."""
    front = fronts.Image(signature)
    channels, *sides = front.shape
    height, wide = sides
    layers: list[nn.Module] = []
    width = params.widths[0]
    while not layers or max(height, wide) > FIRST:
        stride = _halving(height, wide, FIRST + 1)
        height, wide = _reduced(height, stride[0]), _reduced(wide, stride[1])
        filters = width if max(height, wide) <= FIRST else max(1, width // 2)
        layers += [_convolution(channels, filters, stride=stride), nn.ReLU()]
        channels = filters
    for stage, (width, blocks) in enumerate(zip(params.widths, params.blocks, strict=True)):
        for block in range(blocks):
            stride = _halving(height, wide, SMALLEST) if stage and not block else (1, 1)
            height, wide = _reduced(height, stride[0]), _reduced(wide, stride[1])
            layers.append(Block(channels, width, stride))
            channels = width
    body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(params.dropout))
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            # He et al. 2015, https://arxiv.org/abs/1502.01852; fan_out keeps the gradients' scale.
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return Parts(front, body, channels * height * wide)


class Block(nn.Module):
    """Two convolutions and a shortcut, which is the identity if the shapes are equal."""

    def __init__(self, channels: int, width: int, stride: Pair) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(channels, width, stride=stride), nn.ReLU(), _convolution(width, width)
        )
        shortcut: list[nn.Module] = []
        if stride != (1, 1):
            shortcut.append(nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False))
        if stride != (1, 1) or channels != width:
            shortcut.append(_convolution(channels, width, kernel=1))
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, width, height / stride, width / stride)."""
        return nn.functional.relu(self.residual(image) + self.shortcut(image))


def _halving(height: int, width: int, least: int) -> Pair:
    """The stride that halves the sides of at least `least` pixels."""
    return 2 if height >= least else 1, 2 if width >= least else 1


def _reduced(side: int, stride: int) -> int:
    """Pixels after a convolution with padding, or a mean of the pixels that are there."""
    return -(-side // stride)


def _convolution(channels: int, width: int, kernel: int = 3, stride: Pair = (1, 1)) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(width),
    )
