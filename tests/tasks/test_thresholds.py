"""The threshold of two classes: how it is chosen, and that everything predicts by it."""

import json
import re

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prediction_helpers import files_of, predict_paths
from sklearn import metrics as sk

from tasks import inputs
from tasks.bundle.evaluation import Evaluation
from tasks.bundle.signature import Signature
from tasks.checkpoint import load
from tasks.columns import NumberColumn
from tasks.config import Evaluate, Params
from tasks.dataset import read_split
from tasks.drift.reference import Reference
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.evaluate import run_network
from tasks.export import export
from tasks.in_memory import Predictor
from tasks.parity import _compare_batch, _shift
from tasks.pipeline import STEPS
from tasks.problems import PROBLEMS
from tasks.problems.thresholds import (
    CHOOSABLE,
    best_threshold,
    decided,
    metric_of,
    predicted_classes,
)
from tasks.proposal import propose
from tasks.reevaluate import reevaluate
from tasks.serving.options import Options
from tasks.workspace import Workspace

SCORES = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "macro_recall": lambda a, p: sk.recall_score(a, p, average="macro"),
    "weighted_recall": lambda a, p: sk.recall_score(a, p, average="weighted"),
    "macro_f1": lambda a, p: sk.f1_score(a, p, average="macro"),
    "weighted_f1": lambda a, p: sk.f1_score(a, p, average="weighted"),
}
PROBLEM = PROBLEMS["classification"]


def of_two(positive):
    positive = np.asarray(positive, np.float32)
    return np.stack([1 - positive, positive], axis=1)


@pytest.mark.parametrize(
    ("actual", "positive", "expected"),
    [
        ([0, 0, 1, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.6], 0.25),
        ([0, 0, 0, 1], [0.01, 0.02, 0.03, 0.05], 0.04),
        ([0, 1, 1, 1], [0.7, 0.9, 0.95, 0.99], 0.8),
        # The second of four is as good as the third, and nearer to 0.5.
        ([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.6], 0.45),
        ([0, 1], [0.3, 0.3], 0.5),
        ([0, 0], [0.3, 0.3], 0.5),
    ],
)
def test_the_best_threshold_lies_between_two_probabilities(actual, positive, expected):
    assert best_threshold(np.array(actual), of_two(positive), "macro_f1") == expected


@pytest.mark.parametrize("metric", CHOOSABLE)
def test_no_other_threshold_has_a_better_metric(metric):
    rng = np.random.default_rng(3)
    actual = (rng.random(120) < 0.15).astype(np.int64)
    positive = np.round(1 / (1 + np.exp(-rng.normal(-2 + 1.5 * actual))), 3)
    chosen = best_threshold(actual, of_two(positive), metric)
    score = SCORES[metric]
    best = max(score(actual, positive >= t) for t in np.unique(positive)[1:])
    assert score(actual, positive >= chosen) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(
    ("gates", "metric"),
    [
        ((), "macro_f1"),
        (("accuracy",), "accuracy"),
        (("accuracy", "macro_f1"), "macro_f1"),
        (("weighted_f1", "balanced_accuracy"), "balanced_accuracy"),
        (("roc_auc", "macro_precision"), "macro_f1"),
    ],
)
def test_a_threshold_is_chosen_for_a_metric_with_a_gate_in_any_order(gates, metric):
    assert metric_of(gates) == metric
    assert metric_of(gates[::-1]) == metric


def test_the_second_class_is_predicted_from_the_threshold_on():
    probabilities = of_two([0.1, 0.2, 0.3, 0.9])
    assert predicted_classes(probabilities, 0.2).tolist() == [0, 1, 1, 1]
    assert predicted_classes(probabilities, 0.95).tolist() == [0, 0, 0, 0]
    assert predicted_classes(probabilities, None).tolist() == [0, 0, 0, 1]
    three = np.array([[0.2, 0.3, 0.5], [0.4, 0.3, 0.3]], np.float32)
    assert predicted_classes(three, None).tolist() == [2, 0]


