"""Fronts: the first part of a network, from the raw inputs of a signature to floats for the body.

The dicts at the end map column types to fronts: for one vector per row (`VECTORS`), for timesteps
(`TIMESTEPS`), and for patches of an image (`PATCHES`). A row whose columns need different fronts is
not supported.

Scaling is part of the front, so a model never gets unscaled inputs. The modules of fronts must be
named `scale`, `embedding`, `linear`, `patches` or `positions`: other code finds weights by these
names.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from tasks.architectures.timesteps import Positions
from tasks.bundle.signature import Signature
from tasks.columns import (
    BooleanColumn,
    CategoryColumn,
    Column,
    DateColumn,
    ImageColumn,
    NumberColumn,
    SequenceColumn,
    TextColumn,
)
from tasks.errors import InputError

Inputs = Mapping[str, Tensor]


class Standardize(nn.Module):
    """Subtracts the mean of each entry of the last axis and divides by its standard deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def set(self, mean: list[float], std: list[float]) -> None:
        self.mean.copy_(torch.tensor(mean))
        # A constant input has a standard deviation of 0, and dividing by it would give NaN.
        self.std.copy_(torch.tensor([s if s > 0 else 1.0 for s in std]))

    def forward(self, raw: Tensor) -> Tensor:
        """(..., size) of uint8 or float32 -> float32 of the same shape."""
        return (raw.to(torch.float32) - self.mean) / self.std


class Image(nn.Module):
    """(batch, height, width, channels) of uint8 or float32 -> (batch, channels, height, width)."""

    def __init__(self, signature: Signature, embedding: int | None = None) -> None:
        super().__init__()
        column = cast(ImageColumn, signature.columns[0])
        self.name = column.name
        height, width, channels = column.shape
        self.shape = (channels, height, width)
        self.width = channels * height * width
        self.scale = Standardize(channels)

    def forward(self, inputs: Inputs) -> Tensor:
        scaled: Tensor = self.scale(inputs[self.name])
        return scaled.permute(0, 3, 1, 2)


class Table(nn.Module):
    """`numbers` (batch, n) and `categories` (batch, m) -> (batch, width). One may be absent.

    Standardised numbers, then each category one-hot or, with `embedding`, as a learned vector of
    that size. A value unseen in training (code 0) is all zeros in both cases.
    """

    joins_columns = True  # the other fronts take only one column

    column: Tensor
    code: Tensor
    offset: Tensor

    def __init__(self, signature: Signature, embedding: int | None = None) -> None:
        super().__init__()
        sizes = category_sizes(signature)
        numbers = sum(t.shape[0] or 0 for t in signature.inputs if t.name == "numbers")
        self.scale = Standardize(numbers) if numbers else None
        self.embedding: nn.Embedding | None = None
        self.hot = bool(sizes) and embedding is None
        if self.hot:
            # Entry i of the one-hot vector is 1 if column[i] has code[i].
            column = [c for c, size in enumerate(sizes) for _ in range(size)]
            code = [value for size in sizes for value in range(1, size + 1)]
            self.register_buffer("column", torch.tensor(column), persistent=False)
            self.register_buffer("code", torch.tensor(code), persistent=False)
        elif sizes:
            # One embedding for all columns, with separate rows; row 0 is for unseen values.
            offset = [sum(sizes[:column]) for column in range(len(sizes))]
            self.register_buffer("offset", torch.tensor(offset), persistent=False)
            self.embedding = embedding_of(sum(sizes) + 1, cast(int, embedding))
        self.width = numbers + (sum(sizes) if embedding is None else len(sizes) * embedding)

    def forward(self, inputs: Inputs) -> Tensor:
        parts: list[Tensor] = []
        if self.scale is not None:
            parts.append(self.scale(inputs["numbers"]))
        if self.hot:
            hot = inputs["categories"][:, self.column] == self.code
            parts.append(hot.to(torch.float32))
        elif self.embedding is not None:
            codes = inputs["categories"]
            rows = torch.where(codes > 0, codes + self.offset, 0)
            parts.append(self.embedding(rows).flatten(1))
        return torch.cat(parts, dim=1)


