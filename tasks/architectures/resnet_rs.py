"""Experiment."""

import torch
from torch import Tensor, nn

from tasks.architectures import fronts
from tasks.architectures.network import Parts
from tasks.bundle.signature import Signature
from tasks.config import ResNetRs

Size = tuple[int, int]
SMALLEST = 8


def parts(params: ResNetRs, signature: Signature) -> Parts:
    front = fronts.Image(signature)
    channels, *size = front.shape
    act = {"relu": nn.ReLU, "silu": nn.SiLU}[params.act]
    layers: list[nn.Module] = []
    width = params.widths[0]
    first = True
    while first or max(size) > params.first:
        stride = tuple(2 if side > params.first else 1 for side in size)
        size = [-(-side // step) for side, step in zip(size, stride)]
        last = max(size) <= params.first
        out = width if last else max(8, width // 2)
        layers += [_convolution(channels, out, 3, stride), act()]
        channels = out
        first = False
    for stage, (width, blocks) in enumerate(zip(params.widths, params.blocks, strict=True)):
        for block in range(blocks):
            stride = (1, 1)
            if stage and not block:
                stride = tuple(2 if side >= params.smallest else 1 for side in size)
                size = [-(-side // step) for side, step in zip(size, stride)]
            layers.append(Block(channels, width, stride, act, params))
            channels = width
    pooled = Pooled(params.pool)
    body = nn.Sequential(*layers, pooled, nn.Dropout(params.dropout))
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if params.gamma != 1:
        for module in body:
            if isinstance(module, Block):
                nn.init.constant_(module.residual[2][1].weight, params.gamma)
    return Parts(front, body, channels * (2 if params.pool == "both" else 1))


class Block(nn.Module):
    def __init__(self, channels, width, stride, act, params) -> None:
        super().__init__()
        layers = [_convolution(channels, width, 3, stride), act(), _convolution(width, width, 3)]
        if params.se:
            layers.append(Excitation(width))
        self.residual = nn.Sequential(*layers)
        self.act = act()
        short: list[nn.Module] = []
        if stride != (1, 1):
            short.append(nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False))
        if short or channels != width:
            short.append(_convolution(channels, width, 1))
        self.shortcut = nn.Sequential(*short)

    def forward(self, image: Tensor) -> Tensor:
        return self.act(self.residual(image) + self.shortcut(image))


class Excitation(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(4, width // 4)
        self.gate = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width), nn.Sigmoid()
        )

    def forward(self, image: Tensor) -> Tensor:
        return image * self.gate(image.mean((2, 3)))[:, :, None, None]


class Pooled(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, image: Tensor) -> Tensor:
        if self.how == "mean":
            return image.mean((2, 3))
        if self.how == "max":
            return image.amax((2, 3))
        return torch.cat([image.mean((2, 3)), image.amax((2, 3))], dim=1)


def _convolution(channels, width, kernel, stride=(1, 1)) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(width),
    )
