"""Numbers beyond the precision of float32, as targets, features and predictions."""

import json

import numpy as np
import onnx
import pyarrow as pa
import pytest
from prediction_helpers import encoded_batches, predict_paths
from prepare_helpers import NUMBERS, SEQUENCES, profile, put, refusal, run, signature, splits
from training_helpers import run as train
from training_helpers import tiny

from tasks import inputs
from tasks.bundle.signature import Signature
from tasks.columns import NumberColumn, TextColumn, narrowing
from tasks.config import Evaluate, Export, Optimizer
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.export import export
from tasks.serving.quarantine import TooManyBad

ROWS = 300
STEPS = np.arange(ROWS)
SECOND = 1_700_000_000


def exported(folder, **changes):
    """Train a linear regression on the prepared dataset, export it, and return its evaluation."""
    params = tiny("linear", epochs=60, optimizer=Optimizer(learning_rate=0.05), **changes)
    train(params, folder, folder / "prepared")
    paths = ("prepared", "checkpoint", "base", "repeats", "bundle")
    given = {name: folder / name for name in paths}
    export(Export(), Evaluate(gates={"r2": 0.9}), **given)
    return json.loads((folder / "bundle/evaluation.json").read_bytes())


@pytest.mark.parametrize("base", [0, SECOND, -3e12, 2.0**52 - ROWS])
def test_regression_metrics_match_the_float64_predictions(base, tmp_path):
    y = base + STEPS.astype(np.float64)
    put(tmp_path, {"x": STEPS, "y": y})
    run(tmp_path, NUMBERS)
    document = exported(tmp_path)
    summary = document["metrics"]["summary"]
    assert document["passed"], document
    path = tmp_path / "prepared/test.arrow"
    _, table = predict_paths(tmp_path / "bundle", [path], tmp_path / "out")
    assert table["prediction"].type == pa.float64()
    errors = table["prediction"].to_numpy() - y[table["key"].to_numpy()]
    assert summary["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-9)
    assert summary["rmse"] == pytest.approx(np.sqrt(np.square(errors).mean()), rel=1e-9)
    assert summary["mae"] < 1
    assert summary["r2"] > 0.999


MOMENT = np.datetime64("2024-05-01T12:00:00", "us")
NEEDS_OFFSET = {
    "unix seconds": SECOND + STEPS,
    "unix seconds as floats": SECOND + STEPS.astype(float),
    "unix milliseconds": SECOND * 1000 + STEPS,
    "fractions of a second": SECOND + STEPS / 1000,
    "ids": 10**15 + STEPS,
    "unix seconds and a zero": np.where(STEPS == 7, 0, SECOND + STEPS),
    "timestamps within 300 s": MOMENT + STEPS * np.timedelta64(1, "s"),
    "timestamps within 300 ms": MOMENT + STEPS * np.timedelta64(1, "ms"),
}


@pytest.mark.parametrize("name", NEEDS_OFFSET)
def test_an_offset_keeps_distinct_feature_values_distinct(name, tmp_path):
    values = NEEDS_OFFSET[name]
    put(tmp_path, {"x": values, "y": STEPS.astype(float)})
    run(tmp_path, NUMBERS)
    assert signature(tmp_path).columns[0].offset != 0
    found = splits(tmp_path)
    encoded = np.concatenate([split.inputs["numbers"][:, 0] for split in found.values()])
    assert encoded.dtype == np.float32
    assert len(np.unique(encoded)) == len(np.unique(values)) == ROWS
    assert profile(tmp_path)["inputs"]["numbers"]["offset"] != [0]
    # Prediction encodes the raw file as training encoded the prepared one.
    (file,) = inputs.find([tmp_path / "table.parquet"])
    again = encoded_batches(file, Encoder.read(tmp_path / "prepared"), 64)
    raw = np.concatenate([arrays["numbers"][:, 0] for _, arrays in again])
    for split in found.values():
        assert np.array_equal(raw[split.keys], split.inputs["numbers"][:, 0])


PLAIN = {
    "small": STEPS,
    "fractions": np.random.default_rng(1).normal(0, 1, ROWS),
    "equal up to rounding": np.where(STEPS % 2, 0.1 + 0.2, 0.3) + STEPS // 2,
    "days": np.datetime64("2020-01-01") + STEPS,
    "hours": np.datetime64("2020-01-01T00", "us") + STEPS * np.timedelta64(1, "h"),
    "true and false": STEPS % 2 == 0,
    "minus zero": np.where(STEPS % 2, 0.0, -0.0) + STEPS // 9,
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_feature_that_fits_float32_gets_no_offset(name, tmp_path):
    values = PLAIN[name]
    put(tmp_path, {"x": values, "y": STEPS.astype(float)})
    run(tmp_path, NUMBERS)
    (column,) = signature(tmp_path).columns
    assert column.offset == 0
    if values.dtype.kind in "if":
        train = splits(tmp_path)["train"]
        expected = values[train.keys].astype(np.float32)
        assert np.array_equal(train.inputs["numbers"][:, 0], expected)
        assert (column.low, column.high) == (values[train.keys].min(), values[train.keys].max())


@pytest.mark.parametrize(
    "values",
    [
        2**60 + STEPS,
        np.where(STEPS % 2, 0, 2**40) + STEPS,
        MOMENT + (STEPS % 150 + STEPS // 150 * 10**9) * np.timedelta64(1, "s"),
    ],
    ids=["ids beyond float64", "two ranges", "timestamps of 30 years"],
)
def test_a_feature_that_no_offset_keeps_distinct_is_refused(values, tmp_path):
    put(tmp_path, {"x": values, "y": STEPS.astype(float)})
    said = refusal(tmp_path, NUMBERS)
    assert "column 'x':" in said
    assert "of its 300 distinct values would become equal" in said
    assert "prepare.source.ignore" in said


def test_fill_values_are_in_the_unit_of_the_column(tmp_path):
    values = pa.array([None if step % 5 == 0 else SECOND + step for step in range(ROWS)])
    put(tmp_path, {"x": values, "y": STEPS.astype(float)})
    run(tmp_path, NUMBERS, missing="fill")
    (column,) = signature(tmp_path).columns
    assert SECOND <= column.fill <= SECOND + ROWS
    train = splits(tmp_path)["train"]
    expected = np.where(train.keys % 5, SECOND + train.keys, column.fill) - column.offset
    assert np.array_equal(train.inputs["numbers"][:, 0], expected.astype(np.float32))


MEASURED = {
    "close by chance": np.where(STEPS % 2, 3556.401482, 3556.401479) + STEPS // 2 * 7.3,
    "dense near 1": 0.999 + (STEPS // 2) / 150_000 + np.where(STEPS % 2, 3e-9, 0),
}


@pytest.mark.parametrize("name", MEASURED)
def test_fractions_that_are_closer_than_matters_are_no_reason_to_refuse(name, tmp_path):
    values = MEASURED[name]
    put(tmp_path, {"x": values, "y": STEPS.astype(float)})
    run(tmp_path, NUMBERS)
    train = splits(tmp_path)["train"]
    offset = signature(tmp_path).columns[0].offset
    found = train.inputs["numbers"][:, 0] + offset
    assert np.abs(found - values[train.keys]).max() <= np.spacing(np.float32(values.max()))


def test_an_offset_is_taken_where_the_column_without_it_would_lose_what_matters(tmp_path):
    pairs = np.where(STEPS % 2, 3556.401482, 3556.401479) + STEPS // 2 * 7.3
    values = np.where(STEPS < 150, pairs, 10**6 + STEPS / 1000)
    put(tmp_path, {"x": values, "y": STEPS.astype(float)})
    run(tmp_path, NUMBERS)
    encoded = [split.inputs["numbers"][:, 0] for split in splits(tmp_path).values()]
    assert len(np.unique(np.concatenate(encoded))) == 150 + 75


@pytest.mark.parametrize(
    "values",
    [
        SECOND + STEPS / 1000,
        np.where(STEPS == 7, 0, SECOND + STEPS / 1000),
        SECOND + np.arange(100_000) / 1000,
        np.r_[STEPS / 7, SECOND + STEPS / 1000],
    ],
    ids=["fractions of a second", "and a zero", "very many", "half of them small"],
)
def test_fractions_that_float32_makes_equal_in_numbers_count(values):
    distinct = np.unique(values)
    single = distinct.astype(np.float32)
    lost = narrowing.harmful(narrowing.merged_values(distinct, single), distinct, single)
    merged = len(distinct) - len(np.unique(single))
    assert lost.sum() >= merged / 2
    assert (lost.sum() > 0) == (merged > 0)


def test_sequence_values_that_are_equal_in_float32_are_refused(tmp_path):
    times = pa.array([[[SECOND + row, 1], [SECOND + row + 7, 2]] for row in range(60)])
    put(tmp_path, {"sequence": times, "y": ["no", "yes"] * 30})
    said = refusal(tmp_path, SEQUENCES)
    assert "feature 0 of the timesteps of 'sequence'" in said
    chance = np.random.default_rng(1)
    kelvin = pa.array(chance.normal(293, 5, (60, 4)).tolist())
    put(tmp_path, {"sequence": kelvin, "y": ["no", "yes"] * 30})
    run(tmp_path, SEQUENCES)


# A graph that a person wrote, and the signature that an older release wrote for it.
def by_hand(folder, operator, output):
    floats, names = onnx.TensorProto.FLOAT, ["batch"]
    flat = onnx.helper.make_node("Squeeze", ["numbers", "axis"], ["flat"])
    node = onnx.helper.make_node(operator, ["flat"], [output])
    graph = onnx.helper.make_graph(
        [flat, node],
        "by hand",
        [onnx.helper.make_tensor_value_info("numbers", floats, [*names, 1])],
        [onnx.helper.make_tensor_value_info(output, floats, names)],
        [onnx.helper.make_tensor("axis", onnx.TensorProto.INT64, [1], [1])],
    )
    opset = [onnx.helper.make_opsetid("", 20)]
    folder.mkdir()
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), folder / "model.onnx"
    )
    document = {
        "schema_version": 1,
        "task": "regression",
        "columns": [{"name": "x", "kind": "number", "fill": None}],
        "inputs": [{"name": "numbers", "dtype": "float32", "shape": [1]}],
        "outputs": [{"name": "prediction", "dtype": "float32", "shape": []}],
        "classes": [],
    }
    (folder / "signature.json").write_text(json.dumps(document))
    return folder


def test_a_bundle_of_an_older_release_predicts_the_same(tmp_path):
    bundle = by_hand(tmp_path / "bundle", "Abs", "prediction")
    put(tmp_path, {"x": [-1.5, SECOND + 1.0]})
    _, table = predict_paths(bundle, [tmp_path / "table.parquet"], tmp_path / "out")
    assert table["prediction"].type == pa.float32()
    assert table["prediction"].to_pylist() == [1.5, float(np.float32(SECOND + 1))]
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    assert manifest["substituted"] == {"x": {"rows": 2, "filled": 0, "outside": None}}


@pytest.mark.parametrize(("bad", "operator"), [(-1.0, "Log"), (0.0, "Log"), (0.0, "Reciprocal")])
def test_a_nan_prediction_is_refused_with_file_and_row(bad, operator, tmp_path):
    bundle = by_hand(tmp_path / "bundle", operator, "prediction")
    x = np.ones(600)
    x[431] = bad
    put(tmp_path, {"x": x})
    with pytest.raises(InputError) as caught:
        predict_paths(bundle, [tmp_path / "table.parquet"], tmp_path / "out")
    assert (
        f"{tmp_path / 'table.parquet'}, row 431: the model's output 'prediction' is NaN or inf"
        in str(caught.value)
    )
    assert isinstance(caught.value, TooManyBad)  # one of 600 rows
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".unfinished"]


def test_a_column_with_only_missing_values_is_filled_and_reported(tmp_path):
    bundle = by_hand(tmp_path / "bundle", "Abs", "prediction")
    document = json.loads((bundle / "signature.json").read_bytes())
    document["columns"][0]["fill"] = 1.0
    (bundle / "signature.json").write_text(json.dumps(document))
    put(tmp_path, {"x": pa.nulls(600, pa.float64())})
    _, table = predict_paths(bundle, [tmp_path / "table.parquet"], tmp_path / "out")
    assert set(table["prediction"].to_pylist()) == {1.0}
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    assert manifest["substituted"]["x"]["filled"] == manifest["substituted"]["x"]["rows"] == 600


def test_a_refused_prediction_job_leaves_no_files(tmp_path):
    bundle = by_hand(tmp_path / "bundle", "Abs", "prediction")
    model = onnx.load(bundle / "model.onnx")
    model.graph.input[0].name = model.graph.node[0].input[0] = "categories"
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, bundle / "model.onnx")
    document = json.loads((bundle / "signature.json").read_bytes())
    document["columns"] = [{"name": "x", "kind": "category", "values": ["01", "02"]}]
    document["inputs"] = [{"name": "categories", "dtype": "int64", "shape": [1]}]
    (bundle / "signature.json").write_text(json.dumps(document))
    put(tmp_path, {"x": ["1", "2"] * 300})
    with pytest.raises(InputError, match="column 'x': the model knows none of the 600 values"):
        predict_paths(bundle, [tmp_path / "table.parquet"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    put(tmp_path, {"x": ["1", "2"] * 299 + ["1", "02"]})
    predict_paths(bundle, [tmp_path / "table.parquet"], tmp_path / "out")


BAD = [np.nan, np.inf, -np.inf]
NUMBER, TEXT = NumberColumn(name="x"), TextColumn(name="t", vocabulary=9, max_length=9)


@pytest.mark.parametrize("bad", BAD)
def test_compute_metrics_refuses_nan_outputs(bad):
    two = Signature.of("binary", (NUMBER,), ("no", "yes"))
    probabilities = np.array([[0.5, 0.5], [bad, 0.5], [0.1, 0.9]], np.float32)
    outputs = [
        (two, {"probabilities": probabilities}),
        (Signature.of("regression", (NUMBER,), ()), {"prediction": np.array([1, bad, 2])}),
        (
            Signature.of("language_model", (TEXT,), ()),
            {"log_likelihood": np.array([-1, bad, -2]), "scored": np.array([1, 1, 1])},
        ),
    ]
    for found, given in outputs:
        with pytest.raises(InputError, match="row 1 of the test split: the model's output"):
            found.problem.compute_metrics(found, np.array([0, 1, 1]), given, 10)
