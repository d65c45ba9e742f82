"""Optimizers, schedules, clipping, accumulation, frozen weights, class balance."""

import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_helpers import make_prepared, run, tiny, written

from tasks.architectures import build
from tasks.bundle.signature import Signature
from tasks.config import Optimizer, Schedule
from tasks.errors import InputError
from tasks.training.batches import order_of
from tasks.training.objective import Objective
from tasks.training.optimisation import Schedule as Moved
from tasks.training.optimisation import begin_epoch, freeze, make_optimizer

STEPS = 2


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("tabular") / "data", "tabular", rare=True)


def rates(losses=(), **schedule):
    """The learning rate of each step, with two steps per epoch, and the rate after the last."""
    params = tiny(
        epochs=max(4, len(losses)),
        optimizer=Optimizer(name="sgd", learning_rate=1.0),
        schedule=Schedule(**schedule),
    )
    optimizer = make_optimizer(torch.nn.Linear(1, 1), params)
    moved, found = Moved(optimizer, params, STEPS), []
    for epoch in range(params.epochs):
        for _ in range(STEPS):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            moved.step()
        moved.end_epoch(losses[epoch] if losses else 1.0)
    return [*found, optimizer.param_groups[0]["lr"]]


def test_schedule_cosine_with_warmup():
    half = math.sqrt(0.5)
    expected = [0.25, 0.5, 0.75, 1, 1, (1 + half) / 2, 0.5, (1 - half) / 2, 0]
    assert rates(name="cosine", warmup=2) == pytest.approx(expected)


def test_schedule_constant():
    assert rates(name="constant", warmup=0) == [1.0] * 9


def test_schedule_step_multiplies_the_rate_every_n_epochs():
    expected = [0.5, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01]
    assert rates(name="step", warmup=1, every=2, factor=0.1) == pytest.approx(expected)


def test_schedule_plateau_reduces_the_rate_after_n_epochs_without_improvement():
    found = rates([3, 2, 2, 2, 1, 1, 1], name="plateau", warmup=1, every=2, factor=0.5)
    # Epoch 1 warms up. The loss falls in epochs 2 and 5; two without a fall end with 4 and 7.
    assert found == pytest.approx([0.5, 1.0, *[1.0] * 6, *[0.5] * 6, 0.25])


def test_schedule_one_cycle_rises_for_30_percent_of_the_steps():
    found = rates([1.0] * 10, name="one_cycle")
    assert found[0] == pytest.approx(1 / 25)
    assert found.index(max(found)) == 5
    assert max(found) == pytest.approx(1)
    assert found[19] < 1e-4


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle", "step", "plateau"])
def test_each_optimizer_trains_with_each_schedule(name, schedule, prepared, tmp_path):
    params = tiny(
        "logistic",
        epochs=6,
        optimizer=Optimizer(name=name, learning_rate=0.1 if name == "sgd" else 0.03),
        schedule=Schedule(name=schedule),
    )
    _, rows = run(params, tmp_path, prepared)
    assert rows[-1]["validation_loss"] < 0.7 * rows[0]["validation_loss"]


def test_sgd_without_momentum_is_plain_gradient_descent():
    params = tiny(optimizer=Optimizer(name="sgd", learning_rate=0.5, momentum=0, weight_decay=0))
    layer = torch.nn.Linear(1, 1, bias=False)
    before = layer.weight.item()
    (3 * layer.weight).sum().backward()
    make_optimizer(layer, params).step()
    assert layer.weight.item() == pytest.approx(before - 0.5 * 3)


def test_accumulate_equals_one_larger_batch(tmp_path):
    data = make_prepared(tmp_path / "data", rows={"train": 96, "validation": 20})
    once = tiny("logistic", batch_size=32)
    twice = tiny("logistic", batch_size=16, accumulate=2)
    run(once, tmp_path / "once", data)
    run(twice, tmp_path / "twice", data)
    one, other = (
        load_file(tmp_path / folder / "checkpoint/weights.safetensors")
        for folder in ("once", "twice")
    )
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-5)


def test_accumulate_updates_after_an_incomplete_last_group(tmp_path):
    data = make_prepared(tmp_path / "data", rows={"train": 48, "validation": 20})
    plain = Schedule(name="constant", warmup=0)
    sgd = Optimizer(name="sgd", learning_rate=0.05)
    params = tiny("logistic", accumulate=2, epochs=1, schedule=plain, optimizer=sgd)
    fewer = params.model_copy(update={"accumulate": 3})
    all_alone = params.model_copy(update={"accumulate": 1000})
    for folder, p in (("two", params), ("three", fewer), ("all", all_alone)):
        run(p, tmp_path / folder, data)
    weights = [
        (tmp_path / folder / "checkpoint/weights.safetensors").read_bytes()
        for folder in ("two", "three", "all")
    ]
    assert weights[0] != weights[1] == weights[2]