def signature_of(classes=("no", "yes"), task="binary"):
    return Signature.of(task, (NumberColumn(name="x"),), classes)


def test_metrics_and_calibration_are_those_of_the_class_that_the_threshold_predicts():
    signature = signature_of().predicting(threshold=0.3)
    outputs = {"probabilities": of_two([0.1, 0.35, 0.45, 0.8])}
    found = PROBLEM.compute_metrics(signature, np.array([0, 1, 0, 1]), outputs, 1)
    assert found.confusion == [[1, 1], [0, 2]]
    assert found.summary["accuracy"] == 0.75
    assert found.summary["roc_auc"] == 0.75  # no threshold changes it
    # The mean of 0.9, 0.35, 0.45 and 0.8, of which three are right.
    assert found.calibration[0]["confidence"] == pytest.approx(0.625)
    assert found.summary["calibration_error"] == pytest.approx(0.125)


def test_a_signature_keeps_its_threshold_and_others_stay_as_they_were(tmp_path):
    without, found = tmp_path / "without.json", tmp_path / "with.json"
    signature_of().write(without)
    signature_of().predicting(threshold=0.2).write(found)
    assert "threshold" not in without.read_text()
    assert json.loads(without.read_text())["schema_version"] == 1
    assert Signature.read(without).threshold is None
    assert json.loads(found.read_text())["schema_version"] == 2
    assert Signature.read(found).threshold == 0.2


@pytest.mark.parametrize(
    "changes",
    [{"threshold": 0.2}, {"schema_version": 2}, {"threshold": 1.0, "schema_version": 2}],
)
def test_a_signature_whose_number_does_not_fit_its_threshold_is_refused(changes):
    with pytest.raises(InputError, match="has no readable signature"):
        Signature.of_document({**signature_of().model_dump(mode="json"), **changes}, "a file")


def test_parity_counts_rows_on_the_other_side_of_the_threshold():
    found = signature_of().predicting(threshold=0.2)
    # Logits of the second class: p 0.2 is a margin of -1.386.
    expected = np.array([[0, -2.0], [0, -1.3], [0, -1.38629], [0, 1.0]], np.float32)
    actual = np.array([[0, -1.0], [0, -1.31], [0, -1.38631], [0, -1.0]], np.float32)
    for signature, flips in (
        (found, [True, False, False, False]),
        (signature_of(), [False, False, False, True]),
    ):
        _, flipped = _compare_batch(
            {"logits": actual}, {"logits": expected}, 1e-4, 1.0, 0.0, _shift(signature)
        )
        assert flipped.tolist() == flips


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("1.5", "1.5 is not allowed; a number between 0 and 1 is expected, or auto"),
        ("0", "0 is not allowed"),
        ("true", "True is not allowed"),
        ("best", "'best' is not allowed"),
    ],
)
def test_another_threshold_is_refused(given, said):
    from tasks import params

    data = params.override(
        {"evaluate": {"gates": {}}}, [f"evaluate.threshold={given}", "prepare.task=classification"]
    )
    with pytest.raises(InputError, match=re.escape(f"evaluate.threshold: {said}")):
        params.validate(data, "params.yaml")


@pytest.mark.parametrize("task", ["regression", "language_model"])
def test_a_threshold_without_classes_is_refused_before_anything_runs(task):
    document = {
        "prepare": {"source": {"kind": "digits"}, "task": task},
        "train": {"architecture": "mlp"},
        "evaluate": {"gates": {}, "threshold": "auto"},
        "registration": {"name": "a"},
    }
    with pytest.raises(ValueError, match=f"auto is for two classes, but the task is {task}"):
        Params.model_validate(document)


def test_three_classes_and_a_threshold_are_refused():
    three = signature_of(("a", "b", "c"), "multiclass")
    with pytest.raises(InputError, match=r"evaluate.threshold: 0.3 is for two classes, and these"):
        decided(Evaluate(gates={}, threshold=0.3), three, lambda: pytest.fail("not needed"))
    assert decided(Evaluate(gates={}), three, lambda: pytest.fail("not needed")) is three


