"""An ensemble of feed-forward networks for tables, with shared weights.

Plain networks are below boosted trees on most tables (Grinsztajn et al. 2022,
https://arxiv.org/abs/2207.08815). What helps them, and is here:

- Members that share the weights of a layer, and differ in vectors by which its inputs and outputs
  are multiplied; each has a loss of its own, and their mean is the prediction (TabM, Gorishniy et
  al. 2025, https://arxiv.org/abs/2410.24210, after Wen et al. 2020, https://arxiv.org/abs/2002.06715).
- Waves of learned frequencies of each number (Gorishniy et al. 2022,
  https://arxiv.org/abs/2203.05556): a network learns steep steps from them.
- Median and quartiles in place of mean and standard deviation, then a smooth limit, so that a few
  extreme values do not decide (RealMLP, Holzmüller et al. 2024, https://arxiv.org/abs/2407.04491).
- One-hot vectors only for categories of few values.
"""

import math

import torch
from torch import Tensor, nn

from tasks.architectures.fronts import (
    TABLES,
    Fronts,
    Inputs,
    Standardize,
    category_sizes,
    embedding_of,
)
from tasks.architectures.network import Parts
from tasks.bundle.signature import Signature
from tasks.config import Tabular

FREQUENCIES = 16
# Standard deviation of the first frequencies, and so how steep the first functions of a number are.
FREQUENCY = 0.3
LIMIT = 3.0  # scaled numbers come near to it, never beyond
LARGEST = 1e12
MOST = 100_000  # rows from which medians and quartiles are computed


def parts(params: Tabular, signature: Signature) -> Parts:
    """(batch, width) of a table -> (batch, members, the last of `widths` and the inputs)."""
    front = TabularFront(signature, params)
    width = front.width + params.widths[-1]
    return Parts(front, Ensemble(params, front.width), width, members=params.members)


