"""The ensemble for tables: scaling of numbers, encoding of categories, the mean of the members."""

import math

import pytest
import torch
from network_helpers import rows

from tasks.architectures import build
from tasks.architectures.tabular import LIMIT, RobustScale
from tasks.bundle.signature import Signature
from tasks.columns import CategoryColumn, NumberColumn
from tasks.config import Tabular

LARGE = tuple("abcdefghijkl")
COLUMNS = (
    NumberColumn(name="age"),
    CategoryColumn(name="colour", values=("blue", "red")),
    CategoryColumn(name="city", values=LARGE),
)
CLASSES = {"binary": ("no", "yes"), "regression": ()}


def network_for(task, **changes):
    torch.manual_seed(0)
    signature = Signature.of(task, COLUMNS, CLASSES[task])
    return build(Tabular(name="tabular", widths=[16], **changes), signature)


def test_numbers_are_scaled_by_median_and_quartiles_and_never_pass_the_limit():
    scale = RobustScale(3)
    # An extreme value; mostly zeros; always the same.
    values = torch.tensor([[float(n), 0.0, 7.0] for n in range(100)] + [[1e9, 8.0, 7.0]])
    scale.fit(values)

    found = scale(torch.tensor([[50.0, 0.0, 7.0], [100.0, 4.0, 7.0], [1e30, 8.0, 8.0]]))

    assert found[0].tolist() == [0.0, 0.0, 0.0]
    one = 1 / math.sqrt(1 + 1 / LIMIT**2)  # the distance of the quartiles is 50
    assert found[1].tolist() == pytest.approx([one, one, 0.0])
    assert found[2, 0].item() == pytest.approx(LIMIT)
    assert found.isfinite().all()


def test_small_categories_are_one_hot_and_large_ones_are_vectors():
    network = network_for("binary", periodic=0, one_hot=8, embedding=5)
    codes = torch.tensor([[0, 0], [2, 0], [1, 3]])

    unseen, red, third = network.front({"numbers": torch.zeros(3, 1), "categories": codes})

    assert unseen.tolist() == [0.0] * 8
    assert red.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert third[:3].tolist() == [0, 1, 0]
    assert torch.equal(third[3:], network.front.embedding.weight[3])


@pytest.mark.parametrize("task", CLASSES)
def test_an_ensemble_learns_from_each_member_and_predicts_their_mean(task):
    network = network_for(task, members=4, dropout=0.0)
    inputs = rows(network.signature, [1] * 5)

    each = network.train()(inputs)
    together = network.eval()(inputs)

    if task == "regression":
        assert each.shape == (20,)
        expected, found = each.reshape(5, 4).mean(1), together
    else:
        assert each.shape == (20, 2)
        expected, found = each.softmax(1).reshape(5, 4, 2).mean(1), together.softmax(1)
    assert torch.allclose(found, expected, atol=1e-6)
    # The members differ from the first step on.
    assert each.reshape(5, 4, -1).std(1).min() > 0.01