# Everything that predicts, with one model


def rows(number, seed):
    """8 % of the rows are `yes`, which `x` tells apart a little."""
    rng = np.random.default_rng(seed)
    labels = rng.random(number) < 0.08
    x = np.round(rng.normal(size=number) + 2.0 * labels, 3)
    return {"x": x, "z": np.round(rng.normal(size=number), 3), "y": np.where(labels, "yes", "no")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("threshold")
    (root / "data/raw").mkdir(parents=True)
    pq.write_table(pa.table(rows(1500, 1)), root / "data/raw/rare.parquet")
    document = {
        "prepare": {"source": {"kind": "tabular", "path": "data/raw/rare.parquet", "target": "y"}},
        "train": {
            "architecture": "logistic",
            "epochs": 8,
            "device": "cpu",
            "optimizer": {"learning_rate": 0.05},
            "label_smoothing": 0.0,
        },
        "evaluate": {"gates": {"macro_f1": 0.5}, "threshold": "auto", "repeat": 2},
        "registration": {"name": "rare"},
    }
    workspace = Workspace(root)
    for name in ("prepare", "train", "evaluate", "export"):
        STEPS[name].run(Params.model_validate(document), workspace)
    return workspace


@pytest.mark.whole
def test_every_way_to_predict_has_the_classes_that_were_evaluated(trained, tmp_path):
    bundle = trained.bundle
    evaluation = Evaluation.read(bundle / "evaluation.json")
    encoder = Encoder.read(bundle)
    signature, threshold = encoder.signature, encoder.signature.threshold
    assert threshold is not None
    assert threshold < 0.4
    assert evaluation.threshold == threshold
    test = read_split(trained.prepared, "test", encoder)

    # The ONNX file by itself, with the number of the signature.
    session = onnxruntime.InferenceSession(bundle / "model.onnx")
    (probabilities,) = session.run(["probabilities"], test.inputs)
    plain = np.where(probabilities[:, 1] >= np.float32(threshold), "yes", "no").tolist()
    most_probable = np.where(probabilities.argmax(1) == 1, "yes", "no").tolist()
    assert plain.count("yes") > most_probable.count("yes")
    labels = np.array(signature.classes)[test.targets]
    assert evaluation.metrics.confusion == sk.confusion_matrix(labels, plain).tolist()

    # PyTorch, in `evaluate`.
    network, _ = load(trained.checkpoint)
    outputs = run_network(network, signature, test.inputs, 1024)
    in_torch = np.array(signature.classes)[predicted_classes(outputs["probabilities"], threshold)]
    assert in_torch.tolist() == plain
    metrics = json.loads(trained.metrics.read_bytes())
    assert metrics["macro_f1"] == evaluation.metrics.summary["macro_f1"]
    drawn = (trained.plots / "confusion.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1] for line in drawn] == plain

    # Another evaluation, a batch job, and rows in memory.
    (tmp_path / "test.arrow").write_bytes((trained.prepared / "test.arrow").read_bytes())
    paths = [tmp_path / "test.arrow"]
    found = inputs.find(paths, signature)
    again = reevaluate(bundle / "model.onnx", encoder, found, Evaluate(gates={"macro_f1": 0.1}))
    assert again.metrics.confusion == evaluation.metrics.confusion
    assert again.threshold == threshold
    _, table = predict_paths(bundle, paths, tmp_path / "out")
    assert table["prediction"].to_pylist() == plain
    chosen = np.where(np.array(plain) == "yes", probabilities[:, 1], probabilities[:, 0])
    assert table["score"].to_numpy().tolist() == pytest.approx(chosen.tolist(), abs=1e-6)
    predictor = Predictor(files_of(bundle), "cpu")
    frame = pa.table({"x": test.inputs["numbers"][:, 0], "z": test.inputs["numbers"][:, 1]})
    assert predictor.table(frame, "rows").table["prediction"].to_pylist() == plain

    # What drift and the estimate of the accuracy are compared with.
    reference = Reference.of(json.loads((bundle / "profile.json").read_bytes()), signature)
    (classes,) = [c for c in reference.predictions if c.measure.name == "class"]
    assert classes.counts.tolist()[:2] == [plain.count("no"), plain.count("yes")]
    right = int(np.trace(np.array(evaluation.metrics.confusion)))
    assert (reference.calibration.right, reference.calibration.rows) == (right, len(test))

    assert f"'yes' where its probability is {threshold:g} or more" in (
        bundle / "card.md"
    ).read_text("utf-8")


@pytest.mark.whole
def test_a_job_may_have_a_threshold_of_its_own(trained, tmp_path):
    pq.write_table(pa.table(rows(200, 2)).drop(["y"]), tmp_path / "new.parquet")
    given = {"options": Options(threshold=("yes", 0.9), probabilities=True)}
    _, table = predict_paths(trained.bundle, [tmp_path / "new.parquet"], tmp_path / "out", **given)
    expected = np.where(table["probability_yes"].to_numpy() >= np.float32(0.9), "yes", "no")
    assert table["prediction"].to_pylist() == expected.tolist()


@pytest.mark.whole
def test_the_quick_baseline_and_other_seeds_have_thresholds_of_their_own(trained):
    evaluation = Evaluation.read(trained.bundle / "evaluation.json")
    frequent, quick = evaluation.baselines
    assert frequent.metrics["macro_f1"] < 0.5
    assert quick.metrics["macro_f1"] > 0.6
    (repeat,) = evaluation.repeats
    assert repeat.metrics["macro_f1"] > 0.6


@pytest.mark.whole
def test_a_number_is_the_threshold_and_half_gives_the_bundle_of_before(trained, tmp_path):
    def bundle(name, evaluation):
        given = {"checkpoint": trained.checkpoint, "base": trained.base}
        place = {"bundle": tmp_path / name, "repeats": tmp_path / "repeats"}
        params = Params.model_fields["export"].default
        export(params, evaluation, prepared=trained.prepared, **given, **place)
        return tmp_path / name

    plain = Evaluate(gates={"macro_f1": 0.1}, baseline=False)
    half = bundle("half", plain)
    assert "threshold" not in json.loads((half / "signature.json").read_bytes())
    assert "threshold" not in json.loads((half / "evaluation.json").read_bytes())
    assert (half / "signature.json").read_bytes() == (
        trained.checkpoint / "signature.json"
    ).read_bytes()
    own = bundle("own", plain.model_copy(update={"threshold": 0.07}))
    assert Signature.read(own / "signature.json").threshold == 0.07
    assert (own / "model.onnx").read_bytes() == (half / "model.onnx").read_bytes()
    found = [Evaluation.read(folder / "evaluation.json").metrics for folder in (half, own)]
    assert found[0].summary["roc_auc"] == found[1].summary["roc_auc"]
    assert found[0].summary["macro_recall"] < found[1].summary["macro_recall"]


def test_new_proposes_a_threshold_if_one_of_two_classes_is_rare(tmp_path):
    for name, yes, kinds, expected in (
        ("rare", 20, 2, "auto"),
        ("even", 40, 2, 0.5),
        ("three", 20, 3, 0.5),
    ):
        labels = ["yes"] * yes + ["no"] * (80 if kinds == 2 else 60) + ["maybe"] * 20 * (kinds - 2)
        found = {"x": np.arange(len(labels)) * 0.5, "target": labels}
        pq.write_table(pa.table(found), tmp_path / f"{name}.parquet")
        proposal = propose(tmp_path, f"{name}.parquet")
        assert proposal.params.evaluate.threshold == expected
        said = any("evaluate.threshold: auto" in line for line in proposal.assumptions)
        assert said == (expected == "auto")
