"""The reconciler with a real Prefect server and runs whose processes live or are dead."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.states import Cancelling, Crashed, Paused, Pending, Running

from tasks.errors import InputError


@pytest.fixture
def deployment(api):
    """Id of a deployment with one run at a time that nobody serves."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig

    from flows.inference import inference

    made = inference.to_deployment(
        f"test-{uuid4().hex[:8]}",
        parameters={"model": "digits@champion"},
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy="ENQUEUE"),
    )
    number = made.apply()
    yield number
    api.delete_deployment(number)


def start(api, deployment, state: Callable = Running, **given):
    """A run in a state that requires a process, without a process."""
    run = api.create_flow_run_from_deployment(deployment, **given)
    api.set_flow_run_state(run.id, Pending())
    for step in (Running, Cancelling) if state is Cancelling else (state,):
        api.set_flow_run_state(run.id, step())
    return api.read_flow_run(run.id)


def others(api, deployment, *known):
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId

    found = api.read_flow_runs(
        flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    )
    return [run for run in found if run.id not in {k.id for k in known}]


def slots(api, deployment) -> int:
    return api.read_deployment(deployment).global_concurrency_limit.active_slots


def reconciler(api, deployment, *living):
    from flows.reconcile import Reconciler

    return Reconciler(api, [deployment], lambda: {str(run.id) for run in living})


@pytest.mark.parametrize("state", [Pending, Running])
def test_reconcile_crashes_a_dead_run_frees_its_slot_and_starts_a_new_one(api, deployment, state):
    dead = start(api, deployment, state, parameters={"output": "elsewhere"})
    assert slots(api, deployment) == 1
    reconciler(api, deployment).reconcile(nothing_starts=True)
    dead = api.read_flow_run(dead.id)
    assert dead.state.is_crashed()
    assert "Its process is gone" in dead.state.message
    assert slots(api, deployment) == 0
    (new,) = others(api, deployment, dead)
    assert new.state_name == "Scheduled"
    assert new.parameters == {"model": "digits@champion", "output": "elsewhere"}
    assert f"The new run '{new.name}' resumes its work" in dead.state.message


def test_reconcile_leaves_a_live_run_alone(api, deployment):
    run = start(api, deployment)
    reconciler(api, deployment, run).reconcile(nothing_starts=True)
    assert api.read_flow_run(run.id).state.is_running()
    assert (slots(api, deployment), others(api, deployment, run)) == (1, [])


def test_reconcile_cancels_a_dead_run_that_was_cancelling(api, deployment):
    run = start(api, deployment, Cancelling)
    reconciler(api, deployment).reconcile(nothing_starts=True)
    assert api.read_flow_run(run.id).state.is_cancelled()
    assert (slots(api, deployment), others(api, deployment, run)) == (0, [])


def test_reconcile_stops_the_process_of_a_cancelled_run_if_prefect_does_not(
    api, deployment, monkeypatch
):
    from flows import reconcile
    from flows.alive import FLOW_RUN_ID

    run, kept = start(api, deployment, Cancelling), start(api, deployment)
    code = "import subprocess; subprocess.run(['sleep', '60'])"
    with ExitStack() as stack:
        cancelled, other = (
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", code],
                    env={**os.environ, FLOW_RUN_ID: str(r.id)},
                    start_new_session=True,
                )
            )
            for r in (run, kept)
        )
        watch = reconciler(api, deployment, run, kept)
        watch.reconcile()
        assert cancelled.poll() is None  # Prefect has some time
        monkeypatch.setattr(reconcile, "CANCEL_GRACE_S", 0.0)
        watch.reconcile()
        assert cancelled.wait(60) == -15
        assert other.poll() is None
        for process in (cancelled, other):
            os.killpg(process.pid, 9)
    reconciler(api, deployment, kept).reconcile(nothing_starts=True)
    assert api.read_flow_run(run.id).state.is_cancelled()


