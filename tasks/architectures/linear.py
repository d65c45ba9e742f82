"""Linear, logistic and softmax regression: the network's last layer alone."""

from torch import nn

from tasks.architectures import fronts
from tasks.architectures.network import Parts
from tasks.bundle.signature import Signature
from tasks.config import Linear, Logistic


def parts(params: Linear | Logistic, signature: Signature) -> Parts:
    """A row's numbers and one-hot categories, or an image's pixels, as one vector."""
    front = fronts.vector(signature)
    return Parts(front, nn.Flatten(), front.width)
