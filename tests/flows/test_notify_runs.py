"""What is told of runs on a real Prefect server."""

import pytest
from notify_helpers import UI, Serve, job
from prefect.states import Completed, Crashed, Failed, Pending, Running
from projects import enter
from registry_helpers import make_candidate, promote, with_champion

from flows.broken import LEFT_OUT
from flows.deploy import read_deployments
from flows.project import new_project
from flows.settings import Settings


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return new_project(tmp_path_factory.mktemp("notify") / "project", None).root


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    enter(made, tmp_path, monkeypatch)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))  # where the state is kept
    return made


@pytest.fixture
def deployments(api, project):
    """The deployments `hourly` and `weekly` on a real server."""
    given = {d.name.partition("-")[0]: d for d in read_deployments(project / "prefect.yaml")}
    numbers = {name: given[name].apply() for name in ("hourly", "weekly")}
    yield numbers
    for number in numbers.values():
        api.delete_deployment(number)


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
    return with_champion(registry, tmp_path / "one")


def end(api, deployment, *states, **parameters):
    """A run that goes through these states."""
    run = api.create_flow_run_from_deployment(deployment, parameters=parameters or None)
    for state in (Pending(), Running(), *states):
        api.set_flow_run_state(run.id, state, force=True)
    return api.read_flow_run(run.id)


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
        ([Completed(name=LEFT_OUT)], []),  # the broken file is still there
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
