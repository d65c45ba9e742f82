"""Convolutions over sequences: what padding, scale and place of a shape do to the result."""

import numpy as np
import pytest
import torch
from network_helpers import check_at_other_sizes, open_quietly, rows

from tasks.architectures import build
from tasks.architectures.series import BatchNorm, Series, largest_of_three
from tasks.bundle.signature import Signature
from tasks.columns import SequenceColumn
from tasks.config import Conv1d, Inception
from tasks.export import _write_onnx

NETWORKS = {
    "conv1d": Conv1d(name="conv1d", widths=[6, 5], kernels=[9, 3]),
    "inception": Inception(name="inception", width=4, kernels=[9, 3], depth=4),
}
each = pytest.mark.parametrize("name", NETWORKS)


def network_for(name, features=2, **changes):
    torch.manual_seed(0)
    column = SequenceColumn(name="walk", features=features, max_length=40)
    signature = Signature.of("binary", (column,), ("no", "yes"))
    network = build(NETWORKS[name].model_copy(update=changes), signature)
    network.normalise_by(
        {"inputs": {"sequence": {"mean": [5.0] * features, "std": [3.0] * features}}}
    )
    return network


def scaled(scaling, values):
    """What the front makes of sequences of one feature, as lists of numbers."""
    lengths = [len(one) for one in values]
    padded = [[*one, *[0.0] * (max(lengths) - len(one))] for one in values]
    front = Series(network_for("conv1d", features=1).signature, scaling)
    front.scale.set([5.0], [2.0])
    return front({
        "sequence": torch.tensor(padded)[..., None], "length": torch.tensor(lengths)
    })  # fmt: skip


def test_series_scaling_is_by_the_valid_timesteps_of_each_sequence_alone():
    both = scaled("both", [[1.0, 3.0, 5.0], [100.0, 300.0, 500.0, 700.0]])
    own = scaled("series", [[1.0, 3.0, 5.0], [100.0, 300.0, 500.0, 700.0]])

    assert own[0, :3, 0].tolist() == pytest.approx([-1.2247, 0, 1.2247], abs=1e-3)
    assert own[1, :, 0].tolist() == pytest.approx([-1.3416, -0.4472, 0.4472, 1.3416], abs=1e-3)
    assert both[0, :3, 0].tolist() == [-2, -1, 0]  # by the mean 5 and deviation 2 of all
    assert torch.equal(both[..., 1:], own)
    assert torch.equal(both[..., :1], scaled("dataset", [[1, 3, 5], [100, 300, 500, 700]]))


@pytest.mark.parametrize("values", [[7.0], [7.0, 7.0, 7.0], [1e9, 1e9]])
def test_a_constant_sequence_has_no_shape(values):
    assert scaled("series", [values]).abs().max() == 0


def test_the_level_of_a_sequence_counts_only_with_the_scaling_of_the_dataset():
    for scaling, same in (("series", True), ("dataset", False), ("both", False)):
        network = network_for("conv1d", scaling=scaling).eval()
        inputs = rows(network.signature, [9])
        higher = {**inputs, "sequence": 4 * inputs["sequence"] + 20}
        close = torch.allclose(network(inputs), network(higher), atol=1e-3)
        assert close == same, scaling


@each
@pytest.mark.parametrize("scaling", ["dataset", "series", "both"])
def test_a_row_has_the_same_scores_alone_and_padded(name, scaling):
    network = network_for(name, scaling=scaling).eval()
    lengths = [5, 40, 1, 17]
    inputs = rows(network.signature, lengths)
    # What stands in the padding must not count either.
    for row, length in enumerate(lengths):
        inputs["sequence"][row, length:] = 1e3
    together = network(inputs)
    for row, length in enumerate(lengths):
        alone = network({
            "sequence": inputs["sequence"][row : row + 1, :length],
            "length": inputs["length"][row : row + 1],
        })  # fmt: skip
        assert torch.allclose(together[row], alone[0], atol=1e-5), length