def test_reconcile_leaves_a_suspended_run_alone(api, deployment):
    run = start(api, deployment)
    api.set_flow_run_state(run.id, Paused(name="Suspended", reschedule=True), force=True)
    reconciler(api, deployment).reconcile(nothing_starts=True)
    assert api.read_flow_run(run.id).state_name == "Suspended"
    assert others(api, deployment, run) == []


def test_reconcile_waits_a_grace_period_before_it_crashes_a_run(api, deployment, monkeypatch):
    from flows import reconcile

    run = start(api, deployment)
    watch = reconciler(api, deployment)
    watch.reconcile()
    assert api.read_flow_run(run.id).state.is_running()
    monkeypatch.setattr(reconcile, "END_GRACE_S", 0.0)
    watch.reconcile()
    assert api.read_flow_run(run.id).state.is_crashed()
    pending = start(api, deployment, Pending, parameters={"output": "other"})
    watch.reconcile()
    watch.reconcile()
    assert api.read_flow_run(pending.id).state.is_pending()


def test_reconcile_crashes_an_orphan_without_a_grace_period(api, deployment):
    from flows.reconcile import Reconciler

    run = start(api, deployment, Pending)
    living = {str(run.id)}
    watch = Reconciler(api, [deployment], lambda: living)
    watch.reconcile(nothing_starts=True)
    assert api.read_flow_run(run.id).state.is_pending()
    living.clear()
    watch.reconcile()
    assert api.read_flow_run(run.id).state.is_crashed()


def test_reconcile_does_not_restart_a_run_after_three_attempts(api, deployment):
    runs = [start(api, deployment)]
    for _ in range(2):
        reconciler(api, deployment).reconcile(nothing_starts=True)
        (new,) = others(api, deployment, *runs)
        api.set_flow_run_state(new.id, Pending())
        runs.append(new)
    reconciler(api, deployment).reconcile(nothing_starts=True)
    assert others(api, deployment, *runs) == []
    assert "happened 3 times" in api.read_flow_run(runs[-1].id).state.message
    assert slots(api, deployment) == 0


def crash(api, run, message: str):
    """As Prefect's runner does when the process of a run ends, or a worker if it starts none."""
    api.set_flow_run_state(run.id, Crashed(message=message))
    return api.read_flow_run(run.id)


EXITED = "Process exited with status code: {}. This indicates ..."
SUBMITTED = "Failed to submit flow run to infrastructure: PrefectHTTPStatusError: ... 503"


# 1: it was starting while no server answered
@pytest.mark.parametrize("message", [EXITED.format(-9), EXITED.format(1), SUBMITTED])
def test_reconcile_starts_one_new_run_for_a_run_whose_process_ended_early(api, deployment, message):
    given = {"output": "elsewhere"}
    killed = crash(api, start(api, deployment, parameters=given), message)
    watch = reconciler(api, deployment)
    for _ in range(3):
        watch.reconcile()
    reconciler(api, deployment).reconcile(nothing_starts=True)  # of a runner that starts later
    (new,) = others(api, deployment, killed)
    assert (new.name, new.state_name) == (killed.name, "Scheduled")
    assert new.parameters == {"model": "digits@champion", **given}
    assert api.read_flow_run(killed.id).state.id == killed.state.id  # so nobody is told twice
    api.set_flow_run_state(new.id, Pending())
    crash(api, new, message)
    watch.reconcile()
    assert others(api, deployment, killed, new) == []


@pytest.mark.parametrize("status", [-2, -15])
def test_reconcile_starts_no_new_run_for_a_run_that_was_stopped(api, deployment, status):
    crashed = crash(api, start(api, deployment), EXITED.format(status))
    reconciler(api, deployment).reconcile()
    assert others(api, deployment, crashed) == []


