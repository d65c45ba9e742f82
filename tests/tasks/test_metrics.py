"""Metrics compared with scikit-learn and with hand-computed values; gates."""

import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from tasks.bundle.evaluation import check_gates
from tasks.bundle.signature import Signature
from tasks.columns import NumberColumn, TextColumn
from tasks.problems import PROBLEMS


def score(labels, probabilities, classes, bins):
    signature = Signature.of("multiclass", (NumberColumn(name="x"),), classes)
    outputs = {"probabilities": probabilities}
    return PROBLEMS["classification"].compute_metrics(signature, labels, outputs, bins)


def score_numbers(targets, predictions):
    signature = Signature.of("regression", (NumberColumn(name="x"),), ())
    outputs = {"prediction": predictions}
    return PROBLEMS["regression"].compute_metrics(signature, targets, outputs, 15)


def score_text(log_likelihood, scored):
    text = TextColumn(name="t", vocabulary=9, max_length=9)
    signature = Signature.of("language_model", (text,), ())
    outputs = {"log_likelihood": log_likelihood, "scored": scored}
    return PROBLEMS["language_model"].compute_metrics(signature, scored, outputs, 15)


def sample(classes, rows=200):
    """Labels, and probabilities of a classifier that is right in most rows."""
    chance = np.random.default_rng(classes)
    labels = np.concatenate([np.arange(classes), chance.integers(0, classes, rows - classes)])
    logits = chance.normal(0, 1, (rows, classes)) + 1.2 * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, probabilities.astype(np.float32)


def score_sample(classes, bins=15):
    names = tuple(f"c{i}" for i in range(classes))
    return score(*sample(classes), names, bins)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_summary_matches_scikit_learn(classes):
    labels, probabilities = sample(classes)
    predicted = probabilities.argmax(1)
    summary = score_sample(classes).summary
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
    }
    for average in ("macro", "weighted"):
        expected[f"{average}_precision"] = sk.precision_score(labels, predicted, average=average)
        expected[f"{average}_recall"] = sk.recall_score(labels, predicted, average=average)
        expected[f"{average}_f1"] = sk.f1_score(labels, predicted, average=average)
    for name, value in expected.items():
        assert summary[name] == pytest.approx(value, abs=1e-12), name
    picked = probabilities[np.arange(len(labels)), labels].astype(float)
    assert summary["log_loss"] == pytest.approx(-np.log(picked).mean(), abs=1e-6)
    curves = {"roc_auc", "average_precision"} if classes == 2 else set()
    assert summary.keys() == {*expected, *curves, "log_loss", "calibration_error"}


# Two classes; rows: three true positives, one false negative, two false positives, two true
# negatives, class "yes" being the positive one.
YES_LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0])
YES = np.array([0.9, 0.9, 0.8, 0.4, 0.7, 0.6, 0.2, 0.1], np.float32)


def score_yes(bins=10):
    return score(YES_LABELS, np.stack([1 - YES, YES], axis=1), ("no", "yes"), bins)


def test_metrics_match_hand_computed_values():
    done = score_yes()
    assert done.rows == 8
    assert done.confusion == [[2, 2], [1, 3]]  # actual in rows, predicted in columns
    yes, no = done.per_class["yes"], done.per_class["no"]
    assert (yes["precision"], yes["recall"], yes["support"]) == (3 / 5, 3 / 4, 4)
    assert (no["precision"], no["recall"], no["support"]) == (2 / 3, 2 / 4, 4)
    assert yes["f1"] == pytest.approx(2 / 3)
    assert no["f1"] == pytest.approx(4 / 7)
    assert done.summary["accuracy"] == 5 / 8
    assert done.summary["balanced_accuracy"] == (3 / 4 + 2 / 4) / 2
    assert done.summary["macro_f1"] == pytest.approx((2 / 3 + 4 / 7) / 2)


def test_calibration_error_matches_a_hand_computed_value():
    # Confidences 0.9 0.9 0.8 0.6 0.7 0.6 0.8 0.9; right: 1 1 1 0 0 0 1 1. Two bins of which one
    # is empty, as the predicted class of two never has less than half.
    done = score_yes(bins=2)
    assert done.calibration == [
        {"confidence": pytest.approx(6.2 / 8), "accuracy": 5 / 8, "rows": 8}
    ]
    assert done.summary["calibration_error"] == pytest.approx(abs(5 / 8 - 6.2 / 8))
    # Four bins: [0.5, 0.75) has 0.6 0.7 0.6, none right; [0.75, 1] has the other five, all right.
    done = score_yes(bins=4)
    assert [(b["accuracy"], b["rows"]) for b in done.calibration] == [(0, 3), (1, 5)]
    by_hand = 3 / 8 * abs(0 - 1.9 / 3) + 5 / 8 * abs(1 - 4.3 / 5)
    assert done.summary["calibration_error"] == pytest.approx(by_hand)


