"""What is told of runs on a real Prefect server, and of models in a real registry."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from prefect.states import Completed, Crashed, Failed, Pending, Running
from registry_helpers import drift_document, make_candidate, promote

from flows.deploy import read_deployments
from flows.notify import models as model_watch
from flows.notify.attempt import Attempt
from flows.notify.channels import Channel, Channels
from flows.notify.message import EVENTS
from flows.notify.outbox import Outbox
from flows.notify.state import project_state
from flows.notify.watcher import Watcher
from flows.project import new_project
from flows.settings import Settings
from registry import Policy

UI = "http://127.0.0.1:4200"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return new_project(tmp_path_factory.mktemp("notify") / "project", None).root


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    monkeypatch.chdir(made)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))  # where the state is kept
    monkeypatch.setenv("MODELMINT_DATABASE_URL", f"sqlite:///{tmp_path}/registry.db")
    monkeypatch.setenv("MODELMINT_ARTIFACTS", str(tmp_path / "artifacts"))
    return made


@pytest.fixture
def deployments(api, project):
    """The deployments `hourly` and `weekly` on a real server."""
    given = {d.name.partition("-")[0]: d for d in read_deployments(project / "prefect.yaml")}
    numbers = {name: given[name].apply() for name in ("hourly", "weekly")}
    yield numbers
    for number in numbers.values():
        api.delete_deployment(number)


class Serve:
    """The watcher of a `modelmint serve`, a pass at a time; `restart` begins with its files."""

    def __init__(self, settings=None, events=EVENTS, path=None):
        self.settings = settings or Settings.from_environment()
        self.path = path or project_state(self.settings.root)
        self.events = frozenset(events)
        self.got, self.said = [], []
        self.watcher = None
        self.restart()

    def end(self):
        """Let go of the registry, as the kernel does when a process ends."""
        watched = self.watcher and self.watcher._registry
        if watched and watched.lock:
            watched.lock.close()

    def restart(self):
        self.end()
        channel = Channel("command", "test", {})
        outbox = Outbox(self.path, [channel], self.send)
        channels = Channels((channel,), self.events)
        self.watcher = Watcher(self.settings, channels, outbox, UI, self.said.append)

    def send(self, _channel, message):
        self.got.append(message)
        return Attempt(True, "")

    def told(self):
        """What one pass sends: event and subject."""
        before = len(self.got)
        self.watcher.look()
        self.watcher.send()
        return [(message.event, message.subject) for message in self.got[before:]]


@pytest.fixture
def serve(project):
    return Serve()


@pytest.fixture
def registry(project):
    with Settings.from_environment().open_registry() as opened:
        yield opened


@pytest.fixture
def digits(registry, tmp_path):
    """A registry with a champion."""
    registry.register("digits", make_candidate(tmp_path / "one"), actor="ada")
    promote(registry, 1)
    return registry


def end(api, deployment, *states, **parameters):
    """A run that goes through these states."""
    run = api.create_flow_run_from_deployment(deployment, parameters=parameters or None)
    for state in (Pending(), Running(), *states):
        api.set_flow_run_state(run.id, state, force=True)
    return api.read_flow_run(run.id)


def job(registry, *, drift=None, error=None, output="/out", flow_run_id=None):
    started = registry.start_job(
        registry.resolve("digits"), input_sha256="0" * 64, output=output, flow_run_id=flow_run_id
    )
    if error:
        return registry.fail_job(started, error)
    return registry.finish_job(started, rows=200, provider="CPU", onnxruntime="1", drift=drift)


# Runs


def test_a_schedule_that_fails_24_times_for_the_same_reason_is_told_once(api, deployments, serve):
    assert serve.told() == []
    found = []
    for number in range(24):
        end(api, deployments["hourly"], Failed(message=f"no file of hour {number}"))
        found += serve.told()
        if number % 8 == 0:
            serve.restart()
    assert found == [("failed", "hourly")]
    (message,) = serve.got
    assert message.text == "no file of hour 0"
    assert message.fields["deployment"] == "hourly"
    assert message.fields["url"] == f"{UI}/runs/flow-run/{message.fields['flow_run_id']}"
    assert message.project == "project"


def test_a_new_cause_and_a_recovery_are_told_and_count_anew(api, deployments, serve):
    hourly = deployments["hourly"]
    serve.told()
    for states, expected in [
        ([Completed()], []),
        ([Failed(message="disk full")], [("failed", "hourly")]),
        ([Failed(message="no route")], [("failed", "hourly")]),
        ([Failed(message="disk full")], []),
        ([Crashed(message="its process is gone")], [("crashed", "hourly")]),
        ([Completed(name="Idle")], [("recovered", "hourly")]),
        ([Completed()], []),
        ([Failed(message="disk full")], [("failed", "hourly")]),
    ]:
        end(api, hourly, *states)
        assert serve.told() == expected
    (recovered,) = [one for one in serve.got if one.event == "recovered"]
    assert recovered.fields["times"] == 4


def test_runs_with_other_parameters_and_of_other_deployments_fail_by_themselves(
    api, deployments, serve
):
    serve.told()
    end(api, deployments["hourly"], Failed(message="bad"))
    end(api, deployments["weekly"], Failed(message="bad"))
    end(api, deployments["weekly"], Failed(message="bad"), overrides=["train.epochs=3"])
    end(api, deployments["weekly"], Failed(message="bad"), overrides=["train.epochs=3"])
    end(api, deployments["weekly"], Completed(), overrides=["train.epochs=5"])
    assert sorted(serve.told()) == [
        ("failed", "hourly"),
        ("failed", "weekly"),
        ("failed", "weekly"),
    ]


def test_a_run_that_a_gate_refused_is_left_to_the_registry_and_ends_a_failure(
    api, deployments, serve
):
    serve.told()
    end(api, deployments["weekly"], Failed(name="Refused", message="refused: accuracy"))
    assert serve.told() == []
    end(api, deployments["weekly"], Failed(message="disk full"))
    end(api, deployments["weekly"], Failed(name="Refused", message="refused: accuracy"))
    assert serve.told() == [("failed", "weekly"), ("recovered", "weekly")]


def test_a_retried_run_that_comes_through_is_a_recovery(api, deployments, serve):
    serve.told()
    run = end(api, deployments["hourly"], Failed(message="bad"))
    assert serve.told() == [("failed", "hourly")]
    for state in (Running(), Completed()):
        api.set_flow_run_state(run.id, state, force=True)
    assert serve.told() == [("recovered", "hourly")]


def test_of_runs_before_the_first_start_nothing_is_told_and_of_those_between_everything(
    api, deployments, project
):
    end(api, deployments["hourly"], Failed(message="long ago"))
    serve = Serve()
    assert serve.told() == []
    end(api, deployments["hourly"], Crashed(message="the machine lost power"))
    serve.restart()
    assert serve.told() == [("crashed", "hourly")]
    serve.restart()
    assert serve.told() == []


def test_a_run_with_too_many_bad_rows_is_told_as_quarantine(api, deployments, digits, serve):
    serve.told()
    hourly = deployments["hourly"]
    for number in range(2):
        run = api.create_flow_run_from_deployment(hourly)
        for state in (Pending(), Running()):
            api.set_flow_run_state(run.id, state, force=True)
        error = f"TooManyBad: age is {number}. 7 of 10 rows cannot be predicted"
        job(digits, error=error, flow_run_id=str(run.id))
        api.set_flow_run_state(run.id, Failed(message=f"age is {number}. 7 of 10"), force=True)
        assert serve.told() == [("quarantine", "hourly")] * (number == 0)
    run = api.create_flow_run_from_deployment(hourly)
    for state in (Pending(), Running()):
        api.set_flow_run_state(run.id, state, force=True)
    job(digits, error="TooManyBad: 7 of 10", flow_run_id=str(run.id))
    api.set_flow_run_state(run.id, Failed(message="2 files failed: a: 7; b: broken"), force=True)
    assert serve.told() == [("failed", "hourly")]  # one of them failed for another reason


def test_a_server_that_is_down_is_said_once_and_the_registry_is_still_told(
    digits, serve, monkeypatch
):
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    down = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(down):
        serve.told()
        serve.told()
        digits.register("digits", make_candidate(serve.path.parent / "two", "b"), actor="ada")
        promote(digits, 2)
        assert serve.told() == [("promoted", "digits")]
    assert len([line for line in serve.said if "Prefect" in line]) == 1


# Models


def without_prefect(serve, monkeypatch):
    monkeypatch.setattr(serve.watcher, "_read_runs", list)


@pytest.fixture
def models(serve, monkeypatch, digits):
    """A `serve` that has begun, without a Prefect server."""
    restart = serve.restart

    def restart_without():
        restart()
        without_prefect(serve, monkeypatch)

    serve.restart = restart_without
    without_prefect(serve, monkeypatch)
    assert serve.told() == []  # of the champion that was there already
    return serve


def test_promotions_and_rollbacks_are_told_each(models, digits, tmp_path):
    digits.register("digits", make_candidate(tmp_path / "two", "b"), actor="ada")
    promote(digits, 2)
    assert models.told() == [("promoted", "digits")]
    models.restart()
    digits.rollback("digits", actor="bob", reason="worse")
    assert models.told() == [("promoted", "digits")]
    assert [one.title for one in models.got] == [
        "digits:2 is champion now, before it was digits:1",
        "digits:1 is champion again, digits:2 was rolled back",
    ]
    assert models.got[1].fields["actor"] == "bob"
    assert models.told() == []


def test_a_challenger_is_told_only_if_somebody_must_approve_it(models, digits, tmp_path):
    digits.register("digits", make_candidate(tmp_path / "two", "b"), actor="ada")
    promote(digits, 2, "challenger")
    assert models.told() == []
    digits.set_policy("digits", Policy(four_eyes=True), actor="ada")
    digits.register("digits", make_candidate(tmp_path / "three", "c"), actor="ada")
    promote(digits, 3, "challenger")
    assert models.told() == [("approval", "digits")]
    assert "modelmint models approve digits:3 --promote" in models.got[0].text
    digits.approve("digits", 3, actor="bob", reason="good")
    promote(digits, 3)
    assert models.told() == [("promoted", "digits")]


def test_the_same_refusal_is_told_once_until_a_version_is_registered(models, digits, tmp_path):
    bad = make_candidate(tmp_path / "bad", "bad", evaluation={"passed": False})
    for value, expected in ((0.81, 1), (0.79, 0)):
        digits.refuse("digits", bad, actor="ada", reason=f"accuracy {value} is below 0.9")
        assert models.told() == [("refused", "digits")] * expected
    digits.refuse("digits", bad, actor="ada", reason="parity")
    assert models.told() == [("refused", "digits")]
    digits.register("digits", make_candidate(tmp_path / "good", "good"), actor="ada")
    digits.refuse("digits", bad, actor="ada", reason="accuracy 0.7 is below 0.9")
    assert models.told() == [("refused", "digits")]


def test_drift_is_told_once_for_each_column_and_over_after_twelve_hours(
    models, digits, monkeypatch
):
    def after(verdict, name="age"):
        job(digits, drift=drift_document(verdict, name))
        return models.told()

    assert after("none") == []
    assert after("drifted") == [("drifted", "digits")]
    assert models.got[0].fields["columns"] == ["age PSI 0.31"]
    assert after("drifted") == []
    assert after("drifted", "income") == [("drifted", "digits")]
    assert after("none") == []  # another file of the same hour
    models.restart()
    assert after("drifted") == []
    monkeypatch.setattr(model_watch, "DRIFT_OVER_S", 0.0)
    assert after("watch") == [("recovered", "digits")]
    assert after("drifted") == [("drifted", "digits")]


def test_another_version_has_another_reference_and_its_drift_is_told(models, digits, tmp_path):
    job(digits, drift=drift_document("drifted"))
    digits.register("digits", make_candidate(tmp_path / "two", "b"), actor="ada")
    promote(digits, 2)
    job(digits, drift=drift_document("drifted"))
    assert models.told() == [("promoted", "digits"), ("drifted", "digits"), ("drifted", "digits")]


def test_jobs_of_commands_are_told_by_input_and_those_of_runs_are_left_to_the_run(models, digits):
    assert job(digits, error="InputError: gone", flow_run_id="a run").state == "failed"
    assert models.told() == []
    for output, error, expected in [
        ("/a", "InputError: no column age", [("failed", "digits")]),
        ("/a", "InputError: no column age", []),
        ("/b", "TooManyBad: 7 of 10 rows", [("quarantine", "digits")]),
        ("/b", "TooManyBad: 8 of 10 rows", []),
        ("/c", None, []),
        ("/a", None, [("recovered", "digits")]),
    ]:
        job(digits, error=error, output=output)
        assert models.told() == expected, output


def test_a_job_is_told_when_it_ends_however_long_it_runs(models, digits, monkeypatch):
    started = digits.start_job(digits.resolve("digits"), input_sha256="0" * 64, output="/long")
    assert models.told() == []
    monkeypatch.setattr(model_watch, "OVERLAP", timedelta(0))
    for number in range(3):
        job(digits, output=f"/short-{number}")
        models.told()
    models.restart()
    digits.fail_job(started, "OSError: disk full")
    assert models.told() == [("failed", "digits")]
    assert models.told() == []


def test_a_damaged_record_of_drift_stops_nothing(models, digits):
    job(digits, drift={"verdict": "drifted", "most": "nothing", "columns": 7})
    job(digits, error="OSError: disk full", output="/b")
    assert ("failed", "digits") in models.told()


def test_a_registry_that_is_made_later_is_told_from_its_first_event(
    project, registry, serve, monkeypatch, tmp_path
):
    without_prefect(serve, monkeypatch)
    assert serve.told() == []
    registry.register("digits", make_candidate(tmp_path / "one"), actor="ada")
    promote(registry, 1)
    assert serve.told() == [("promoted", "digits")]


def test_a_thousand_events_at_once_are_one_message_and_none_is_lost(models, digits, monkeypatch):
    monkeypatch.setattr(model_watch, "BATCH", 128)
    monkeypatch.setattr(model_watch, "BEFORE", 10)
    for number in range(300):
        job(digits, error="OSError: disk full", output=f"/out-{number}")
    for _ in range(100):
        digits.note("digits", 1, text="looked at", actor="ada")
    assert models.told() == [("several", "project")]
    assert models.got[0].fields["number"] == 300
    assert models.told() == []


def test_two_serves_with_one_registry_tell_of_its_models_once(
    models, digits, tmp_path, monkeypatch
):
    second = Serve(path=models.path.with_name("second.json"))
    without_prefect(second, monkeypatch)
    assert second.told() == []
    assert "another `modelmint serve` with this registry" in second.said[0]
    job(digits, error="OSError: disk full")
    assert (models.told(), second.told()) == ([("failed", "digits")], [])
    models.end()
    job(digits, error="OSError: disk full", output="/b")
    assert second.told() == [("failed", "digits")]
    assert len(second.said) == 1


def test_only_the_chosen_events_are_told(digits, project, monkeypatch):
    serve = Serve(events=["drifted"])
    without_prefect(serve, monkeypatch)
    serve.told()
    job(digits, error="OSError: disk full")
    job(digits, drift=drift_document("drifted"), output="/b")
    assert serve.told() == [("drifted", "digits")]


def test_a_kill_between_finding_and_noting_loses_nothing_and_tells_nothing_twice(
    models, digits, monkeypatch
):
    job(digits, error="OSError: disk full")
    watched = models.watcher._registry

    def full(_self, _content):
        raise OSError("no space left")

    save = type(watched).save
    monkeypatch.setattr(type(watched), "save", full)
    assert models.told() == [("failed", "digits")]
    monkeypatch.setattr(type(watched), "save", save)
    models.restart()
    assert models.told() == []


def test_every_message_is_plain_json(models, digits, tmp_path):
    digits.register("digits", make_candidate(tmp_path / "two", "b"), actor="ada")
    promote(digits, 2)
    job(digits, drift=drift_document("drifted"))
    job(digits, error="OSError: full", output="/b")
    models.told()
    for message in models.got:
        document = json.loads(json.dumps(message.as_dict()))
        assert document["format"] == 1
        assert datetime.fromisoformat(document["at"]) <= datetime.now(UTC) + timedelta(seconds=1)
        assert document["title"]
        assert "\n" not in document["title"]
