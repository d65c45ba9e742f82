"""A feed-forward network with any list of widths.

Deep networks that narrow to a few units, such as 1024-512-256-128-64-32-16-8-4-2-1, are hard to
train. Three measures help:

- torch's default weights scale the signal by 0.4 in each layer, so it vanishes after ten layers.
  The weights of He et al. 2015 (https://arxiv.org/abs/1502.01852) keep its scale.
- A ReLU unit that is negative for every row never learns again; if all units of a narrow layer are,
  no layer before it learns either (Lu et al. 2019, https://arxiv.org/abs/1903.06733). Batch
  normalisation (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167) makes each unit positive
  for some rows. Its shift starts at 1, not 0: then five rows in six are positive, not three, so a
  layer of two units loses less before training.
- Layer normalisation (Ba et al. 2016, https://arxiv.org/abs/1607.06450) of two units keeps only
  which one is larger, and of one unit nothing. Layers with fewer than `NARROW` units have none.

After 300 batches of 128 rows on a target of 8 hidden numbers, with six seeds, that network reached
an R2 of 0.81 to 0.92 with batch normalisation (0.73 to 0.91 with a shift from 0), 0.65 to 0.91 with
layer normalisation, 0.33 to 0.94 with He's weights only, and -0.11 to 0.71 with torch's weights.
"""

from torch import nn

from tasks.architectures import fronts
from tasks.architectures.network import Parts
from tasks.bundle.signature import Signature
from tasks.config import Mlp

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
NARROW = 8


def parts(params: Mlp, signature: Signature) -> Parts:
    """(batch, width) of a table or an image -> (batch, the last of `widths`)."""
    front = fronts.vector(signature, params.embedding)
    layers: list[nn.Module] = [nn.Flatten()]
    width = front.width
    for units in params.widths:
        layers += [
            _linear(width, units, params),
            *_normalization(units, params),
            ACTIVATIONS[params.activation](),
            nn.Dropout(params.dropout),
        ]
        width = units
    return Parts(front, nn.Sequential(*layers), width)


def _linear(width: int, units: int, params: Mlp) -> nn.Linear:
    # Batch normalisation has its own shift, so the layer needs no bias.
    linear = nn.Linear(width, units, bias=params.normalization != "batch")
    if params.activation == "tanh":
        nn.init.kaiming_normal_(linear.weight, nonlinearity="tanh")
    else:  # GELU is nearly ReLU, and torch has no gain for it
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear


def _normalization(units: int, params: Mlp) -> list[nn.Module]:
    if params.normalization == "none" or (params.normalization == "layer" and units < NARROW):
        return []
    norm = nn.BatchNorm1d(units) if params.normalization == "batch" else nn.LayerNorm(units)
    if params.activation != "tanh":  # tanh does not cut negative values off
        nn.init.ones_(norm.bias)
    return [norm]