def test_a_confidence_of_1_is_in_the_last_calibration_bin():
    probabilities = np.array([[1, 0], [0.04, 0.96]], np.float32)
    done = score(np.array([0, 1]), probabilities, ("a", "b"), 15)
    assert done.calibration == [{"confidence": pytest.approx(0.98), "accuracy": 1.0, "rows": 2}]
    assert done.summary["calibration_error"] == pytest.approx(0.02)
    assert done.summary["log_loss"] == pytest.approx(-np.log(0.96) / 2, rel=1e-5)


def test_a_class_that_is_never_predicted_has_f1_0_without_a_warning():
    labels, probabilities = np.array([0, 1, 2]), np.eye(3, dtype=np.float32)[[0, 0, 0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = score(labels, probabilities, ("a", "b", "c"), 15)
    assert done.per_class["c"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert done.summary["macro_recall"] == pytest.approx(1 / 3)
    assert done.confusion == [[1, 0, 0], [1, 0, 0], [1, 0, 0]]


def test_metrics_can_be_written_as_json():
    import json

    document = score_sample(3).as_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document


SUMMARY = {"accuracy": 0.9, "macro_f1": 0.8, "log_loss": 0.3, "calibration_error": 0.02}


@pytest.mark.parametrize(
    ("gate", "threshold", "passed"),
    [
        ("accuracy", 0.89, True),
        ("accuracy", 0.9, True),
        ("accuracy", 0.91, False),
        ("log_loss", 0.31, True),
        ("log_loss", 0.3, True),
        ("log_loss", 0.29, False),
        ("calibration_error", 0.03, True),
        ("calibration_error", 0.01, False),
    ],
)
def test_a_gate_passes_at_its_bound_or_better(gate, threshold, passed):
    (verdict,) = check_gates({gate: threshold}, SUMMARY)
    assert verdict.passed is passed
    assert (verdict.gate, verdict.value) == (gate, SUMMARY[gate])


def test_each_gate_passes_or_fails_separately():
    verdicts = check_gates({"accuracy": 0.95, "macro_f1": 0.5, "log_loss": 1}, SUMMARY)
    assert [(v.gate, v.passed) for v in verdicts] == [
        ("accuracy", False),
        ("macro_f1", True),
        ("log_loss", True),
    ]


def test_check_gates_fails_without_gates():
    (verdict,) = check_gates({}, SUMMARY)
    assert not verdict.passed
    assert "at least one in evaluate.gates" in str(verdict)


@pytest.mark.parametrize("gate", ["accuracy", "log_loss"])
@pytest.mark.parametrize("summary", [{"accuracy": math.nan, "log_loss": math.nan}, {}])
def test_a_gate_fails_if_its_metric_is_missing_or_nan(gate, summary):
    (verdict,) = check_gates({gate: 0.5}, summary)
    assert not verdict.passed
    assert verdict.value is None
    assert "not measured" in str(verdict)


def test_gates_as_text():
    passed, refused = check_gates({"accuracy": 0.85, "log_loss": 0.2}, SUMMARY)
    assert str(passed) == "accuracy 0.9000 >= 0.85: passed"
    assert str(refused) == "log_loss 0.3000 <= 0.2: REFUSED"


def test_binary_metrics_include_roc_auc_and_average_precision():
    labels = np.array([0, 0, 1, 1])
    positive = np.array([0.1, 0.4, 0.35, 0.8], np.float32)
    done = score(labels, np.stack([1 - positive, positive], 1), ("no", "yes"), 5)
    assert done.summary["roc_auc"] == pytest.approx(0.75)
    assert done.summary["average_precision"] == pytest.approx(0.8333, abs=1e-4)
    assert "roc_auc" not in score_sample(3).summary


def test_regression_metrics_match_hand_computed_values():
    done = score_numbers(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0, 6.0]))
    assert done.summary == pytest.approx({"r2": 0.2, "mae": 0.5, "rmse": 1.0, "mse": 1.0})
    assert done.headline[0] == "r2"


def test_perplexity_weights_all_tokens_equally():
    # One token of probability 1/2, three of 1/8: exp(mean of -log p) over four tokens.
    likelihood = np.log(np.array([1 / 2, 1 / 512], np.float32))
    done = score_text(likelihood, np.array([1, 3]))
    assert done.summary["perplexity"] == pytest.approx(2 ** ((1 + 9) / 4), rel=1e-6)


def test_an_overflowing_perplexity_fails_its_gate():
    done = score_text(np.array([-1e30], np.float32), np.array([1]))
    (verdict,) = check_gates({"perplexity": 100.0}, done.summary)
    assert not verdict.passed
