"""Linear, logistic and softmax regression: only the last layer of the network."""

from torch import nn

from tasks.architectures import fronts
from tasks.architectures.network import Parts
from tasks.bundle.signature import Signature
from tasks.config import Linear, Logistic


def parts(params: Linear | Logistic, signature: Signature) -> Parts:
    """Numbers and one-hot categories of a row, or the pixels of an image, as one vector."""
    front = fronts.vector(signature)
    return Parts(front, nn.Flatten(), front.width)
