"""A linear model of texts: hashed n-grams of tokens, weighted by how rare they are.

The mean of vectors of n-grams is as good as deep networks for topics and sentiment, and learns in
seconds (Joulin et al. 2016, https://arxiv.org/abs/1607.01759); weighting n-grams by the inverse of
the share of texts that have them is TF-IDF (Spärck Jones 1972). Hashing needs no list of n-grams
(Weinberger et al. 2009, https://arxiv.org/abs/0902.2206). It is part of the graph, so that the
encoding of texts is the same as for the other architectures: n-grams of words with a tokenizer of
words, of characters with one of characters, which needs no spaces between words.
"""

import torch
from torch import Tensor, nn

from tasks.architectures.fronts import Fronts, Inputs, embedding_of
from tasks.architectures.network import Parts
from tasks.bundle.signature import Signature
from tasks.columns import TextColumn
from tasks.columns.tokenizing import PADDING
from tasks.config import Bag

# A prime and a multiplier: their product is below 2**63, so no product of ids overflows.
PRIME, MULTIPLIER = 2_147_483_647, 1_000_003
FEWEST = 2
TEXTS = 1024  # texts counted at a time


def parts(params: Bag, signature: Signature) -> Parts:
    """`tokens` (batch, time) of texts -> (batch, width)."""
    return Parts(Ngrams(params), Vectors(params.dropout), params.width)


class Ngrams(nn.Module):
    """`tokens` (batch, time) int64 -> (batch, width): the weighted vectors of its n-grams, divided
    by the length of the weights."""

    rarity: Tensor

    def __init__(self, params: Bag) -> None:
        super().__init__()
        self.longest, self.buckets = params.ngrams, params.buckets
        self.embedding = embedding_of(params.buckets, params.width)
        nn.init.normal_(self.embedding.weight, std=0.01)
        rarity = torch.ones(params.buckets)
        rarity[PADDING] = 0.0
        self.register_buffer("rarity", rarity)

    def fit(self, inputs: Inputs) -> None:
        """Set the weight of each bucket: the logarithm of one over the share of training texts.

        An n-gram that fewer than `FEWEST` training texts have weighs nothing: it cannot be learnt,
        and most n-grams of a new text are such.
        """
        tokens = inputs["tokens"]
        texts = torch.zeros(self.buckets, dtype=torch.int64)
        for part in torch.split(tokens, TEXTS):
            held = torch.zeros((len(part), self.buckets), dtype=torch.bool)
            held.scatter_(1, self.ids(part).cpu(), True)
            texts += held.sum(0)
        rarity = 1 + torch.log((1 + len(tokens)) / (1 + texts).double())
        rarity[texts < FEWEST] = 0.0
        rarity[PADDING] = 0.0
        self.rarity.copy_(rarity)

    def ids(self, tokens: Tensor) -> Tensor:
        """(batch, time) -> (batch, time * longest): the bucket of each n-gram, 0 for none."""
        batch, time = tokens.shape
        padded = torch.cat([tokens, tokens.new_zeros((batch, self.longest))], dim=1)
        value, found = torch.zeros_like(tokens), []
        for length in range(1, self.longest + 1):
            last = padded[:, length - 1 : length - 1 + time]
            value = (value * MULTIPLIER + last + 1) % PRIME
            bucket = 1 + value % (self.buckets - 1)
            found.append(torch.where(last == PADDING, 0, bucket))
        return torch.cat(found, dim=1)

    def forward(self, inputs: Inputs) -> Tensor:
        ids = self.ids(inputs["tokens"])
        weights = self.rarity[ids]
        total: Tensor = (self.embedding(ids) * weights[..., None]).sum(1)
        return total / weights.square().sum(1, keepdim=True).clamp(min=1e-6).sqrt()


class Vectors(nn.Module):
    """The vectors of the front, with dropout; texts have no more timesteps here."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    def forward(self, vectors: Tensor, length: Tensor) -> Tensor:
        dropped: Tensor = self.dropout(vectors)
        return dropped


FRONTS: Fronts = {TextColumn: Ngrams}
