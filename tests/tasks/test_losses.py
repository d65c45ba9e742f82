"""The losses of a regression: Huber and quantile, and what follows from a predicted quantile."""

import csv
import json
import math
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from prediction_helpers import predict_paths
from sklearn.metrics import d2_pinball_score, mean_pinball_loss, r2_score
from training_helpers import make_prepared, tiny

from flows.comparison import _check_comparable
from flows.loop.measuring import compare
from tasks import feedback, inputs, params
from tasks.baselines import fit_baselines
from tasks.bundle.evaluation import Evaluation
from tasks.bundle.signature import Signature
from tasks.columns import NumberColumn
from tasks.config import Evaluate, Params
from tasks.dataset import read_split
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.pipeline import STEPS
from tasks.problems import PROBLEMS
from tasks.reevaluate import reevaluate
from tasks.training.losses import LOSSES
from tasks.workspace import Workspace

PROBLEM = PROBLEMS["regression"]


def loss_of(name, quantile=None):
    return LOSSES[name](tiny(loss="quantile" if quantile else "auto", quantile=quantile), None)


def result(loss, scores, targets):
    return loss.result(loss.sums(scores, targets).tolist(), targets)


@pytest.mark.parametrize(
    ("level", "expected"),
    [(0.5, [0.5, 0.0, 1.0]), (0.9, [0.1, 0.0, 1.8]), (0.1, [0.9, 0.0, 0.2])],
)
def test_the_loss_of_a_quantile_weighs_errors_above_and_below(level, expected):
    scores, targets = torch.tensor([3.0, 2.0, 1.0]), torch.tensor([2.0, 2.0, 3.0])
    loss = loss_of("quantile", level)
    assert loss(scores, targets).item() == pytest.approx(sum(expected) / 3)
    assert result(loss, scores, targets)[0] == pytest.approx(sum(expected) / 3)


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9])
def test_the_loss_and_its_skill_match_scikit_learn(level):
    rng = np.random.default_rng(1)
    targets = rng.exponential(size=2001)
    scores = targets * 0.5 + rng.normal(size=2001)
    given = [torch.tensor(v, dtype=torch.float32) for v in (scores, targets)]
    loss, skill = result(loss_of("quantile", level), *given)
    assert loss == pytest.approx(mean_pinball_loss(targets, scores, alpha=level), rel=1e-5)
    assert skill == pytest.approx(d2_pinball_score(targets, scores, alpha=level), rel=1e-3)
    best = torch.full((2001,), float(np.quantile(targets, level)))
    assert result(loss_of("quantile", level), best, given[1])[1] == pytest.approx(0, abs=1e-4)


def test_huber_is_squared_up_to_one_standard_deviation_and_then_linear():
    scores, targets = torch.tensor([0.5, 0.0, 0.0]), torch.tensor([0.0, 3.0, -1.0])
    huber = loss_of("huber")
    assert huber(scores, targets).item() == pytest.approx((0.125 + 2.5 + 0.5) / 3)
    loss, r2 = result(huber, scores, targets)
    assert loss == pytest.approx((0.125 + 2.5 + 0.5) / 3)
    assert r2 == pytest.approx(r2_score(targets, scores), rel=1e-6)


def number(quantile=None):
    signature = Signature.of("regression", (NumberColumn(name="x"),), ())
    return signature if quantile is None else signature.predicting(quantile=quantile)


@pytest.mark.parametrize(("level", "expected"), [(0.9, 1 / 3), (0.5, 1 / 3), (0.2, 1 / 3)])
def test_the_pinball_loss_is_the_headline_of_a_quantile(level, expected):
    outputs = {"prediction": np.full(3, 2.0)}
    found = PROBLEM.compute_metrics(number(level), np.array([1.0, 2.0, 3.0]), outputs, 15, seed=0)
    assert found.headline == ["pinball_loss"]
    assert found.summary["pinball_loss"] == pytest.approx(expected)
    low, high = found.intervals["pinball_loss"]
    assert low < expected < high
    other = PROBLEM.compute_metrics(number(), np.array([1.0, 2.0, 3.0]), outputs, 15)
    assert other.headline == ["r2", "mae"]
    assert "pinball_loss" not in other.summary