def test_clip_bounds_the_size_of_a_step(prepared, tmp_path):
    params = tiny(
        "logistic",
        epochs=1,
        batch_size=120,
        clip=0.001,
        optimizer=Optimizer(name="sgd", learning_rate=1.0, momentum=0, weight_decay=0),
        schedule=Schedule(name="constant", warmup=0),
    )
    torch.manual_seed(params.seed)
    start = build(params.architecture, Signature.read(prepared / "signature.json")).state_dict()
    run(params, tmp_path, prepared)
    after = load_file(tmp_path / "checkpoint/weights.safetensors")
    moved = sum((after[n] - start[n]).square().sum() for n in ("head.weight", "head.bias")).sqrt()
    assert moved.item() == pytest.approx(0.001, rel=1e-3)


def test_frozen_weights_do_not_change(prepared, tmp_path):
    params = tiny("mlp", freeze=["front.*", "body.?.weight"])
    torch.manual_seed(params.seed)
    start = build(params.architecture, Signature.read(prepared / "signature.json")).state_dict()
    run(params, tmp_path, prepared)
    after = load_file(tmp_path / "checkpoint/weights.safetensors")
    moved = {
        name for name in after if "weight" in name and not torch.equal(after[name], start[name])
    }
    assert {name for name in start if name.startswith("front.embedding")}
    assert "head.weight" in moved
    assert not {name for name in moved if name.startswith(("front.", "body.0", "body.1"))}


def test_frozen_batch_norm_keeps_its_running_statistics():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2), nn.BatchNorm1d(2))
    freeze(network, ["0.*", "1.*"])
    begin_epoch(network)
    network(torch.randn(20, 3))
    assert network[1].running_mean.tolist() == [0.0] * 4
    assert network[3].running_mean.abs().min() > 0


def test_freeze_refuses_a_pattern_without_a_match(prepared, tmp_path):
    with pytest.raises(InputError) as caught:
        run(tiny("logistic", freeze=["encoder.*"]), tmp_path, prepared)
    assert str(caught.value) == (
        "train.freeze: 'encoder.*' matches no weight; the weights are head.weight, head.bias"
    )


def test_freeze_refuses_to_freeze_all_weights(prepared, tmp_path):
    with pytest.raises(InputError, match="matches all weights; remove"):
        run(tiny("logistic", freeze=["*"]), tmp_path, prepared)


def test_class_weights_are_inverse_frequencies(prepared):
    signature = Signature.read(prepared / "signature.json")
    targets = torch.tensor([0] * 8 + [1] * 2)
    objective = Objective.of(tiny(imbalance="weights", label_smoothing=0.0), signature, [targets])
    assert objective.class_weights.tolist() == pytest.approx([10 / 24, 10 / 6, 10 / 3])
    scores = torch.zeros(10, 3)
    assert objective.loss(scores, targets).item() == pytest.approx(math.log(3))
    scores[:, 0] = 2.0  # right for the many, wrong for the few: each class counts the same
    lost = torch.log_softmax(scores[0], 0)
    assert objective.loss(scores, targets).item() == pytest.approx(-(lost[0] + lost[1]).item() / 2)


def test_the_sampler_draws_each_class_equally_often(prepared):
    signature = Signature.read(prepared / "signature.json")
    targets = torch.tensor([0] * 900 + [1] * 80 + [2] * 20)
    weights = Objective.of(tiny(imbalance="sampler"), signature, [targets]).row_weights(targets)
    drawn = order_of(1000, 0, 1, weights)
    assert len(drawn) == 1000
    assert torch.bincount(targets[drawn]).tolist() == pytest.approx([333, 333, 333], abs=60)
    assert not torch.equal(drawn, order_of(1000, 0, 2, weights))


@pytest.mark.parametrize("imbalance", ["weights", "sampler"])
def test_imbalance_changes_the_trained_weights(imbalance, prepared, tmp_path):
    for folder, how in (("plain", "none"), ("balanced", imbalance)):
        run(tiny("logistic", imbalance=how, epochs=10), tmp_path / folder, prepared)
    plain, balanced = (written(tmp_path / folder) for folder in ("plain", "balanced"))
    assert plain["weights.safetensors"] != balanced["weights.safetensors"]


def test_imbalance_is_refused_for_regression(tmp_path):
    data = make_prepared(tmp_path / "data", "tabular", "regression")
    params = tiny(imbalance="weights")
    with pytest.raises(InputError, match="balances classes, but the task regression has no"):
        run(params, tmp_path, data)
