"""The bag of n-grams: which sequences of tokens share a vector, and what each one weighs."""

import math

import pytest
import torch

from tasks.architectures import build
from tasks.bundle.signature import Signature
from tasks.columns import TextColumn
from tasks.config import Bag


def network_for(ngrams, buckets=1 << 16):
    torch.manual_seed(0)
    column = TextColumn(name="review", vocabulary=50, max_length=16)
    signature = Signature.of("binary", (column,), ("no", "yes"))
    return build(Bag(name="bag", ngrams=ngrams, buckets=buckets, width=4), signature).eval()


def grams(ngrams, tokens):
    return sorted(n for n in network_for(ngrams).front.ids(torch.tensor([tokens]))[0].tolist() if n)


def test_ngrams_are_the_sequences_of_neighbours_without_padding():
    assert len(grams(1, [2, 5, 6, 0, 0])) == 3
    assert len(grams(3, [2, 5, 6, 0, 0])) == 3 + 2 + 1
    assert grams(3, [2, 5, 6, 0, 0]) == grams(3, [2, 5, 6])
    assert grams(3, [5]) == grams(1, [5])  # a text shorter than the longest n-gram
    # Every sequence has a bucket of its own, and the order within it matters.
    assert len(set(grams(2, [3, 4, 3, 5, 4, 3]))) == 3 + 4
    assert grams(2, [3, 4]) != grams(2, [4, 3])
    assert grams(1, [3, 4]) == grams(1, [4, 3])


def test_a_token_weighs_more_the_fewer_training_texts_have_it():
    network = network_for(1)
    texts = torch.tensor([[2, 7, 7], [2, 8, 0], [2, 8, 0]])
    network.fit(lambda: {"tokens": texts})

    begin, seven, eight, never = network.front.rarity[
        network.front.ids(torch.tensor([[2, 7, 8, 9]]))[0]
    ].tolist()

    assert begin == pytest.approx(1 + math.log(4 / 4))
    assert eight == pytest.approx(1 + math.log(4 / 3))
    assert (seven, never) == (0, 0)  # twice in one text counts once
    assert network.front.rarity[0] == 0


def test_a_text_has_the_same_scores_alone_and_beside_a_longer_one():
    network = network_for(3)
    longer = torch.tensor([[2, 5, 6, 0, 0, 0], [2, 5, 6, 7, 8, 9]])
    together = network({"tokens": longer, "length": torch.tensor([3, 6])})
    alone = network({"tokens": longer[:1, :3], "length": torch.tensor([3])})
    assert torch.allclose(together[:1], alone, atol=1e-6)
    assert not torch.allclose(together[0], together[1], atol=1e-6)


def test_an_empty_text_has_finite_scores():
    network = network_for(2)
    scores = network({"tokens": torch.zeros(1, 1).long(), "length": torch.zeros(1).long()})
    assert torch.equal(scores[0], network.head.bias)