def test_labels_of_a_quantile_are_measured_by_its_loss():
    labels, predicted = np.array([1.0, 2.0, 5.0]), np.array([2.0, 2.0, 2.0])
    assert PROBLEM.measured(number(0.9), labels, predicted) == {
        "pinball_loss": pytest.approx((0.1 + 0 + 2.7) / 3)
    }
    assert PROBLEM.measured(number(), labels, predicted).keys() == {"r2", "mae"}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.loss=quantile"], "loss: quantile and quantile: NUMBER, such as 0.9, go together"),
        (["train.quantile=0.9"], "loss: quantile and quantile: NUMBER, such as 0.9, go together"),
        (
            ["train.loss=huber", "prepare.task=classification"],
            "train.loss: huber is for numbers, but the task is",
        ),
        (["evaluate.gates={pinball_loss: 1}"], "pinball_loss is not measured for regression"),
        (["train.loss=quantile", "train.quantile=1"], "train.quantile: input should be less than"),
    ],
)
def test_losses_that_do_not_fit_are_refused_before_anything_runs(overrides, said):
    with pytest.raises(InputError, match=re.escape(said)):
        params.validate(params.override(document(), overrides), "params.yaml")


def test_models_of_other_quantiles_are_not_compared():
    version = type("Version", (), {"ref": "a:2"})()
    _check_comparable(number(0.9), number(0.9), version)
    for other in (number(), number(0.5)):
        with pytest.raises(InputError, match="inputs, classes or quantile differ"):
            _check_comparable(other, number(0.9), version)


def test_versions_of_a_quantile_are_compared_by_its_loss_and_not_by_the_absolute_error():
    labels = np.random.default_rng(0).exponential(size=500)
    good, median = np.full(500, -math.log(0.1)), np.full(500, math.log(2))
    found = compare(labels, median, good, classes=False, quantile=0.9)
    assert (found.metric, found.worse) == ("pinball_loss", True)
    assert found.other == pytest.approx(mean_pinball_loss(labels, good, alpha=0.9))
    assert not compare(labels, median, good, classes=False).worse


def test_with_a_threshold_versions_are_compared_class_by_class():
    labels = np.array(["no"] * 180 + ["yes"] * 20)
    careful = labels.copy()
    careful[:25] = "yes"  # finds all, with 25 false alarms
    never = np.array(["no"] * 200)
    assert compare(labels, careful, never, classes=True).champion == 0.875
    found = compare(labels, careful, never, classes=True, balanced=True)
    assert (found.metric, found.worse) == ("balanced_accuracy", False)
    assert found.champion == pytest.approx((155 / 180 + 1) / 2)
    assert found.other == pytest.approx(0.5)
    assert compare(labels, never, careful, classes=True, balanced=True).worse


def document(**train):
    return {
        "prepare": {
            "source": {"kind": "tabular", "path": "data/raw/prices.parquet", "target": "price"},
            "task": "regression",
        },
        "train": {"architecture": {"name": "mlp", "widths": [16]}, "device": "cpu", **train},
        "evaluate": {"gates": {"mae": {"above_baseline": -1e9}}},
        "registration": {"name": "prices"},
    }


def prices(root, rows=1200):
    """The noise grows with `x`, and is skewed."""
    rng = np.random.default_rng(4)
    x = np.round(rng.uniform(0, 2, rows), 3)
    price = np.round(10 + 5 * x + (1 + x) * rng.exponential(size=rows), 4)
    (root / "data/raw").mkdir(parents=True)
    pq.write_table(pa.table({"x": x, "price": price}), root / "data/raw/prices.parquet")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("quantile")
    prices(root)
    given = document(loss="quantile", quantile=0.9, epochs=25, optimizer={"learning_rate": 0.02})
    given["evaluate"]["gates"] = {"pinball_loss": {"at_most": 1.5, "above_baseline": -0.1}}
    workspace = Workspace(root)
    for name in ("prepare", "train", "evaluate", "export"):
        STEPS[name].run(Params.model_validate(given), workspace)
    return workspace


