"""Transforms of the target: fitted to the training rows, inverted inside the ONNX graph."""

import json
import math
import re

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from prediction_helpers import predict_paths
from scipy.stats import norm
from sklearn.metrics import mean_absolute_error, r2_score
from training_helpers import make_prepared, run, tiny

from tasks import params
from tasks.architectures.target_transforms import KNOTS, TRANSFORMS, TargetScale
from tasks.bundle.evaluation import Evaluation
from tasks.bundle.signature import Signature
from tasks.checkpoint import load
from tasks.config import Params
from tasks.dataset import read_split
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.evaluate import run_network
from tasks.pipeline import STEPS
from tasks.search_space import NOT_TUNED
from tasks.workspace import Workspace


def fitted(name, values):
    transform = TRANSFORMS[name]()
    transform.fit(np.asarray(values, np.float64))
    return transform


def there_and_back(transform, values):
    found = transform.transformed(np.asarray(values, np.float64), "rows")
    return transform.inverse(torch.tensor(found)).numpy()


def test_the_logarithm_and_its_inverse():
    log = fitted("log", [1.0])
    values = np.array([1e-9, 1.0, math.e, 1e12])
    assert log.transformed(values, "rows")[1:3].tolist() == [0.0, 1.0]
    assert there_and_back(log, values) == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize(("bad", "shown"), [(0.0, "0"), (-3.5, "-3.5")])
def test_the_logarithm_refuses_what_is_not_above_zero(bad, shown):
    said = f"1 of 3 rows of the training split have others, such as {shown}. Use quantile"
    with pytest.raises(InputError, match=re.escape(said)):
        fitted("log", [1.0]).transformed(np.array([1.0, bad, 2.0]), "the training split")


def test_the_scores_of_quantiles_are_those_of_a_normal_distribution():
    values = np.random.default_rng(0).exponential(size=5001) ** 3
    transform = fitted("quantile", values)
    for level in (0.1, 0.25, 0.5, 0.9):
        (score,) = transform.transformed(np.quantile(values, [level]), "rows")
        assert score == pytest.approx(norm.ppf(level), abs=1e-3)
    scores = transform.transformed(values, "rows")
    assert (scores.mean(), scores.std()) == pytest.approx((0, 1), abs=0.05)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(1).lognormal(0, 3, 3000),
        np.array([0.0] * 40 + list(range(1, 61))),
        np.array([-5.0, 2.0]),
        1e9 + np.random.default_rng(2).normal(size=300),
        np.array([1.0, 2.0, 2.0, 2.0, 7.0]),
    ],
    ids=["skewed", "many zeros", "two values", "large", "few"],
)
def test_quantiles_are_inverted_and_keep_the_order(values):
    transform = fitted("quantile", values)
    assert there_and_back(transform, values) == pytest.approx(values, rel=1e-9, abs=1e-9)
    scores = transform.transformed(np.sort(values), "rows")
    assert (np.diff(scores) >= 0).all()
    assert transform.target_scores.shape == (KNOTS,)


def test_a_quantile_prediction_stays_between_the_training_values():
    transform = fitted("quantile", [3.0, 4.0, 8.0])
    extreme = torch.tensor([-99.0, 99.0], dtype=torch.float64)
    assert transform.inverse(extreme).tolist() == pytest.approx([3.0, 8.0])
    assert there_and_back(transform, [1.0, 100.0]).tolist() == pytest.approx([3.0, 8.0])


def test_moving_a_network_leaves_the_buffers_in_float64():
    transform = fitted("quantile", [3.0, 4.0, 8.0])
    assert transform.half().to(torch.float32).target_values.dtype == torch.float64


def test_a_scale_standardises_the_transformed_training_rows(tmp_path):
    prepared = make_prepared(tmp_path / "p", "tabular", "regression")
    profile = json.loads((prepared / "profile.json").read_bytes())
    targets = read_split(prepared, "train", Encoder.read(prepared)).targets
    for name in ("none", "log", "quantile"):
        scale = TargetScale.of(name, profile, prepared)
        found = scale.standardised(targets, "rows")
        assert (found.mean(), found.std()) == pytest.approx((0, 1), abs=1e-9)
    assert TargetScale.of("none", profile, prepared).transform is None


