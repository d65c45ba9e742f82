"""The accuracy of a job, estimated without labels, beside the true one."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drift_helpers import Trained, predicted
from sklearn.datasets import load_digits, make_classification
from sklearn.neural_network import MLPClassifier

from tasks.drift.estimate import BINS, Calibration
from tasks.serving.options import Options


def digits():
    rows, labels = load_digits(return_X_y=True)
    return rows / 16, labels


def made():
    return make_classification(
        20_000, 20, n_informative=8, n_classes=3, flip_y=0.1, class_sep=0.8, random_state=1
    )


def waves():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(20_000, 5))
    chance = 1 / (1 + np.exp(-2 * np.sin(2 * rows[:, 0]) - rows[:, 1] * rows[:, 2]))
    return rows, (rng.random(20_000) < chance).astype(int)


def split(data):
    """Of a network: the calibration, and the probability and truth of rows it has not seen."""
    rows, labels = data
    order = np.random.default_rng(0).permutation(len(rows))
    rows, labels = rows[order], labels[order]
    a, b = int(0.4 * len(rows)), int(0.6 * len(rows))
    model = MLPClassifier((32,), max_iter=30, random_state=0).fit(rows[:a], labels[:a])

    def predict(rows, labels):
        found = model.predict_proba(rows).astype(np.float32)
        return found.max(axis=1), model.classes_[found.argmax(axis=1)] == labels

    probabilities, right = predict(rows[b:], labels[b:])
    return Calibration.fit(*predict(rows[a:b], labels[a:b])), rows[b:], probabilities, right


def count(probabilities):
    return BINS.count(probabilities, None)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("data", [digits, made, waves])
def test_under_covariate_shift_the_estimate_is_near_the_truth_and_its_interval_contains_it(data):
    """One kind of rows becomes more frequent, by up to a factor of 20, in 100 jobs."""
    calibration, rows, probabilities, right = split(data())
    rng = np.random.default_rng(1)
    distance = np.abs(rows - rows.mean(axis=0)).mean(axis=1)
    distance = (distance - distance.mean()) / distance.std()
    inside, errors = 0, []
    for _ in range(100):
        weights = np.exp(rng.uniform(-1, 1) * np.clip(distance, -3, 3))
        chosen = rng.choice(len(rows), 2_000, p=weights / weights.sum())
        found = calibration.estimate(count(probabilities[chosen]), None)
        truth = right[chosen].mean()
        inside += found.low <= truth <= found.high
        errors.append(found.accuracy - truth)
    assert abs(np.mean(errors)) < 0.02
    assert np.quantile(np.abs(errors), 0.9) < 0.03
    assert inside >= 90


def test_a_calibrated_model_is_as_accurate_as_it_says():
    rng = np.random.default_rng(0)
    said = rng.uniform(0.5, 1, 50_000).astype(np.float32)
    calibration = Calibration.fit(said, rng.random(50_000) < said)
    assert calibration.curve == pytest.approx((1, 0), abs=0.1)
    for low in (0.5, 0.7, 0.95):
        job = rng.uniform(low, 1, 20_000).astype(np.float32)
        found = calibration.estimate(count(job), None)
        assert found.accuracy == pytest.approx((low + 1) / 2, abs=0.01)
        assert found.low < found.accuracy < found.high


def test_an_overconfident_model_is_corrected():
    rng = np.random.default_rng(0)
    said = rng.uniform(0.9, 0.999, 20_000).astype(np.float32)
    calibration = Calibration.fit(said, rng.random(20_000) < 0.75)
    found = calibration.estimate(count(said), None)
    assert found.accuracy == pytest.approx(0.75, abs=0.01)
    assert found.measured == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_test_split_without_a_wrong_or_without_a_right_prediction_gives_an_estimate(share):
    said = np.full(300, 0.99, np.float32)
    calibration = Calibration.fit(said, np.full(300, bool(share)))
    found = calibration.estimate(count(said), None)
    assert found.accuracy == pytest.approx(share, abs=0.03)
    # Less probable predictions are not as good as those seen.
    doubtful = calibration.estimate(count(np.full(300, 0.5, np.float32)), None)
    assert doubtful.accuracy < found.accuracy or not share
    assert 0 <= doubtful.low <= doubtful.accuracy <= doubtful.high <= 1


def test_certain_and_hopeless_probabilities_and_an_empty_job_are_no_error():
    ends = np.array([0, 1e-30, 1, 1 - 1e-8], np.float32)
    calibration = Calibration.fit(ends, np.array([False, False, True, True]))
    found = calibration.estimate(count(ends), None)
    assert np.isfinite([found.low, found.accuracy, found.high]).all()
    assert calibration.estimate(count(ends[:0]), None) is None
    assert Calibration.of(json.loads(json.dumps(calibration.as_dict()))) == calibration


def table(rows):
    rng = np.random.default_rng(5)
    values = rng.normal(size=rows)
    labels = np.where(values + rng.normal(0, 0.5, rows) > 0, "yes", "no")
    return {"x": values, "z": rng.normal(size=rows), "y": labels}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("estimate")
    trained = Trained(folder / "trained", table(3_000))
    return trained.bundle(folder / "bundle", right=300)


def test_a_job_has_an_estimate_in_drift_json_and_in_its_manifest(bundle, tmp_path):
    pq.write_table(pa.table(table(1_000)).drop(["y"]), tmp_path / "new.parquet")
    report, drift = predicted(bundle, tmp_path / "new.parquet", tmp_path / "out")
    assert drift.accuracy.measured == 0.6
    assert drift.accuracy.low < drift.accuracy.accuracy < drift.accuracy.high
    shown = report.drift["summary"]["accuracy"]
    assert shown["accuracy"] == drift.accuracy.accuracy
    assert shown["text"].startswith("estimated accuracy 0.")
    again, other = predicted(
        bundle,
        tmp_path / "new.parquet",
        tmp_path / "again",
        options=Options(threshold=("yes", 0.7)),
    )
    assert other.accuracy is None
    assert "threshold" in other.no_accuracy
    assert again.drift["summary"]["accuracy"] is None


def test_a_model_of_an_older_release_has_no_estimate_and_says_why(bundle, tmp_path):
    pq.write_table(pa.table(table(300)).drop(["y"]), tmp_path / "new.parquet")
    older = tmp_path / "older"
    older.mkdir()
    for path in bundle.iterdir():
        (older / path.name).write_bytes(path.read_bytes())
    profile = json.loads((older / "profile.json").read_bytes())
    del profile["drift"]["accuracy"]
    (older / "profile.json").write_text(json.dumps(profile))
    _, drift = predicted(older, tmp_path / "new.parquet", tmp_path / "out")
    assert (drift.accuracy, drift.no_accuracy) == (
        None,
        "the model was trained by an older release",
    )
    assert drift.verdict is not None


def test_other_shares_of_the_classes_are_named_as_what_the_estimate_cannot_know(bundle, tmp_path):
    """The test rows of this model are all of one class, and those of the job are not."""
    rows = table(5_000)
    rows["x"] = rows["x"] - 3
    pq.write_table(pa.table(rows).drop(["y"]), tmp_path / "new.parquet")
    _, drift = predicted(bundle, tmp_path / "new.parquet", tmp_path / "out")
    assert {m.name: m.verdict for m in drift.predictions.measures}["class"] == "drifted"
    assert "unknown without labels: the predicted classes have other shares" in str(drift.accuracy)
