"""A feed-forward network of any list of widths."""

import math

from torch import nn

from tasks.config import Mlp

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


def body(params: Mlp, shape: tuple[int, ...], classes: int) -> nn.Module:
    """(batch, *shape) -> (batch, classes)."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = math.prod(shape)
    for units in params.widths:
        layers += [
            nn.Linear(width, units),
            ACTIVATIONS[params.activation](),
            nn.Dropout(params.dropout),
        ]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, classes))