@each
def test_a_training_step_does_not_depend_on_padding(name):
    lengths, found = [5, 9, 1, 7], []
    inputs = rows(network_for(name).signature, lengths)
    for more in (0, 13):
        network = network_for(name, dropout=0.0).train()
        steps = torch.nn.functional.pad(inputs["sequence"], (0, 0, 0, more), value=float(more))
        network({**inputs, "sequence": steps})[:, 0].square().sum().backward()
        weights = {n: p.grad for n, p in network.named_parameters()}
        statistics = {n: b for n, b in network.named_buffers() if "running" in n}
        found.append(weights | statistics)
    for tensor, value in found[0].items():
        assert torch.allclose(value, found[1][tensor], atol=1e-4, rtol=1e-3), tensor


def test_batch_normalisation_of_valid_timesteps_is_that_of_torch():
    steps, valid = torch.randn(3, 2, 6), torch.arange(6) < torch.tensor([[6], [2], [4]])
    ours, theirs = BatchNorm(2), torch.nn.BatchNorm1d(2)
    found = ours(steps, valid[:, None])
    expected = theirs(steps.transpose(1, 2)[valid])
    assert torch.allclose(found.transpose(1, 2)[valid], expected)
    assert torch.equal(ours.running_var, theirs.running_var)
    assert found.transpose(1, 2)[~valid].abs().max() == 0


def test_the_largest_of_three_timesteps_is_that_of_valid_ones():
    signal = torch.tensor([[[-3.0, -5.0, -4.0, -9.0, 8.0]]])
    assert largest_of_three(signal, None).tolist() == [[[-3, -3, -4, 8, 8]]]
    valid = torch.tensor([[[True, True, True, True, False]]])
    assert largest_of_three(signal, valid).tolist() == [[[-3, -3, -4, -4, 0]]]


@each
def test_a_shape_counts_wherever_it_is(name):
    # With one block, neither end of the sequence is in reach of the shape.
    network = network_for(name, **({"depth": 1} if name == "inception" else {})).eval()
    steps = torch.full((2, 40, 2), 5.0)  # the mean of the training rows
    shape = torch.tensor([[9.0, 1.0], [12.0, 3.0], [2.0, 8.0]])
    steps[0, 12:15], steps[1, 22:25] = shape, shape
    here, there = network({"sequence": steps, "length": torch.tensor([40, 40])})
    none = network({"sequence": torch.full((1, 40, 2), 5.0), "length": torch.tensor([40])})[0]
    assert torch.allclose(here, there, atol=1e-5)
    assert not torch.allclose(here, none, atol=1e-3)


@pytest.mark.whole
@pytest.mark.parametrize(
    ("name", "features", "scaling"),
    [("conv1d", 1, "series"), ("conv1d", 12, "both"), ("inception", 12, "both")],
)
def test_onnx_runtime_gives_the_same_for_any_length_and_batch(name, features, scaling, tmp_path):
    network = network_for(name, features, scaling=scaling).train()
    for _ in range(3):  # running statistics that are not the first ones
        network(rows(network.signature, [5, 11, 2, 16]))
    _write_onnx(network, network.signature, 20, tmp_path / "model.onnx")
    session = open_quietly((tmp_path / "model.onnx").read_bytes())
    network.eval()
    check_at_other_sizes(network, session)
    inputs = rows(network.signature, [5, 16])
    names = [t.name for t in network.signature.inputs]
    together = session.run(["logits"], {n: inputs[n].numpy() for n in names})[0]
    one = {"sequence": inputs["sequence"][:1, :5], "length": inputs["length"][:1]}
    alone = session.run(["logits"], {n: one[n].numpy() for n in names})[0]
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)


def test_a_network_of_one_layer_or_block_is_allowed():
    for name, changes in (("conv1d", {"widths": [3], "kernels": [1]}), ("inception", {"depth": 1})):
        network = network_for(name, **changes).eval()
        assert network(rows(network.signature, [1, 4])).shape == (2, 2)
