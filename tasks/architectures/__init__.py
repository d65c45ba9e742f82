"""Networks by name: one explicit dict, one small file each.

Every body takes floats of shape (batch, channels, height, width), already normalised, and gives
logits of shape (batch, classes).
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from tasks.architectures import cnn, logistic, mlp
from tasks.architectures.network import Network
from tasks.config import Architecture
from tasks.signature import Signature

__all__ = ["BODIES", "Network", "build"]

BODIES: dict[str, Callable[[Any, tuple[int, ...], int], nn.Module]] = {
    "logistic": logistic.body,
    "mlp": mlp.body,
    "cnn": cnn.body,
}


def build(architecture: Architecture, signature: Signature) -> Network:
    """The network that takes the raw inputs of `signature`, with fresh weights.

    Raises:
        InputError: the architecture cannot take inputs of that shape.
    """
    height, width, channels = signature.inputs[0].shape
    shape = (channels, height, width)
    body = BODIES[architecture.name](architecture, shape, len(signature.classes))
    return Network(body, channels)