@pytest.mark.whole
def test_nine_of_ten_values_are_below_a_predicted_quantile(trained, tmp_path):
    evaluation = Evaluation.read(trained.bundle / "evaluation.json")
    assert evaluation.passed, evaluation.refusals
    assert evaluation.metrics.headline == ["pinball_loss"]
    assert json.loads(trained.metrics.read_bytes())["pinball_loss"] == pytest.approx(
        evaluation.metrics.summary["pinball_loss"], rel=1e-6
    )
    encoder = Encoder.read(trained.bundle)
    assert encoder.signature.quantile == 0.9
    assert "Predicts the quantile 0.9." in (trained.bundle / "card.md").read_text("utf-8")
    test = read_split(trained.prepared, "test", encoder)
    path = tmp_path / "test.arrow"
    path.write_bytes((trained.prepared / "test.arrow").read_bytes())
    _, table = predict_paths(trained.bundle, [path], tmp_path / "out")
    predicted = table["prediction"].to_numpy()
    assert 0.84 < (test.targets <= predicted).mean() < 0.96
    expected = mean_pinball_loss(test.targets, predicted, alpha=0.9)
    assert evaluation.metrics.summary["pinball_loss"] == pytest.approx(expected)
    found = inputs.find([path], encoder.signature)
    again = reevaluate(trained.bundle / "model.onnx", encoder, found, Evaluate(gates={"mae": 9}))
    assert again.metrics.summary["pinball_loss"] == pytest.approx(expected)
    labelled = feedback.Labelled(pa.array(test.targets), table["prediction"].combine_chunks())
    assert feedback.measure(encoder.signature, [labelled]) == {
        "pinball_loss": pytest.approx(expected)
    }


@pytest.mark.whole
def test_the_baselines_of_a_quantile_predict_it_too(trained):
    constant, quick = Evaluation.read(trained.bundle / "evaluation.json").baselines
    assert (constant.name, quick.name) == ("quantile 0.9", "boosted trees")
    encoder = Encoder.read(trained.bundle)
    train, test = (read_split(trained.prepared, name, encoder) for name in ("train", "test"))
    value = np.full(len(test), np.quantile(train.targets, 0.9))
    expected = mean_pinball_loss(test.targets, value, alpha=0.9)
    assert constant.metrics["pinball_loss"] == pytest.approx(expected, rel=1e-5)
    assert quick.metrics["pinball_loss"] < 0.8 * expected


@pytest.mark.parametrize("kind", ["image", "sequence"])
def test_other_quick_models_are_moved_to_the_quantile(kind, tmp_path):
    prepared = make_prepared(tmp_path / "p", kind, "regression")
    read = Encoder.read(prepared)
    encoder = Encoder(read.signature.predicting(quantile=0.9))
    names = [one.name for one, _ in fit_baselines(Evaluate(gates={}), prepared, encoder)]
    assert names[0] == "quantile 0.9"
    assert names[1].startswith("ridge regression")
    assert names[1].endswith("plus the quantile 0.9 of its errors")


@pytest.mark.whole
def test_huber_trains_beside_outliers_that_lead_the_squared_error_astray(tmp_path):
    rng = np.random.default_rng(5)
    x = np.round(rng.normal(size=900), 3)
    price = 3 * x + rng.normal(0, 0.1, 900)
    price[(rng.random(900) < 0.05) & (x > 0)] -= 100.0
    (tmp_path / "data/raw").mkdir(parents=True)
    found = {"x": x, "price": np.round(price, 4)}
    pq.write_table(pa.table(found), tmp_path / "data/raw/prices.parquet")
    workspace, errors = Workspace(tmp_path), {}
    for loss in ("auto", "huber"):
        given = document(loss=loss, epochs=15, architecture="linear")
        given["train"]["optimizer"] = {"learning_rate": 0.05}
        for name in ("prepare", "train") if loss == "auto" else ("train",):
            STEPS[name].run(Params.model_validate(given), workspace)
        with workspace.history.open() as file:
            assert all(math.isfinite(float(row["validation_loss"])) for row in csv.DictReader(file))
        from tasks.checkpoint import load
        from tasks.evaluate import run_network

        network, _ = load(workspace.checkpoint)
        test = read_split(workspace.prepared, "test", Encoder.read(workspace.checkpoint))
        predicted = run_network(network, network.signature, test.inputs, 512)["prediction"]
        errors[loss] = np.median(np.abs(predicted - test.targets))
    assert errors["huber"] < 0.7 * errors["auto"], errors
