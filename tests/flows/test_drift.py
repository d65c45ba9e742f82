"""The drift of jobs, as the registry, the commands and Prefect have it."""

import json
import re
import time
from dataclasses import replace
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clusters import ROOT
from drift_helpers import Trained, register
from projects import Project

from flows.job import run_job
from registry import Registry
from registry.integrity import verify
from tasks import inputs
from tasks.bundle.signature import Signature
from tasks.drift.record import EARLIER, record_of
from tasks.drift.report import DriftReport
from tasks.predict import How

ROWS = 500
UI = "http://registry.example:5600"
FLOW = """
from flows.inference import inference

state = inference(model='tiny:1', inputs=['in.parquet'], return_state=True)
print(state.name, state.state_details.flow_run_id)
"""


def rows(seed, mean=0.0, number=ROWS):
    rng = np.random.default_rng(seed)
    # The hand-made model predicts by column a alone.
    return {"a": rng.normal(mean, 1, number), "b": rng.integers(0, 50, number)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The files of a model, by name, whose predictions of the test split are not known."""
    place = tmp_path_factory.mktemp("model")
    labels = {"y": np.array(["no", "yes"])[np.arange(4_000) % 2]}
    trained = Trained(place, rows(0, number=4_000) | labels)
    made = trained.bundle(place / "bundle")
    profile = json.loads((made / "profile.json").read_bytes())
    del profile["drift"]["predictions"]  # `bundle` makes them up
    (made / "profile.json").write_text(json.dumps(profile))
    return {path.name: path for path in made.iterdir()}


@pytest.fixture
def registry(bundle, tmp_path):
    with Registry(f"sqlite:///{tmp_path}/registry.db", tmp_path / "artifacts") as made:
        made.create()
        register(made, bundle, tmp_path / "candidate")
        yield made


@pytest.fixture
def run(registry, bundle, tmp_path):
    """Predicts a table; returns the job as the registry has it, and what the command reports."""

    def run(name, table):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table(table), path)
        files = inputs.find([path], Signature.read(bundle["signature.json"]))
        resolved = registry.resolve("tiny:1")
        report = run_job(registry, resolved, files, tmp_path / "out" / name, how=How("cpu"))
        return registry.job(report.job), report

    return run


def test_a_job_is_compared_with_the_training_and_with_the_jobs_before(registry, run, tmp_path):
    first, report = run("first", rows(1))
    assert (first.drift["verdict"], first.drift["earlier"]) == ("none", None)
    assert report.remarks == []
    for number in (2, 3):
        run(f"shifted {number}", rows(number, mean=1))
    fourth, report = run("fourth", rows(4, mean=1))
    assert fourth.drift["verdict"] == "drifted"
    assert [part["name"] for part in fourth.drift["most"] if part["verdict"] == "drifted"] == ["a"]
    earlier = fourth.drift["earlier"]
    assert (earlier["jobs"], earlier["rows"], earlier["moved"]) == (3, 3 * ROWS, 1)
    text = "\n".join(report.remarks)
    assert "drift: drifted: a PSI" in text
    assert "drift against the last 3 jobs with 1,500 rows: " in text
    assert report.drift.items() <= fourth.drift.items()
    assert verify(registry).problems == []


def test_what_is_recorded_of_a_job_has_the_counters_of_its_report(run, tmp_path):
    job, _ = run("in", rows(1, mean=0.5))
    report = DriftReport.read(tmp_path / "out/in/drift.json")
    counts = {
        part.name: {measure.name: measure.now for measure in part.measures}
        for part in report.columns
    }
    assert job.drift["counts"]["columns"] == counts
    assert sum(counts["a"]["value"]) == job.drift["rows"] == ROWS
    (shown, *_) = job.drift["most"]
    assert shown["measures"][0]["now"] == counts["a"]["value"]
    assert sum(shown["measures"][0]["then"]) > 2_000


def test_the_same_rows_predicted_again_are_no_earlier_job(run, tmp_path):
    run("once", rows(1))
    again, _ = run("once more", rows(1))
    assert again.drift["earlier"] is None
    other, _ = run("others", rows(2))
    assert other.drift["earlier"]["jobs"] == 1  # the two that had the same rows are one sample


def test_records_that_cannot_be_compared_are_left_out(run, tmp_path):
    job, _ = run("in", rows(1))
    report = DriftReport.read(tmp_path / "out/in/drift.json")
    short = job.drift | {"counts": {"columns": {"a": {"value": [1]}}, "predictions": None}}
    odd = [
        {},
        job.drift | {"format": 99},
        job.drift | {"layout": "of another model"},
        job.drift | {"counts": {"columns": [], "predictions": None}},
        job.drift | {"rows": "many"},
        short,
    ]
    assert record_of(report, odd)["earlier"] is None
    many = [*odd, *[job.drift] * (EARLIER + 5)]
    found = record_of(report, many)["earlier"]
    assert (found["jobs"], found["verdict"]) == (EARLIER, "none")
    without = replace(report, columns=[], predictions=None)
    assert record_of(without, many)["earlier"] is None


def test_a_wide_table_is_recorded_with_the_columns_that_moved_most(run, tmp_path):
    run("in", rows(1, mean=0.3))
    report = DriftReport.read(tmp_path / "out/in/drift.json")
    (part,) = (part for part in report.columns if part.name == "a")
    moved = [replace(part, name=f"a{number}") for number in range(40)]
    record = record_of(replace(report, columns=moved), [])
    assert [part["name"] for part in record["most"]] == [f"a{number}" for number in range(10)]
    assert len(record["counts"]["columns"]) == 40


@pytest.fixture(scope="module")
def project(bundle, tmp_path_factory, prefect_server):
    root = tmp_path_factory.mktemp("project")
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "prefect.yaml").write_text("deployments: []\n")
    with Registry(f"sqlite:///{root / 'modelmint.db'}", root / "artifacts") as registry:
        register(registry, bundle, root / "candidate")
    given = {"PREFECT_API_URL": prefect_server, "PYTHONPATH": str(ROOT), "MODELMINT_UI_URL": UI}
    return Project(root, given)


def run_flow(project, table):
    pq.write_table(pa.table(table), project.root / "in.parquet")
    name, run = project.python(FLOW).stdout.split()[-2:]
    assert name == "Completed"
    return UUID(run)


def artifacts(api, run):
    from prefect.client.schemas.filters import ArtifactFilter

    of_run = ArtifactFilter(flow_run_id={"any_": [run]}, key={"any_": ["tiny-drift"]})
    found = api.read_artifacts(artifact_filter=of_run)
    for artifact in found:  # both link to the page of the registry
        assert f"[tiny:1]({UI}/models/tiny/versions/1)" in artifact.description
        assert re.search(rf"job \[(.+)\]\({UI}/jobs/\1\)", artifact.data)
    return [artifact.data for artifact in found]


def events(api, run):
    """The events of modelmint that are related to a flow run, once the server has stored them."""
    asked = {
        "filter": {
            "event": {"prefix": ["modelmint."]},
            "related": {"id": [f"prefect.flow-run.{run}"]},
        }
    }
    return api._client.post("/events/filter", json=asked).json()["events"]


def test_the_flow_shows_drift_in_an_artifact_and_sends_an_event(project, api):
    usual = run_flow(project, rows(1))
    (text,) = artifacts(api, usual)
    assert "drift: none" in text
    run = run_flow(project, rows(2, mean=1))
    (text,) = artifacts(api, run)
    assert "drift: drifted: a PSI" in text
    assert "| a | drifted | value |" in text
    deadline = time.monotonic() + 60
    while not (found := events(api, run)) and time.monotonic() < deadline:
        time.sleep(0.5)
    (event,) = found
    assert event["event"] == "modelmint.job.drifted"
    assert event["resource"]["prefect.resource.id"] == "modelmint.model.tiny"
    assert event["payload"]["drift"]["columns"][0].startswith("a PSI")
    assert events(api, usual) == []
    assert artifacts(api, run_flow(project, rows(2, mean=1))) == []  # predicted before


GONE = """
from pathlib import Path
import prefect
from flows import drift_shown
from flows.job import JobReport

@prefect.flow
def moved():
    given = {name: "" for name in JobReport.__dataclass_fields__}
    folder = Path("nowhere/predictions")
    drift_shown.show_drift(JobReport(**{**given, "model": "tiny:1", "output": str(folder),
        "drift": {"verdict": "drifted"}, "fresh": False}))

print(moved(return_state=True).name)
"""


def test_a_report_of_drift_that_was_moved_does_not_fail_the_run(project):
    assert project.python(GONE).stdout.split()[-1] == "Completed"


def test_the_commands_say_the_verdict_of_a_job(project):
    pq.write_table(pa.table(rows(3, mean=1)), project.root / "in.parquet")
    why = "InputError: " + "a sentence that no column of a table can hold " * 4 + "(end)"
    with Registry(
        f"sqlite:///{project.root / 'modelmint.db'}", project.root / "artifacts"
    ) as known:
        output = str(project.root / "predictions/bad")
        failed = known.start_job(known.resolve("tiny:1"), input_sha256="7" * 64, output=output)
        known.fail_job(failed, why)
    project.modelmint("predict", "tiny:1", "in.parquet", "--output", "by-command")
    for command in (["jobs", "tiny"], ["trace", "tiny:1"]):
        said = project.modelmint("models", *command)
        assert "drifted: a PSI" in " ".join((said.stdout + said.stderr).split())
    said = project.modelmint("models", "jobs", "tiny").stderr.splitlines()
    assert any(line.endswith("failed: " + why) for line in said)
    (line,) = (line for line in said if " failed " in line and "predictions/bad" in line)
    assert line.split()[2:4] == ["tiny:1", "failed"]
    status = project.modelmint("status", "--json", status=1)
    (line,) = [line for line in json.loads(status.stdout) if line["section"] == "drift"]
    assert line["attention"] is True
    assert line["text"].startswith("drifted: a PSI")
