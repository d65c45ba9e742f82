"""Drift of whole batch jobs: the same counters however a job was carried out."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from drift_helpers import Trained, moved, predicted
from forks import python_code

from tasks.drift.reference import OLDER
from tasks.drift.report import DRIFT, DriftReport, sentence
from tasks.errors import InputError
from tasks.predict import How
from tasks.serving import folder, plan
from tasks.serving.manifest import completed
from tasks.serving.options import BadLimit, Options

OLD = Path(__file__).parents[1] / "data/release_0_1"
ROWS, SHARD, BAD = 4_000, 500, 40
KILLED = """
import os, signal, sys
from pathlib import Path
from drift_helpers import predicted
from tasks.predict import How
from tasks.serving import folder, plan
from tasks.serving.options import BadLimit

plan.ROWS, plan.CHUNK_ROWS = {shard}, 97
original, calls = folder.JobFolder.record, iter(range(1, 100))


def record(*given):
    original(*given)
    if next(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)


folder.JobFolder.record = record
bundle, source, output = map(Path, sys.argv[1:])
predicted(bundle, source, output, how=How("cpu", workers=2, limit=BadLimit.parse("100%")))
"""


def table(rng, rows):
    return {
        "a": rng.normal(size=rows),
        "b": rng.integers(0, 50, rows),
        "c": rng.choice(["red", "green", "blue"], rows),
    }


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    rng, place = np.random.default_rng(1), tmp_path_factory.mktemp("model")
    labels = {"y": np.array(["no", "yes"])[np.arange(2_000) % 2]}
    return Trained(place, table(rng, 2_000) | labels).bundle(place / "bundle")


@pytest.fixture(scope="module", params=["parquet", "csv"])
def source(request, tmp_path_factory):
    """Rows, some of which cannot be predicted."""
    rng = np.random.default_rng(2)
    columns = table(rng, ROWS)
    columns["a"][rng.choice(ROWS, BAD, replace=False)] = np.inf
    path = tmp_path_factory.mktemp("input") / f"in.{request.param}"
    if request.param == "csv":
        pa.csv.write_csv(pa.table(columns), path)
    else:
        pq.write_table(pa.table(columns), path, row_group_size=900)
    return path


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(plan, "ROWS", SHARD)
    monkeypatch.setattr(plan, "CHUNK_ROWS", 97)


def job(bundle, source, output, workers=1, **options):
    how = How("cpu", workers=workers, limit=BadLimit.parse("100%"))
    return predicted(bundle, source, output, how=how, **options)


@pytest.mark.whole
def test_any_number_of_workers_and_a_kill_give_the_same_counters(bundle, source, small, tmp_path):
    report, found = job(bundle, source, tmp_path / "one")
    assert len(report.shards) > 3
    assert found.rows == ROWS - BAD
    for part in found.columns:
        assert {sum(measure.now) for measure in part.measures} == {ROWS - BAD}
    job(bundle, source, tmp_path / "four", workers=4)
    killed = subprocess.run(
        python_code(KILLED.format(shard=SHARD), str(bundle), str(source), str(tmp_path / "killed")),
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / DRIFT).exists()
    recorded = len(list(tmp_path.glob("killed/.unfinished/*/shards/*.json")))
    assert 3 <= recorded < len(report.shards)
    job(bundle, source, tmp_path / "killed", workers=4)
    expected = (tmp_path / "one" / DRIFT).read_bytes()
    assert (tmp_path / "four" / DRIFT).read_bytes() == expected
    assert (tmp_path / "killed" / DRIFT).read_bytes() == expected


def test_the_manifest_has_the_verdict_and_the_hash_of_the_report(bundle, source, tmp_path):
    report, found = job(bundle, source, tmp_path / "out")
    assert report.drift["summary"] == found.summary()
    done = completed(tmp_path / "out")
    assert done is not None
    assert done.drift == report.drift
    path = tmp_path / "out" / DRIFT
    path.write_text(path.read_text().replace('"verdict":"drifted"', '"verdict":"none"') + " ")
    with pytest.raises(InputError, match=r"drift.json is not what its manifest describes"):
        completed(tmp_path / "out")


def test_a_threshold_is_no_drift_of_the_predicted_classes(bundle, source, tmp_path):
    _, plain = job(bundle, source, tmp_path / "plain")
    options = Options(threshold=("yes", 0.9))
    _, strict = job(bundle, source, tmp_path / "strict", options=options)
    written = [
        pq.read_table(tmp_path / name / "predictions")["prediction"] for name in ("plain", "strict")
    ]
    assert written[0] != written[1]
    assert plain.predictions == strict.predictions
    assert moved(plain)["predictions"] == {"confidence"}  # `bundle` made it up


def test_a_model_of_an_older_release_predicts_without_a_verdict(tmp_path):
    report, found = predicted(OLD / "bundle", OLD / "homes.csv", tmp_path / "out")
    assert (report.predicted, found.verdict, found.reason) == (4, None, OLDER)
    assert set(found.not_compared.values()) == {OLDER}
    assert sentence(report.drift["summary"]) == f"not judged: {OLDER}"


def test_a_bundle_without_a_profile_predicts_without_a_verdict(bundle, source, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    (copy / "profile.json").unlink()
    _, found = job(copy, source, tmp_path / "out")
    assert (found.verdict, found.reason) == (None, OLDER)


def test_shards_that_an_older_release_predicted_leave_the_job_without_a_verdict(
    bundle, source, small, tmp_path, monkeypatch
):
    def interrupted(*_given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folder.JobFolder, "publish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            job(bundle, source, tmp_path / "out")
    record = next(tmp_path.glob("out/.unfinished/*/shards/00001.json"))
    document = json.loads(record.read_bytes())
    assert sum(document.pop("counters")) > 0
    record.write_text(json.dumps(document))
    report, found = job(bundle, source, tmp_path / "out")
    assert report.rows == ROWS
    assert found.verdict is None
    assert "an older release predicted some of the rows" in str(found.reason)


def test_an_exported_bundle_knows_its_predictions_of_the_test_split(exported):
    place = exported("mlp", "float32") / "bundle"
    known = json.loads((place / "profile.json").read_bytes())["drift"]["predictions"]
    evaluation = json.loads((place / "evaluation.json").read_bytes())
    rows = evaluation["test_split"]["rows"]
    assert [sum(known[name]["counts"]) for name in ("class", "confidence")] == [rows, rows]
    confusion = np.array(evaluation["metrics"]["confusion"])
    assert known["class"]["counts"] == [*confusion.sum(axis=0).tolist(), 0]


def test_a_damaged_report_is_named(tmp_path):
    (tmp_path / DRIFT).write_text("[]")
    with pytest.raises(InputError, match=r"drift.json is no report of drift"):
        DriftReport.read(tmp_path / DRIFT)
