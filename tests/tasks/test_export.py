"""The ONNX bundle: its bytes, its parity with PyTorch, and its evaluation."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from prepare_helpers import IMAGES, put_images, some_images
from prepare_helpers import run as run_prepare
from sklearn.metrics import f1_score

from tasks.bundle.signature import Signature
from tasks.checkpoint import load
from tasks.columns import NumberColumn, Tensor
from tasks.config import Evaluate, Export, Logistic, Train
from tasks.dataset import read_split
from tasks.encoding import Encoder
from tasks.evaluate import evaluate, inference
from tasks.export import export
from tasks.parity import Parity, compare_outputs
from tasks.session import cuda_devices, open_session
from tasks.train import train

# The network casts uint8 to float32 before its first layer, whichever that is.
CASES = [("logistic", "uint8"), ("mlp", "uint8"), ("mlp", "float32"), ("cnn", "uint8")]
each_case = pytest.mark.parametrize(("name", "dtype"), CASES)


def plain_session(model):
    """A session of ONNX Runtime with default options."""
    return ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])


def held_out(prepared):
    return read_split(prepared, "test", Encoder.read(prepared))


def outputs(folder):
    return {name: folder / name for name in ("base", "repeats", "bundle")}


def evaluation(folder):
    return json.loads((folder / "bundle/evaluation.json").read_bytes())


@each_case
def test_export_writes_every_file_of_a_bundle_that_passes(name, dtype, exported):
    folder = exported(name, dtype)
    assert sorted(p.name for p in (folder / "bundle").iterdir()) == [
        "architecture.json",
        "card.md",
        "evaluation.json",
        "model.onnx",
        "profile.json",
        "signature.json",
        "weights.safetensors",
    ]
    document = evaluation(folder)
    assert document["passed"]
    assert document["parity"]["passed"]
    assert document["parity"]["flipped"] == 0
    assert document["parity"]["batch_sizes"] == [1, 7, document["test_split"]["rows"]]
    assert [gate["gate"] for gate in document["gates"]] == ["accuracy", "log_loss"]
    bundle = folder / "bundle"
    assert json.loads((bundle / "architecture.json").read_bytes())["name"] == name
    weights = (folder / "checkpoint/weights.safetensors").read_bytes()
    assert (bundle / "weights.safetensors").read_bytes() == weights


@each_case
def test_onnx_logits_match_pytorch_at_any_batch_size(name, dtype, exported, prepared_images):
    folder = exported(name, dtype)
    session = plain_session(folder / "bundle/model.onnx")
    images = held_out(prepared_images[dtype]).inputs["image"]
    images = np.concatenate([images, images])[:33]
    assert images.dtype == dtype
    assert (
        session.get_inputs()[0].type
        == {"uint8": "tensor(uint8)", "float32": "tensor(float)"}[dtype]
    )
    network, _ = load(folder / "checkpoint")
    with torch.no_grad():
        expected = network({"image": torch.tensor(images)}).numpy()
    for size in (1, 5, 33):
        parts = [
            session.run(["logits", "probabilities"], {"image": images[start : start + size]})
            for start in range(0, 33, size)
        ]
        logits, probabilities = (np.concatenate(part) for part in zip(*parts, strict=True))
        assert logits == pytest.approx(expected, abs=1e-4)
        exponentials = np.exp(expected - expected.max(1, keepdims=True))
        by_hand = exponentials / exponentials.sum(1, keepdims=True)
        assert probabilities == pytest.approx(by_hand, abs=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(cuda_devices() == 0, reason="the NVIDIA driver finds no device")
@each_case
def test_a_session_on_cuda_is_as_near_to_pytorch_as_one_on_the_cpu_must_be(
    name, dtype, exported, prepared_images
):
    folder = exported(name, dtype)
    network, _ = load(folder / "checkpoint")
    session = open_session(folder / "bundle/model.onnx", "cuda")
    inputs, names = held_out(prepared_images[dtype]).inputs, ["logits", "probabilities"]
    signature, allowed = network.signature, Export().tolerance
    found = compare_outputs(session, signature, inputs, inference(network, names), 64, allowed)
    assert found.passed, found


@each_case
def test_the_onnx_file_is_valid_and_matches_its_signature(name, dtype, exported):
    bundle = exported(name, dtype) / "bundle"
    model = onnx.load(bundle / "model.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert not any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer)
    signature = Signature.read(bundle / "signature.json")

    def shapes(values):
        return {
            v.name: tuple(d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim)
            for v in values
        }

    assert shapes(model.graph.input) == {t.name: ("batch", *t.shape) for t in signature.inputs}
    assert shapes(model.graph.output) == {t.name: ("batch", *t.shape) for t in signature.outputs}


@each_case
def test_the_onnx_file_contains_no_path_time_or_user_name(name, dtype, exported, prepared_images):
    content = (exported(name, dtype) / "bundle/model.onnx").read_bytes()
    for place in (
        Path(__file__).parents[2],
        Path(torch.__file__).parent,
        Path.home(),
        Path("/tmp"),
    ):
        assert bytes(place) + b"/" not in content
    assert b".py" not in content
    assert b"pkg.torch" not in content
    assert not re.search(rb"20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d", content)


def test_the_onnx_file_records_opset_and_torch_release(exported):
    model = onnx.load(exported("mlp", "uint8") / "bundle/model.onnx")
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert model.producer_name == "pytorch"
    assert model.producer_version == torch.__version__.split("+")[0]


@pytest.mark.parametrize("opset", [18, 22])
def test_export_opset_sets_the_opset_of_the_onnx_file(opset, exported, prepared_images, tmp_path):
    given = {
        "prepared": prepared_images["uint8"],
        "checkpoint": exported("cnn", "uint8") / "checkpoint",
    }
    report = export(
        Export(opset=opset), Evaluate(gates={"accuracy": 0}), **given, **outputs(tmp_path)
    )
    assert report.parity.passed
    assert onnx.load(tmp_path / "bundle/model.onnx").opset_import[0].version == opset


AGAIN = """
import sys
from pathlib import Path
from tasks.config import Evaluate, Export, Logistic, Train
from tasks.export import export
given = dict(zip(("prepared", "checkpoint", "bundle"), map(Path, sys.argv[1:])))
gates = {"accuracy": 0.34, "log_loss": 5.0}
export(Export(), Evaluate(gates=gates), **given, base=Path("base"), repeats=Path("repeats"))
"""


def test_the_same_checkpoint_gives_the_same_bundle_bytes(exported, prepared_images, tmp_path):
    folder, place = exported("cnn", "uint8"), tmp_path / "elsewhere/of another name"
    place.mkdir(parents=True)
    (place / "again.py").write_text(AGAIN)
    given = [str(prepared_images["uint8"]), str(folder / "checkpoint"), "bundle"]
    command = [sys.executable, str(place / "again.py"), *given]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}  # not that of the process of this test
    subprocess.run(command, cwd=place, env=environment, timeout=240, check=True)
    for path in (folder / "bundle").iterdir():
        assert (place / "bundle" / path.name).read_bytes() == path.read_bytes(), path.name


@each_case
def test_evaluation_metrics_match_a_recomputation_from_the_onnx_file(
    name, dtype, exported, prepared_images
):
    folder = exported(name, dtype)
    test = held_out(prepared_images[dtype])
    session = plain_session(folder / "bundle/model.onnx")
    (probabilities,) = session.run(["probabilities"], dict(test.inputs))
    predicted = probabilities.argmax(1)
    document = evaluation(folder)
    metrics = document["metrics"]
    summary = metrics["summary"]
    assert metrics["rows"] == len(test) == document["test_split"]["rows"]
    assert summary["accuracy"] == (predicted == test.targets).mean()
    assert summary["macro_f1"] == pytest.approx(f1_score(test.targets, predicted, average="macro"))
    picked = probabilities[np.arange(len(test)), test.targets].astype(float)
    assert summary["log_loss"] == pytest.approx(-np.log(picked).mean(), rel=1e-4)
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (test.targets, predicted), 1)
    assert metrics["confusion"] == confusion.tolist()
    for gate in document["gates"]:
        assert gate["value"] == summary[gate["gate"]]
    content = (prepared_images[dtype] / "test.arrow").read_bytes()
    assert document["test_split"]["sha256"] == hashlib.sha256(content).hexdigest()


def test_evaluation_metrics_come_from_the_onnx_file_not_the_checkpoint(
    exported, prepared_images, tmp_path, monkeypatch
):
    """If the export ruins the weights, parity fails and the metrics are of the ONNX file."""
    import tasks.export

    folder = exported("logistic", "uint8")
    write = tasks.export._write_onnx

    def ruin(network, *rest):
        with torch.no_grad():
            for weight in network.parameters():
                weight.neg_()
        write(network, *rest)
        with torch.no_grad():
            for weight in network.parameters():
                weight.neg_()

    monkeypatch.setattr(tasks.export, "_write_onnx", ruin)
    report = export(
        Export(),
        Evaluate(gates={"accuracy": 0}),  # which even the ruin passes
        prepared=prepared_images["uint8"],
        checkpoint=folder / "checkpoint",
        **outputs(tmp_path),
    )
    document = evaluation(tmp_path)
    assert not document["passed"]
    assert not document["parity"]["passed"]
    assert document["parity"]["flipped"] > 0
    assert report.summary["accuracy"] < 0.34 < evaluation(folder)["metrics"]["summary"]["accuracy"]
    assert [verdict.passed for verdict in report.gates] == [True]


@pytest.mark.parametrize("gates", [{}, {"accuracy": 1.01}])
def test_export_keeps_the_evaluation_if_a_gate_failed(gates, exported, prepared_images, tmp_path):
    folder = exported("logistic", "uint8")
    export(
        Export(),
        Evaluate(gates=gates),
        prepared=prepared_images["uint8"],
        checkpoint=folder / "checkpoint",
        **outputs(tmp_path),
    )
    document = evaluation(tmp_path)
    assert not document["passed"]
    assert document["parity"]["passed"]
    assert [gate["passed"] for gate in document["gates"]] == [False]
    assert "**refused**" in (tmp_path / "bundle/card.md").read_text()
    for name in ("model.onnx", "signature.json"):  # the digest does not know the gates
        assert (tmp_path / "bundle" / name).read_bytes() == (folder / "bundle" / name).read_bytes()


def test_the_card_shows_the_metrics_of_the_onnx_file(exported):
    folder = exported("mlp", "uint8")
    card = (folder / "bundle/card.md").read_text()
    metrics = evaluation(folder)["metrics"]
    low, high = metrics["intervals"]["macro_f1"]
    assert card.startswith("# mlp\n")
    assert f"| macro_f1 | {metrics['summary']['macro_f1']:.4f} [{low:.4f}, {high:.4f}] |" in card
    assert f"| log_loss | {metrics['summary']['log_loss']:.4f} |" in card
    assert "- in: `image: uint8[8, 8, 1]`" in card
    for label in ("cat", "dog", "owl"):
        assert f"| **{label}** |" in card


def test_parity_fails_for_other_weights_and_counts_flips(
    exported, prepared_images, tiny_train, tmp_path
):
    prepared = prepared_images["uint8"]
    train(
        tiny_train("mlp", seed=9),
        prepared=prepared,
        checkpoint=tmp_path / "checkpoint",
        history=tmp_path / "history.csv",
        base=tmp_path / "base",
        resume=tmp_path / "resume",
    )
    other, _ = load(tmp_path / "checkpoint")
    images = held_out(prepared).inputs["image"]
    told = inference(other, ["logits"])
    expected = told({"image": images})["logits"]
    bundle = exported("mlp", "uint8") / "bundle"
    session, signature = open_session(bundle / "model.onnx", "cpu"), Encoder.read(bundle).signature
    found = compare_outputs(session, signature, {"image": images}, told, 8, 1e-4)
    (served,) = session.inner.run(["logits"], {"image": images})
    assert not found.passed
    assert found.flipped == (served.argmax(1) != expected.argmax(1)).sum() > 0
    error = (abs(served - expected) / np.maximum(1, abs(expected))).max()
    assert found.max_error == pytest.approx(error, rel=1e-3)
    assert "REFUSED" in str(found)


ECHO = Signature(
    task="multiclass",
    columns=(NumberColumn(name="x"),),
    inputs=(Tensor(name="x", dtype="float32", shape=(3,)),),
    outputs=(Tensor(name="logits", dtype="float32", shape=(3,)),),
    classes=("a", "b", "c"),
)


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    """A session whose logits are its input."""
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3])
        for name in ("x", "logits")
    ]
    node = onnx.helper.make_node("Identity", ["x"], ["logits"])
    graph = onnx.helper.make_graph([node], "echo", values[:1], values[1:])
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10
    )
    path = tmp_path_factory.mktemp("echo") / "echo.onnx"
    onnx.save(model, path)
    return open_session(path, "cpu")


def parity(session, served, expected, tolerance=1e-3, unit=1.0):
    served, expected = np.array(served, np.float32), np.array(expected, np.float32)
    # What PyTorch would say of a row, wherever it comes in a batch.
    wanted = {row.tobytes(): answer for row, answer in zip(served, expected, strict=True)}

    def expects(batch):
        return {"logits": np.stack([wanted[row.tobytes()] for row in batch["x"]])}

    return compare_outputs(session, ECHO, {"x": served}, expects, len(served), tolerance, unit)


def test_parity_does_not_count_a_tie_as_a_flip(echo):
    served, expected = [[0.5004, 0.5, 0]], [[0.5, 0.5004, 0]]
    found = parity(echo, served, expected)
    assert found.passed
    assert found.flipped == 0
    assert found.max_error == pytest.approx(4e-4, rel=1e-3)


def test_parity_counts_a_flip_once_per_row(echo):
    served = [[0.51, 0.5, 0], [1, 0, 0], [0, 1, 0]]
    expected = [[0.5, 0.51, 0], [1, 0, 0], [0, 0, 1]]
    found = parity(echo, served, expected)
    assert not found.passed
    assert found.flipped == 2
    assert found.rows == 3


def test_parity_fails_for_flipped_labels_within_the_tolerance():
    assert Parity(9, (1,), tolerance=0.1, max_error=0.0, flipped=0).passed
    assert not Parity(9, (1,), tolerance=0.1, max_error=0.0, flipped=1).passed


def test_parity_of_a_regression_says_nothing_of_labels(echo):
    found = Parity(9, (1,), tolerance=0.1, max_error=0.0, flipped=None)
    assert found.passed
    assert "label" not in f"{found} {found.summary} {found.refusal}"
    labelled = Parity(9, (1,), tolerance=0.1, max_error=0.0, flipped=0)
    assert "0 labels flipped" in labelled.summary


def test_parity_fails_for_an_error_above_the_tolerance_without_flips(echo):
    found = parity(echo, [[1.002, 0, 0]], [[1, 0, 0]])
    assert not found.passed
    assert found.flipped == 0


def test_parity_compares_large_logits_relatively(echo):
    assert parity(echo, [[1000.5, 0, 0]], [[1000, 0, 0]]).passed
    assert not parity(echo, [[1002.0, 0, 0]], [[1000, 0, 0]]).passed


def test_parity_compares_small_numbers_relative_to_the_unit(echo):
    served, expected = [[2e-5, 0, 0]], [[1e-5, 0, 0]]
    assert parity(echo, served, expected).passed
    assert not parity(echo, served, expected, unit=1e-5).passed


@pytest.mark.parametrize("position", [0, 9])
def test_parity_fails_for_a_nan_logit_in_any_position(echo, position):
    served = np.tile(np.float32([1, 0, 0]), (10, 1))
    expected = served.copy()
    served[position, 0] = np.nan  # so that the class is the same
    assert not parity(echo, served, expected).passed


def test_evaluate_matches_export_and_writes_plots(exported, prepared_images, tmp_path):
    folder = exported("mlp", "uint8")
    report = evaluate(
        Evaluate(gates={}),
        prepared=prepared_images["uint8"],
        checkpoint=folder / "checkpoint",
        metrics=tmp_path / "deep/metrics.json",
        plots=tmp_path / "plots",
    )
    written = json.loads((tmp_path / "deep/metrics.json").read_bytes())
    onnx_summary = evaluation(folder)["metrics"]["summary"]
    assert report.metrics.summary == pytest.approx(onnx_summary, abs=1e-5)
    assert {name: written[name] for name in report.metrics.summary} == report.metrics.summary
    assert list(written)[:2] == report.metrics.headline == ["macro_f1", "accuracy"]
    assert written.keys() == {*report.metrics.summary, "rows"}  # those of the classes are apart
    each = (tmp_path / "plots/per_class.csv").read_text().splitlines()
    assert each[0] == "class,precision,recall,f1,support"
    assert [line.split(",")[0] for line in each[1:]] == list(report.metrics.per_class)
    # Nothing of a regression, but its header, so that `dvc plots` misses nothing.
    assert (tmp_path / "plots/predictions.csv").read_text() == "actual,predicted\n"
    confusion = (tmp_path / "plots/confusion.csv").read_text().splitlines()
    assert confusion[0] == "actual,predicted"
    assert len(confusion) == 1 + report.metrics.rows == 31
    right = sum(len(set(line.split(","))) == 1 for line in confusion[1:])
    assert right / report.metrics.rows == pytest.approx(report.metrics.summary["accuracy"])
    calibration = (tmp_path / "plots/calibration.csv").read_text().splitlines()
    assert calibration[0] == "confidence,accuracy,rows"
    assert sum(int(line.split(",")[2]) for line in calibration[1:]) == report.metrics.rows


def test_evaluation_and_card_list_what_prepare_removed(tmp_path):
    images, labels = some_images(60), np.arange(60) % 2
    put_images(tmp_path, np.concatenate([images, images[:6]]), np.r_[labels, labels[:6]])
    run_prepare(tmp_path, IMAGES, duplicates="drop")
    prepared, checkpoint = tmp_path / "prepared", tmp_path / "checkpoint"
    params = Train(architecture=Logistic(name="logistic"), epochs=1)
    train(
        params,
        prepared=prepared,
        base=tmp_path / "base",
        checkpoint=checkpoint,
        history=tmp_path / "history.csv",
        resume=tmp_path / "resume",
    )
    given = {"prepared": prepared, "checkpoint": checkpoint, **outputs(tmp_path)}
    export(Export(), Evaluate(gates={}), **given)
    said = "prepare.duplicates: drop removed 6 of 66 rows (9.1%)"
    data = evaluation(tmp_path)["data"]
    assert data["notices"] == [said]
    assert (data["rows_in"], data["dropped"]) == (66, {"missing": 0, "duplicates": 6})
    assert data["rows"] == {"train": 42, "validation": 6, "test": 12}
    card = (tmp_path / "bundle/card.md").read_text()
    assert f"\n- **{said}**\n- 60 of 66 rows: train 42, validation 6, test 12\n" in card
    assert "\n- 0 of 12 test rows have an equal row in training, 0 of them with" in card
    # An older release prepared other reports, of which nothing is said.
    report = json.loads((prepared / "report.json").read_bytes())
    del report["notices"]
    (prepared / "report.json").write_text(json.dumps(report))
    export(Export(), Evaluate(gates={}), **given)
    assert evaluation(tmp_path)["data"] == {}
    assert "## Data" not in (tmp_path / "bundle/card.md").read_text()
