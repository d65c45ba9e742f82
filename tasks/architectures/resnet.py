"""A residual network of basic blocks, as for CIFAR-10 in He et al. 2015.

https://arxiv.org/abs/1512.03385
"""

from torch import Tensor, nn

from tasks.architectures import fronts
from tasks.architectures.network import Parts
from tasks.bundle.signature import Signature
from tasks.config import ResNet


def parts(params: ResNet, signature: Signature) -> Parts:
    """(batch, channels, height, width), of any size -> (batch, the last of `widths`)."""
    front = fronts.Image(signature)
    channels = params.widths[0]
    layers: list[nn.Module] = [_convolution(front.shape[0], channels), nn.ReLU()]
    for stage, (width, blocks) in enumerate(zip(params.widths, params.blocks, strict=True)):
        for block in range(blocks):
            layers.append(Block(channels, width, stride=2 if stage and not block else 1))
            channels = width
    body = nn.Sequential(*layers, Average(), nn.Dropout(params.dropout))
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            # He et al. 2015, https://arxiv.org/abs/1502.01852; fan_out keeps the gradients' scale.
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return Parts(front, body, channels)


class Block(nn.Module):
    """Two convolutions and a shortcut, which is the identity if the shapes are equal."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(channels, width, stride=stride), nn.ReLU(), _convolution(width, width)
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels == width
            else _convolution(channels, width, kernel=1, stride=stride)
        )

    def forward(self, image: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, width, height / stride, width / stride)."""
        short = image
        if isinstance(self.shortcut, nn.Sequential) and image.device.type == "cpu":
            # On CPUs with AVX2 but without AVX-512, oneDNN in torch 2.13 writes out of bounds in
            # the backward pass of a 1x1 convolution with stride 2, if the memory is channels-last,
            # as that of our images, and the channels are not a multiple of 8.
            short = image.contiguous()
        return nn.functional.relu(self.residual(image) + self.shortcut(short))


class Average(nn.Module):
    """(batch, channels, height, width) -> (batch, channels)."""

    def forward(self, image: Tensor) -> Tensor:
        # nn.AdaptiveAvgPool2d(1) is the same, but its gradient is not deterministic on CUDA.
        return image.mean((2, 3))


def _convolution(channels: int, width: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(width),
    )
