"""Logistic (softmax) regression."""

import math

from torch import nn

from tasks.config import Logistic


def body(params: Logistic, shape: tuple[int, ...], classes: int) -> nn.Module:
    """(batch, *shape) -> (batch, classes)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))