class Tokens(nn.Module):
    """`tokens` (batch, time) int64 -> (batch, time, width): a learned vector for each token."""

    def __init__(self, signature: Signature, width: int, patch: int) -> None:
        super().__init__()
        column = cast(TextColumn, signature.columns[0])
        self.count = column.max_length
        self.embedding = embedding_of(column.vocabulary, width)

    def forward(self, inputs: Inputs) -> Tensor:
        vectors: Tensor = self.embedding(inputs["tokens"])
        return vectors


class Features(nn.Module):
    """`sequence` (batch, time, features) float32 -> (batch, time, width)."""

    def __init__(self, signature: Signature, width: int, patch: int) -> None:
        super().__init__()
        column = cast(SequenceColumn, signature.columns[0])
        self.count = column.max_length
        self.scale = Standardize(column.features)
        self.linear = nn.Linear(column.features, width)

    def forward(self, inputs: Inputs) -> Tensor:
        vectors: Tensor = self.linear(self.scale(inputs["sequence"]))
        return vectors


class Patches(nn.Module):
    """An image -> (batch, patches, width), with patches row by row.

    Raises:
        InputError: the size of the image is not a multiple of the patch size.
    """

    def __init__(self, signature: Signature, width: int, patch: int) -> None:
        super().__init__()
        self.image = Image(signature)
        channels, high, wide = self.image.shape
        if high % patch or wide % patch:
            fit = [n for n in range(1, min(high, wide) + 1) if high % n == wide % n == 0]
            raise InputError(
                f"train.architecture.patch is {patch}, but the image size {high}x{wide} is not a "
                f"multiple of it; allowed: {', '.join(map(str, fit))}"
            )
        self.count = (high // patch) * (wide // patch)
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, inputs: Inputs) -> Tensor:
        vectors: Tensor = self.patches(self.image(inputs))
        return vectors.flatten(2).transpose(1, 2)


class SequenceFront(nn.Module):
    """(batch, time, width): the timesteps of a text, a sequence or an image, with dropout.

    `positions` adds the position of each timestep; recurrent networks do not need it.
    """

    def __init__(
        self, timesteps: nn.Module, dropout: float, positions: Positions | None = None
    ) -> None:
        super().__init__()
        self.steps = timesteps  # this attribute is part of the names of weights
        self.positions = nn.Identity() if positions is None else positions
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        vectors: Tensor = self.dropout(self.positions(self.steps(inputs)))
        return vectors


def category_sizes(signature: Signature) -> list[int]:
    """How many values each column of the tensor `categories` has."""
    return [len(c.values) for c in signature.columns if isinstance(c, CategoryColumn)]


def embedding_of(rows: int, width: int) -> nn.Embedding:
    """An embedding with vectors of length about 1; row 0 is always zero."""
    embedding = nn.Embedding(rows, width, padding_idx=0)
    # By default, torch's vectors have the length `width**0.5`: rare tokens would stay mostly noise.
    nn.init.normal_(embedding.weight, std=width**-0.5)
    with torch.no_grad():
        embedding.weight[0].zero_()
    return embedding


Fronts = Mapping[type[Column], type[nn.Module]]
TABLES: Fronts = {
    NumberColumn: Table,
    BooleanColumn: Table,
    DateColumn: Table,
    CategoryColumn: Table,
}
IMAGES: Fronts = {
    ImageColumn: Image,
}
VECTORS: Fronts = {**TABLES, **IMAGES}
TIMESTEPS: Fronts = {
    TextColumn: Tokens,
    SequenceColumn: Features,
}
PATCHES: Fronts = {
    ImageColumn: Patches,
}


def front_of(signature: Signature, fronts: Fronts) -> type[nn.Module] | None:
    """The front that takes all columns of the signature; None if there is none."""
    found = {fronts.get(type(column)) for column in signature.columns}
    front = found.pop()
    alone = len(signature.columns) == 1 or getattr(front, "joins_columns", False)
    return front if not found and alone else None


def vector(signature: Signature, embedding: int | None = None) -> Any:
    """A front with one vector of `width` numbers per row.

    `embedding` is the size of the vectors of categories; without it, they are one-hot.
    """
    front: Any = front_of(signature, VECTORS)
    return front(signature, embedding)


def timesteps(signature: Signature, width: int, patch: int = 1) -> Any:
    """A front with timesteps (batch, time, width) of a text, sequence or image; at most `count`."""
    front: Any = front_of(signature, {**TIMESTEPS, **PATCHES})
    return front(signature, width, patch)