class RobustScale(Standardize):
    """Subtracts the median and divides by the distance of the quartiles; nearly linear up to 2, and
    never beyond `LIMIT`."""

    def fit(self, values: Tensor) -> None:
        """Set medians and quartiles from training rows (N, size) of float32."""
        ordered = values[:: max(1, len(values) // MOST)].cpu().double().sort(0).values
        low, middle, high = (
            ordered[round(share * (len(ordered) - 1))] for share in (0.25, 0.5, 0.75)
        )
        distance = high - low
        # More than half of the values are equal, as in counts that are mostly 0: then the range.
        distance = torch.where(distance > 0, distance, (ordered[-1] - ordered[0]) / 2)
        self.set(middle.tolist(), distance.tolist())

    def forward(self, raw: Tensor) -> Tensor:
        # The square of more would be infinite as float32, and the result 0.
        scaled = super().forward(raw).clamp(-LARGEST, LARGEST)
        return scaled / torch.sqrt(1 + (scaled / LIMIT).square())


class Periodic(nn.Module):
    """(batch, n) -> (batch, n * (1 + size)): each number, and `size` learned functions of it."""

    def __init__(self, numbers: int, size: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.randn(numbers, FREQUENCIES) * FREQUENCY)
        self.phase = nn.Parameter(math.pi * (2 * torch.rand(numbers, FREQUENCIES) - 1))
        bound = FREQUENCIES**-0.5
        self.weight = nn.Parameter(torch.empty(numbers, FREQUENCIES, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(numbers, size).uniform_(-bound, bound))

    def forward(self, numbers: Tensor) -> Tensor:
        waves = torch.cos(2 * math.pi * self.frequency * numbers[..., None] + self.phase)
        functions = torch.matmul(waves.transpose(0, 1), self.weight).transpose(0, 1) + self.bias
        return torch.cat([numbers[..., None], functions], dim=2).flatten(1)


class TabularFront(nn.Module):
    """`numbers` (batch, n) and `categories` (batch, m) -> (batch, width). One may be absent.

    A value unseen in training (code 0) is all zeros.
    """

    joins_columns = True
    hot: Tensor
    code: Tensor
    vector: Tensor
    offset: Tensor

    def __init__(self, signature: Signature, params: Tabular) -> None:
        super().__init__()
        numbers = sum(t.shape[0] or 0 for t in signature.inputs if t.name == "numbers")
        self.scale = RobustScale(numbers) if numbers else None
        periodic = bool(numbers and params.periodic)
        self.linear = Periodic(numbers, params.periodic) if periodic else nn.Identity()
        self.width = numbers * (1 + params.periodic)
        sizes = category_sizes(signature)
        small = [c for c, size in enumerate(sizes) if size <= params.one_hot]
        large = [c for c, size in enumerate(sizes) if size > params.one_hot]
        # Entry i of the one-hot vectors is 1 if the column hot[i] has code[i].
        hot = [c for c in small for _ in range(sizes[c])]
        code = [value for c in small for value in range(1, sizes[c] + 1)]
        # One embedding for all large columns, with separate rows; row 0 is for unseen values.
        offset = [sum(sizes[c] for c in large[:place]) for place in range(len(large))]
        for name, numbers_of in (
            ("hot", hot),
            ("code", code),
            ("vector", large),
            ("offset", offset),
        ):
            self.register_buffer(
                name, torch.tensor(numbers_of, dtype=torch.int64), persistent=False
            )
        self.embedding: nn.Embedding | None = None
        if large:
            self.embedding = embedding_of(sum(sizes[c] for c in large) + 1, params.embedding)
        self.width += len(hot) + len(large) * params.embedding

    def fit(self, inputs: Inputs) -> None:
        """Scale by the numbers of the training rows."""
        if self.scale is not None:
            self.scale.fit(inputs["numbers"])

    def forward(self, inputs: Inputs) -> Tensor:
        found: list[Tensor] = []
        if self.scale is not None:
            found.append(self.linear(self.scale(inputs["numbers"])))
        if len(self.code):
            found.append((inputs["categories"][:, self.hot] == self.code).to(torch.float32))
        if self.embedding is not None:
            codes = inputs["categories"][:, self.vector]
            rows = torch.where(codes > 0, codes + self.offset, 0)
            found.append(self.embedding(rows).flatten(1))
        return torch.cat(found, dim=1)


class Ensemble(nn.Module):
    """(batch, width) -> (batch, members, units + width): hidden layers, and beside their result the
    inputs, so that the last layer, which the members share, can be a linear model of them."""

    def __init__(self, params: Tabular, width: int) -> None:
        super().__init__()
        self.members = Members(params.members, width)
        layers: list[nn.Module] = []
        before = width
        for units in params.widths:
            layers += [
                SharedLinear(params.members, before, units),
                nn.ReLU(),
                nn.Dropout(params.dropout),
            ]
            before = units
        self.layers = nn.Sequential(*layers)
        self.scale = Scale(params.members, before)
        self.inputs = Scale(params.members, width)

    def forward(self, values: Tensor) -> Tensor:
        hidden = self.scale(self.layers(self.members(values)))
        return torch.cat([hidden, self.inputs(values[:, None])], dim=2)


class Scale(nn.Module):
    """(batch, members, width): multiplied by a vector of each member, at first near 1."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(1 + 0.1 * torch.randn(members, width))

    def forward(self, values: Tensor) -> Tensor:
        return values * self.factor


class Members(nn.Module):
    """(batch, width) -> (batch, members, width). At first, each member sees the inputs with random
    signs: what makes the members differ."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        signs = torch.randint(0, 2, (members, width)) * 2 - 1
        self.factor = nn.Parameter(signs.to(torch.float32))

    def forward(self, values: Tensor) -> Tensor:
        return values[:, None] * self.factor


class SharedLinear(nn.Module):
    """A linear layer with one matrix for all members, and the bias and output scale of each."""

    def __init__(self, members: int, width: int, units: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, units, bias=False)
        nn.init.kaiming_normal_(self.linear.weight, nonlinearity="relu")
        self.scale = Scale(members, units)
        self.bias = nn.Parameter(torch.zeros(members, units))

    def forward(self, values: Tensor) -> Tensor:
        scaled: Tensor = self.scale(self.linear(values))
        return scaled + self.bias


FRONTS: Fronts = dict.fromkeys(TABLES, TabularFront)
