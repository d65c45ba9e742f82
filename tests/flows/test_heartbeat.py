"""Heartbeats of runs on other machines, with the events of a real Prefect server."""

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.states import Crashed, Pending, Running

from flows import heartbeat, reconcile
from flows.heartbeat import EVENT, PREFECTS, Heartbeats, beat


@pytest.fixture
def deploy(api, tmp_path):
    """Makes a deployment of a work pool, as `prefect deploy` does in a folder. Returns its id."""
    from flows.inference import inference

    pool = f"pool-{uuid4().hex[:8]}"
    api.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    made = []

    def make(name: str, folder=tmp_path):
        flow = api.create_flow(inference)
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}
        number = api.create_deployment(
            flow_id=flow, name=name, work_pool_name=pool, pull_steps=[step]
        )
        made.append(number)
        return number

    yield make
    for number in made:
        api.delete_deployment(number)
    api.delete_work_pool(pool)


@pytest.fixture
def clock(monkeypatch):
    """The clock by which silence is measured."""
    clock = SimpleNamespace(now=0.0, sleep=time.sleep)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(heartbeat, "time", clock)
    return clock


def start(api, deployment, *states):
    run = api.create_flow_run_from_deployment(deployment)
    for state in (Pending, *states):
        api.set_flow_run_state(run.id, state())
    return api.read_flow_run(run.id)


def emit(api, run, name=EVENT, occurred=None):
    """Send an event; the server stores it with a delay."""
    if name == EVENT and occurred is None:
        return beat(api, run.id)
    resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}"}
    event = {"id": str(uuid4()), "event": name, "resource": resource}
    occurred = (occurred or datetime.now(UTC)).isoformat()
    api.request("POST", "/events", json=[event | {"occurred": occurred}])


def stored(api, run, number: int, name=EVENT):
    """Wait until so many events of a run are stored."""
    deadline = time.monotonic() + 60
    while Heartbeats(api, [])._count(run.id, name) < number:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def listen(heartbeats, clock, seconds: float):
    """What lives after so many seconds in which it was looked every 15 s."""
    for _ in range(int(seconds / 15)):
        clock.now += 15
        found = heartbeats.living()
    return found


def test_a_run_is_missing_after_a_minute_of_silence_whatever_its_clock_says(api, deploy, clock):
    number = deploy("silent")
    run = start(api, number, Running)
    pending, foreign = start(api, number), start(api, number, Running)
    elsewhere = start(api, deploy("other"), Running)
    emit(api, run)
    emit(api, foreign, PREFECTS)  # of a flow that sends none of ours
    stored(api, run, 1)
    stored(api, foreign, 1, PREFECTS)
    heartbeats = Heartbeats(api, [number])
    every, others = {str(r.id) for r in (run, pending, foreign)}, {str(pending.id), str(foreign.id)}
    assert heartbeats.living() == listen(heartbeats, clock, 60) == every
    assert str(elsewhere.id) not in every
    assert listen(heartbeats, clock, 15) == others
    for number, wrong in enumerate((timedelta(days=-9000), timedelta(days=9000)), start=2):
        emit(api, run, occurred=datetime.now(UTC) + wrong)
        stored(api, run, number)
        assert heartbeats.living() == listen(heartbeats, clock, 60) == every
        assert listen(heartbeats, clock, 15) == others
    api.set_flow_run_state(run.id, Crashed())
    assert listen(heartbeats, clock, 360) == others
    assert listen(heartbeats, clock, 60) == set()


def test_the_time_without_a_server_does_not_count_as_silence(api, deploy, clock):
    number = deploy("gap")
    run = start(api, number, Running)
    emit(api, run)
    stored(api, run, 1)
    heartbeats = Heartbeats(api, [number])
    assert heartbeats.living() == listen(heartbeats, clock, 60) == {str(run.id)}
    clock.now += heartbeat.GAP_S + 1  # nobody looked, because no server answered
    assert heartbeats.living() == listen(heartbeats, clock, 60) == {str(run.id)}
    assert listen(heartbeats, clock, 15) == set()


def test_the_run_of_a_dead_worker_is_crashed_and_started_again_once(
    api, deploy, tmp_path, monkeypatch
):
    from flows.workers import WorkerRuns

    monkeypatch.setattr(heartbeat, "SILENT_S", 0.0)
    monkeypatch.setattr(reconcile, "END_GRACE_S", 0.0)
    name = f"nightly-{uuid4().hex[:8]}"
    number = deploy(name)
    foreign_name = f"weekly-{uuid4().hex[:8]}"
    foreign = start(api, deploy(foreign_name, tmp_path / "another"), Running)
    emit(api, foreign)
    runs = [start(api, number, Running)]
    watch = WorkerRuns(api, tmp_path, [name, foreign_name])
    watch.reconcile()
    assert api.read_flow_run(runs[0].id).state.is_running()  # it has not sent any yet
    for _ in range(2):
        emit(api, runs[-1])
        stored(api, runs[-1], 1)
        for _ in range(3):
            watch.reconcile()
        dead = api.read_flow_run(runs[-1].id)
        assert dead.state.is_crashed()
        assert "Nothing was heard of it for a minute" in dead.state.message
        new = [r for r in all_runs(api, number) if r.id not in {run.id for run in runs}]
        if new:
            runs.append(new[0])
            for state in (Pending, Running):
                api.set_flow_run_state(new[0].id, state())
    assert len(runs) == 2
    assert "happened 2 times" in dead.state.message
    assert api.read_flow_run(foreign.id).state.is_running()  # of another project's folder


def all_runs(api, deployment):
    from prefect.client.schemas.objects import StateType

    return reconcile.read_runs(api, [deployment], tuple(StateType))


def test_a_process_sends_heartbeats_and_ends_if_its_run_was_taken_for_dead(
    api, deploy, prefect_server
):
    run = start(api, deploy("revived"), Running)
    code = (
        "import sys, time\n"
        "from flows import heartbeat\n"
        "heartbeat.EVERY_S = 0.2\n"
        "heartbeat.send_heartbeats(sys.argv[1])\n"
        "time.sleep(120)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(run.id)]) as process:
        stored(api, run, 3)
        assert process.poll() is None
        api.set_flow_run_state(run.id, Crashed())
        assert process.wait(60) == -9