@pytest.mark.parametrize("name", ["log", "quantile"])
def test_a_transform_of_classes_is_refused_and_no_study_varies_it(name):
    document = {
        "prepare": {"source": {"kind": "digits"}},
        "train": {"architecture": "mlp", "target_transform": name},
        "evaluate": {"gates": {}},
        "registration": {"name": "a"},
    }
    with pytest.raises(InputError, match=f"train.target_transform: {name} is for numbers, but"):
        params.validate(document, "params.yaml")
    assert "train.target_transform" in NOT_TUNED


def test_training_refuses_a_logarithm_of_negative_targets(tmp_path):
    prepared = make_prepared(tmp_path / "p", "tabular", "regression")
    for name in ("train", "validation", "test"):
        table = pa.ipc.open_file(prepared / f"{name}.arrow").read_all()
        place = table.schema.get_field_index("target")
        lower = pa.array(table["target"].to_numpy() - 1100)
        with pa.OSFile(str(tmp_path / "new"), "wb") as sink:
            changed = table.set_column(place, "target", lower)
            with pa.ipc.new_file(sink, changed.schema) as writer:
                writer.write_table(changed)
        (tmp_path / "new").replace(prepared / f"{name}.arrow")
    with pytest.raises(InputError, match=r"log needs values above 0, but \d+ of 120 rows"):
        run(tiny(target_transform="log"), tmp_path, prepared)
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.whole
@pytest.mark.parametrize(
    ("name", "architecture", "extra"),
    [
        ("log", "mlp", {}),
        ("quantile", "tabular", {}),
        ("log", "mlp", {"loss": "quantile", "quantile": 0.9}),
    ],
)
def test_predictions_and_metrics_are_in_the_unit_of_the_target(name, architecture, extra, tmp_path):
    rng = np.random.default_rng(4)
    x, z = (np.round(rng.uniform(-1, 1, 900), 3) for _ in range(2))
    price = np.round(1000 * np.exp(2 * x + z + rng.normal(0, 0.2, 900)), 2)
    (tmp_path / "data/raw").mkdir(parents=True)
    found = {"x": x, "z": z, "price": price}
    pq.write_table(pa.table(found), tmp_path / "data/raw/prices.parquet")
    document = {
        "prepare": {
            "source": {"kind": "tabular", "path": "data/raw/prices.parquet", "target": "price"},
            "task": "regression",
        },
        "train": {
            "architecture": architecture,
            "device": "cpu",
            "epochs": 8,
            "optimizer": {"learning_rate": 0.01},
            "target_transform": name,
            **extra,
        },
        "evaluate": {"gates": {"mae": 1e9}, "baseline": False},
        "registration": {"name": "prices"},
    }
    workspace = Workspace(tmp_path)
    for step in ("prepare", "train", "evaluate", "export"):
        STEPS[step].run(Params.model_validate(document), workspace)
    evaluation = Evaluation.read(workspace.bundle / "evaluation.json")
    assert evaluation.passed, evaluation.refusals
    encoder = Encoder.read(workspace.bundle)
    test = read_split(workspace.prepared, "test", encoder)

    session = onnxruntime.InferenceSession(workspace.bundle / "model.onnx")
    assert [o.name for o in session.get_outputs()] == ["prediction"]
    given = {i.name: test.inputs[i.name] for i in session.get_inputs()}
    (predicted,) = session.run(["prediction"], given)
    network, _ = load(workspace.checkpoint)
    in_torch = run_network(network, encoder.signature, test.inputs, 512)["prediction"]
    assert predicted == pytest.approx(in_torch, rel=1e-4)
    path = tmp_path / "test.arrow"
    path.write_bytes((workspace.prepared / "test.arrow").read_bytes())
    _, table = predict_paths(workspace.bundle, [path], tmp_path / "out")
    assert table["prediction"].to_numpy() == pytest.approx(predicted, rel=1e-6)

    summary = evaluation.metrics.summary
    assert summary["mae"] == pytest.approx(mean_absolute_error(test.targets, predicted))
    assert summary["r2"] == pytest.approx(r2_score(test.targets, predicted))
    if extra:
        assert 0.8 < (test.targets <= predicted).mean() < 0.98
    else:
        assert summary["r2"] > 0.8
    # What drift compares is in the unit of the target, too.
    profile = json.loads((workspace.bundle / "profile.json").read_bytes())
    edges = profile["drift"]["predictions"]["value"]["edges"]
    assert predicted.min() / 2 <= edges[0] < edges[-1] <= 2 * predicted.max()
    assert Signature.read(workspace.bundle / "signature.json").quantile == extra.get("quantile")
