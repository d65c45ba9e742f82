"""`modelmint status` with a real Prefect server and a real registry."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from prefect.states import Completed, Failed, Pending, Running, Scheduled
from projects import ROOT, enter
from registry_helpers import drift_document, make_candidate, promote, with_champion
from servers import dying_server
from typer.testing import CliRunner

from cli.main import app
from flows import overview
from flows.deploy import deployed_names, read_deployments
from flows.project import new_project
from flows.settings import Settings


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return new_project(tmp_path_factory.mktemp("status") / "project", None).root


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    enter(made, tmp_path, monkeypatch)
    return made


@pytest.fixture
def hourly(api, project):
    """The deployment `hourly` of the project, on a real server, as if it were served."""
    (given,) = [d for d in read_deployments(project / "prefect.yaml") if "hourly" in d.name]
    number = given.apply()
    found = api.read_deployment(number)
    found.last_polled = datetime.now(UTC)
    yield found
    api.delete_deployment(number)


def start(api, deployment, *states):
    run = api.create_flow_run_from_deployment(deployment.id)
    for state in (Pending(), Running(), *states):
        api.set_flow_run_state(run.id, state, force=True)
    return api.read_flow_run(run.id)


def models():
    return list(overview._models(Settings.from_environment()))


def test_status_without_a_server_says_that_no_schedule_runs(project, tmp_path, monkeypatch):
    monkeypatch.setattr(overview, "find_api", lambda: None)  # another test's server may run
    done = CliRunner().invoke(app, ["status", "--json"])
    assert done.stdout, done.stderr
    lines = json.loads(done.stdout)
    assert done.exit_code == 1
    (server,) = [line for line in lines if line["section"] == "server"]
    assert server["attention"] is True
    assert "`modelmint serve`" in server["text"]
    (model,) = [line for line in lines if line["section"] == "model"]
    assert model["text"] == "none was registered yet: `modelmint train`"
    assert not (tmp_path / "registry.db").exists()


def test_status_names_a_server_that_dies_meanwhile(project):
    """In a process of its own: Prefect reads its settings once."""
    code = "import sys; from cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "status", "--json"]
    with dying_server() as url:
        # Without retries, which take half a minute.
        variables = {"PREFECT_API_URL": url, "PREFECT_CLIENT_MAX_RETRIES": "0", "PYTHONPATH": ROOT}
        environment = os.environ | {name: str(value) for name, value in variables.items()}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=project)
    assert done.returncode == 1, done.stderr
    assert done.stdout, done.stderr
    lines = json.loads(done.stdout)
    server = [line for line in lines if line["section"] == "server"][-1]
    assert "stopped answering" in server["text"]
    assert server["attention"] is True
    assert any(line["section"] == "disk" for line in lines)


def test_deployed_names_are_those_that_serve_gives(project):
    path = project / "prefect.yaml"
    assert deployed_names(path) == [deployment.name for deployment in read_deployments(path)]


def test_status_names_deployments_that_were_never_served(api, project, hourly):
    lines = list(overview._deployments(api, Settings.from_environment(), ["never", hourly.name]))
    found = {line.name: line for line in lines if line.section == "schedule"}
    assert found["never"].attention is True
    assert found[hourly.name].attention is True  # the server has not seen a runner poll for it
    assert "nobody serves it" in found[hourly.name].text


def test_status_says_when_a_schedule_runs_next_and_which_runs_are_late(api, hourly):
    for run in overview._runs(api, hourly, ["SCHEDULED"], "EXPECTED_START_TIME_ASC"):
        api.delete_flow_run(run.id)
    assert "has no next run" in overview._schedule(api, hourly).text
    soon = datetime.now(UTC) + timedelta(hours=3, minutes=1)
    api.create_flow_run_from_deployment(hourly.id, state=Scheduled(scheduled_time=soon))
    line = overview._schedule(api, hourly)
    assert (line.text, line.attention) == ("runs next in 3 h", False)
    for minutes in (1, 30):  # late by less than 5 minutes is no reason to act
        then = datetime.now(UTC) - timedelta(minutes=minutes)
        api.create_flow_run_from_deployment(hourly.id, state=Scheduled(scheduled_time=then))
    line = overview._schedule(api, hourly)
    assert (line.text, line.attention) == ("1 runs are late, the first by 30 min", True)


def test_status_shows_the_last_run_and_needs_a_person_if_it_failed(api, hourly):
    assert list(overview._last_run(api, hourly)) == []
    start(api, hourly, Failed(message="the disk is full"))
    (line,) = overview._last_run(api, hourly)
    assert (line.attention, "Failed: the disk is full" in line.text) == (True, True)
    start(api, hourly, Completed(name="Idle"))
    (line,) = overview._last_run(api, hourly)
    assert (line.attention, "as Idle" in line.text) == (False, True)


def test_status_names_a_run_without_a_process(api, hourly, monkeypatch):
    run = start(api, hourly)
    assert [line.attention for line in overview._active(api, hourly, set())] == [False]
    monkeypatch.setattr(overview, "STUCK", timedelta(0))
    for living, expected in ((set(), True), ({str(run.id)}, False), (None, False)):
        (line,) = overview._active(api, hourly, living)
        assert line.attention is expected
        assert ("without a process" in line.text) is expected


def test_status_shows_champion_last_job_and_a_waiting_approval(project, tmp_path):
    with Settings.from_environment().open_registry() as registry:
        registry.register("digits", make_candidate(tmp_path / "one"), actor="ada")
        assert [line.text for line in models()] == ["no champion, 1 versions"]
        registry.approve("digits", 1, actor="bob", reason="good")
        promote(registry, 1)
        registry.set_policy(
            "digits", registry.model("digits").policy.__class__(four_eyes=True), actor="ada"
        )
        resolved = registry.resolve("digits")
        job = registry.start_job(resolved, input_sha256="0" * 64, output="/out")
        assert models()[1].text.startswith("digits:1 predicts since")
        registry.fail_job(job, "InputError: nothing there")
        line = models()[1]
        assert line.attention is True
        assert "failed 0 s ago: InputError: nothing there" in line.text
        registry.register("digits", make_candidate(tmp_path / "two", model="other"), actor="ada")
        promote(registry, 2, "challenger")
        (line, _) = models()
        assert line.attention is True
        assert ":2 waits for approval" in line.text


@pytest.mark.parametrize(
    ("verdict", "attention", "text"),
    [
        ("drifted", True, "drifted: age PSI 0.31"),
        ("watch", False, "watch: age"),
        ("none", False, "none"),
    ],
)
def test_status_shows_the_verdict_of_the_last_job_that_was_measured(
    project, tmp_path, verdict, attention, text
):
    with Settings.from_environment().open_registry() as registry:
        registry.register("digits", make_candidate(tmp_path / "one"), actor="ada")
        ran = {"rows": 200, "provider": "CPU", "onnxruntime": "1.31.0"}
        for drift in (drift_document("drifted"), drift_document(verdict)):
            job = registry.start_job(
                registry.resolve("digits:1"), input_sha256="0" * 64, output="/out"
            )
            registry.finish_job(job, **ran, drift=drift)
        for number in range(6):  # such as those of a day on which the disk was full
            job = registry.start_job(
                registry.resolve("digits:1"), input_sha256="0" * 64, output=f"/failed-{number}"
            )
            registry.fail_job(job, "full")
        registry.start_job(registry.resolve("digits:1"), input_sha256="0" * 64, output="/next")
        found = {line.section: line for line in models()}
        assert found["last job"].text.startswith("digits:1 predicts since")
        assert found["drift"].text.startswith(text)
        assert found["drift"].attention is attention


def test_status_shows_the_last_training_of_the_loop_and_a_proposed_rollback(project, tmp_path):
    with Settings.from_environment().open_registry() as registry:
        with_champion(registry, tmp_path / "one")

        def entry(topic, text, **document):
            newest = registry.entries("digits", topic, limit=1)
            expect = newest[0].id if newest else 0
            given = {"expect": expect, "text": text, "actor": "loop"}
            registry.add_entry("digits", topic, document, **given)

        entry("retraining", "started because of drift: age", retraining="1", phase="started")
        (line,) = [line for line in models() if line.section == "retraining"]
        assert "ago, started because of drift: age; it goes on" in line.text
        assert not line.attention
        ended = {"retraining": "1", "phase": "ended", "outcome": "failed"}
        entry("retraining", "failed: the disk is full", **ended)
        entry("rollback", "proposed: digits:1 is worse", revision=1)
        found = {line.section: line for line in models()}
        assert found["retraining"].attention
        assert "failed: the disk is full" in found["retraining"].text
        assert found["rollback"].attention
        assert found["rollback"].text == "proposed: digits:1 is worse"


def test_status_says_what_has_become_of_the_version_of_a_training_since(project, tmp_path):
    with Settings.from_environment().open_registry() as registry:
        with_champion(registry, tmp_path / "one")
        registry.register("digits", make_candidate(tmp_path / "two", model="other"), actor="ada")
        promote(registry, 2)
        ended = {"retraining": "1", "phase": "ended", "outcome": "promoted", "made": 2}
        said = "ended, digits:2 is champion: better"
        given = {"expect": 0, "text": said, "actor": "loop", "version": 2}
        registry.add_entry("digits", "retraining", ended, **given)

        def training():
            return next(line.text for line in models() if line.section == "retraining")

        assert training().endswith(said)
        registry.rollback("digits", actor="eve", reason="worse")
        before = "; since then digits:1 is champion again, digits:2 was rolled back"
        assert training().endswith(said + before)
        registry.tag("digits", 2, "note", "bad", actor="eve")
        assert training().endswith(before)
        registry.reject("digits", 2, actor="eve", reason="worse")
        assert training().endswith("; since then digits:2 was rejected")
        registry.unset("digits", "champion", actor="eve", reason="stop")
        assert training().endswith(
            "; since then digits has no champion any more, before it was digits:1"
        )
