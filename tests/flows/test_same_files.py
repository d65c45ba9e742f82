"""Predictions of the files that a model was evaluated on equal the evaluated predictions."""

import json
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from path_helpers import register
from PIL import Image

from flows.job import run_job, signature_of
from tasks import params
from tasks.bundle.signature import Signature
from tasks.columns import NumberColumn, TextColumn
from tasks.errors import InputError
from tasks.inputs import find
from tasks.pipeline import STEPS
from tasks.serving.options import Options
from tasks.workspace import Workspace

SIZES = {"train": 40, "test": 30}


def glyph(rng, label):
    """Drawn in the alpha channel only; all classes have the same colours."""
    height, width = rng.integers(10, 16, 2)
    alpha = np.zeros((height, width), np.uint8)
    if label == "bar":
        alpha[:, width // 2 - 2 : width // 2 + 1] = 255
    elif label == "line":
        alpha[height // 2 - 2 : height // 2 + 1] = 255
    else:
        alpha[2:-2, 2:-2] = 255
    alpha[rng.random(alpha.shape) < 0.1] = 128
    return Image.fromarray(np.dstack([np.zeros((height, width, 3), np.uint8), alpha]))


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory):
    """A workspace with a model of glyphs, its registry and its version."""
    root, rng = tmp_path_factory.mktemp("glyphs"), np.random.default_rng(4)
    for split, rows in SIZES.items():
        for row in range(rows):
            label = ("bar", "line", "block")[row % 3]
            folder = root / "raw" / split / label
            folder.mkdir(parents=True, exist_ok=True)
            glyph(rng, label).save(folder / f"{row}.png")
    source = {"kind": "image", "path": "raw", "size": [9, 8], "colour": "grey"}
    with trained_on(root, source, "logistic", epochs=12, accuracy=0.8) as model:
        yield model


@contextmanager
def trained_on(root, source, architecture, epochs, accuracy, **prepare):
    """A workspace with a model of the raw data in `root`, its registry and its version."""
    learning = {"batch_size": 16, "optimizer": {"learning_rate": 0.02}, "device": "cpu"}
    data = {
        "prepare": {"source": source, "validation": 0.2, **prepare},
        "train": {"architecture": architecture, "epochs": epochs, **learning},
        "evaluate": {"gates": {"accuracy": accuracy}},
        "registration": {"name": "sample"},
    }
    workspace, given = Workspace(root), params.validate(data, "test")
    for step in STEPS.values():
        step.run(given, workspace)
    with register(workspace) as registry:
        yield workspace, registry, registry.resolve("sample")


def predict_files(glyphs, folder, *paths, **options):
    """The report of a job on `paths` and its table."""
    _, registry, version = glyphs
    files = find(paths, signature_of(version.version))
    report = run_job(registry, version, files, folder, **options)
    return report, pq.read_table(folder / "predictions")


def test_predictions_of_the_test_folder_equal_the_evaluated_ones(glyphs, tmp_path):
    workspace, _, _ = glyphs
    report, table = predict_files(glyphs, tmp_path / "out", workspace.root / "raw/test")
    assert (report.rows, table.column_names) == (30, ["key", "prediction", "score"])
    keys = table["key"].to_pylist()
    assert keys == sorted(keys, key=lambda key: tuple(key.split("/")))
    assert Counter(key.split("/")[0] for key in keys) == {"bar": 10, "line": 10, "block": 10}
    labels = np.array([key.split("/")[0] for key in keys], object)
    evaluation = json.loads((workspace.bundle / "evaluation.json").read_bytes())
    accuracy = evaluation["metrics"]["summary"]["accuracy"]
    assert (table["prediction"].to_numpy() == labels).mean() == pytest.approx(accuracy)
    # Each row too, to the last bit of the score.
    _, stored = predict_files(glyphs, tmp_path / "stored", workspace.prepared / "test.arrow")
    with pa.memory_map(str(workspace.prepared / "test.arrow")) as source:
        assert pa.ipc.open_file(source).read_all()["key"].equals(stored["key"])
    raw = [row - SIZES["train"] for row in stored["key"].to_pylist()]
    assert table.take(pa.array(raw)).drop(["key"]).equals(stored.drop(["key"]))


def test_the_manifest_has_the_hash_of_every_image(glyphs, tmp_path):
    workspace, _, _ = glyphs
    predict_files(glyphs, tmp_path / "out", workspace.root / "raw/test")
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    (found,) = manifest["inputs"]
    assert (found["path"], found["rows"]) == (str(workspace.root / "raw/test"), 30)
    assert len(found["members"]) == 30
    _, _, version = glyphs
    alone = workspace.root / "raw/test/bar/0.png"
    (file,) = find([alone], signature_of(version.version))
    assert found["members"]["bar/0.png"] == file.members["0.png"]
    assert "probabilities" not in manifest


def test_predict_ignores_the_labels_of_its_input(glyphs, tmp_path):
    workspace, _, _ = glyphs
    _, expected = predict_files(glyphs, tmp_path / "a", workspace.root / "raw/test")
    for number, key in enumerate(expected["key"].to_pylist()):
        folder = tmp_path / "in" / ("whatever" if number % 2 else "bar")
        folder.mkdir(parents=True, exist_ok=True)
        content = (workspace.root / "raw/test" / key).read_bytes()
        (folder / key.replace("/", "-")).write_bytes(content)
    _, found = predict_files(glyphs, tmp_path / "b", tmp_path / "in")
    by_name = {key.split("/")[1]: row for row, key in enumerate(found["key"].to_pylist())}
    order = [by_name[key.replace("/", "-")] for key in expected["key"].to_pylist()]
    assert found.take(pa.array(order)).drop(["key"]).equals(expected.drop(["key"]))


def test_probabilities_have_a_column_for_each_class(glyphs, tmp_path):
    workspace, _, _ = glyphs
    test = workspace.root / "raw/test"
    _, table = predict_files(glyphs, tmp_path / "out", test, options=Options(probabilities=True))
    classes = ["bar", "block", "line"]
    names = [f"probability_{name}" for name in classes]
    assert table.column_names == ["key", "prediction", "score", *names]
    found = np.stack([table[name].to_numpy() for name in names], axis=1)
    assert found.dtype == np.float32
    assert found.sum(axis=1) == pytest.approx(np.ones(30), abs=1e-5)
    assert np.array_equal(found.max(axis=1), table["score"].to_numpy())
    assert [classes[best] for best in found.argmax(axis=1)] == table["prediction"].to_pylist()
    _, plain = predict_files(glyphs, tmp_path / "plain", test)
    assert plain.equals(table.select(plain.column_names))


@pytest.mark.parametrize("first", [True, False])
def test_predict_with_and_without_probabilities_are_different_jobs(first, glyphs, tmp_path):
    workspace, _, _ = glyphs
    image = workspace.root / "raw/test/bar/0.png"
    predict_files(glyphs, tmp_path, image, options=Options(probabilities=first))
    report, _ = predict_files(glyphs, tmp_path, image, options=Options(probabilities=first))
    assert report.fresh
    given = "--probabilities" if first else "without --probabilities"
    expected = rf"this input with other options \({given}\)\. Name another folder"
    with pytest.raises(InputError, match=expected):
        predict_files(glyphs, tmp_path, image, options=Options(probabilities=not first))


@pytest.mark.parametrize("task", ["regression", "language_model"])
def test_probabilities_of_a_model_without_classes_are_refused(task):
    column = NumberColumn(name="x")
    if task == "language_model":
        column = TextColumn(name="x", vocabulary=9, max_length=4)
    signature = Signature.of(task, (column,), ())
    with pytest.raises(InputError, match=f"{task.replace('_', ' ')}, so there are no classes"):
        Options(probabilities=True).check(signature)


def test_predictions_of_text_lines_equal_the_evaluated_ones(tmp_path):
    rng = np.random.default_rng(2)
    words = {"good": ["sun", "warm", "bright"], "bad": ["rain", "cold", "grey"]}
    (tmp_path / "raw").mkdir()
    for label, own in words.items():
        texts = [" ".join(rng.choice([*own, "the", "day"], 6)) for _ in range(60)]
        text = "\r\n".join(texts) + "\r\n" * (label == "good")
        (tmp_path / f"raw/{label}.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    tokenizer = {"vocabulary": 40, "min_frequency": 1}
    source = {"kind": "text", "path": "raw", "max_length": 10, "tokenizer": tokenizer}
    with trained_on(tmp_path, source, "attention", 8, 0.6, duplicates="drop") as model:
        workspace = model[0]
        _, table = predict_files(model, tmp_path / "out", tmp_path / "raw")
        _, test = predict_files(model, tmp_path / "test", workspace.prepared / "test.arrow")
        _, good = predict_files(model, tmp_path / "good", tmp_path / "raw/good.txt")
    assert table["key"].to_pylist() == list(range(120))  # counted through all files, from 0
    assert table["prediction"].slice(60).equals(good["prediction"])
    same = table.take(test["key"])
    assert same["prediction"].equals(test["prediction"])
    assert same["score"].to_numpy() == pytest.approx(test["score"].to_numpy(), abs=1e-6)
    evaluation = json.loads((workspace.bundle / "evaluation.json").read_bytes())
    labels = np.where(test["key"].to_numpy() < 60, "bad", "good").astype(object)
    right = (same["prediction"].to_numpy() == labels).mean()
    assert right == pytest.approx(evaluation["metrics"]["summary"]["accuracy"])