def test_reconcile_does_not_restart_a_run_if_the_same_work_is_due(api, deployment):
    dead = start(api, deployment)
    due = api.create_flow_run_from_deployment(deployment)
    reconciler(api, deployment).reconcile(nothing_starts=True)
    assert f"The run '{due.name}' does the same work" in api.read_flow_run(dead.id).state.message
    assert others(api, deployment, dead, due) == []


@pytest.mark.parametrize(("believed", "runs"), [(1, 0), (0, 1)])
def test_reconcile_corrects_a_wrong_slot_count_at_the_second_call(api, deployment, believed, runs):
    from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

    living = [start(api, deployment) for _ in range(runs)]
    name = api.read_deployment(deployment).global_concurrency_limit.name
    api.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(active_slots=believed))
    watch = reconciler(api, deployment, *living)
    watch.reconcile()
    assert slots(api, deployment) == believed  # a run may be starting or ending
    watch.reconcile()
    assert slots(api, deployment) == runs


@pytest.mark.parametrize("case", ["nothing starts", "one is active", "all wait"])
def test_reconcile_skips_duplicate_scheduled_runs_that_cannot_start(api, deployment, case):
    from prefect.client.schemas.schedules import IntervalSchedule

    schedule = IntervalSchedule(interval=timedelta(seconds=1), anchor_date=datetime.now(UTC))
    api.create_deployment_schedules(deployment, [(schedule, True)])
    by_hand = api.create_flow_run_from_deployment(deployment)

    def scheduled() -> list:
        runs = [run for run in others(api, deployment) if run.auto_scheduled]
        return sorted(runs, key=lambda run: run.expected_start_time)

    deadline = time.monotonic() + 90
    while len(runs := scheduled()) < 4 or runs[3].expected_start_time > datetime.now(UTC):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    if case == "one is active":
        api.set_flow_run_state(runs[0].id, Pending())
    reconciler(api, deployment, runs[0]).reconcile(nothing_starts=case == "nothing starts")
    first, *later = [api.read_flow_run(run.id) for run in runs[:4]]
    expected = ["Pending"] if case == "one is active" else ["Scheduled", "Late"]
    assert first.state_name in expected
    if case == "all wait":  # any of them may be the one that a runner starts next
        assert not {run.state_name for run in later} - {"Scheduled", "Late"}
    else:
        assert [run.state_name for run in later] == ["Skipped"] * 3
        assert f"The run '{first.name}', due at" in later[0].state.message
    assert api.read_flow_run(by_hand.id).state_name == "Scheduled"


def test_living_runs_counts_child_processes():
    from flows.alive import FLOW_RUN_ID, living_runs

    number = str(uuid4())
    code = "import subprocess, sys; subprocess.Popen(['sleep', '60']); print('started', flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, FLOW_RUN_ID: number},
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        process.stdout.readline()
        process.wait()
        assert number in living_runs()
        os.killpg(process.pid, 9)
    deadline = time.monotonic() + 10
    while number in living_runs():
        assert time.monotonic() < deadline


def test_refuse_foreign_refuses_a_deployment_served_by_another_folder(api, deployment, tmp_path):
    from flows.deploy import owner
    from flows.inference import inference
    from flows.runner import refuse_foreign

    found = api.read_deployment(deployment)
    again = inference.to_deployment(found.name)
    other = tmp_path / "other"
    api.update_deployment(deployment, _described(f"Predicts.\n\n{owner(other)}"))
    refuse_foreign(api, [again], tmp_path)  # no runner polls it
    api.get_scheduled_flow_runs_for_deployments([deployment])  # polls it as a runner does
    deadline = time.monotonic() + 60
    while not api.read_deployment(deployment).last_polled:  # the server records it with a delay
        assert time.monotonic() < deadline
        time.sleep(0.2)
    with pytest.raises(InputError, match=f"is already served from {other} on "):
        refuse_foreign(api, [again], tmp_path)
    refuse_foreign(api, [again], other)


def _described(text: str):
    from prefect.client.schemas.actions import DeploymentUpdate

    return DeploymentUpdate(description=text)
