"""Compares the Prefect server's list of active runs with the processes that are alive.

If a run's process is killed together with its runner, the server still lists the run as Running
and never frees its concurrency slot. This module marks the run Crashed, frees the slot and starts
a new run with the same parameters. If only the run's process is killed, or ends because no server
answered, Prefect's runner marks the run Crashed; this module starts the new one.
"""

import logging
import re
import signal
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterEndTime,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Crashed

from flows.alive import living_runs, stop_run

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

EVERY_S = 5.0
# A Pending run has no process yet: starting one takes seconds, on a loaded machine up to a minute.
START_GRACE_S = 60.0
# A process may end shortly before the server hears of it.
END_GRACE_S = 10.0
# Prefect's runner cancels within 10 s and kills after 30 more.
CANCEL_GRACE_S = 60.0
SOON = timedelta(seconds=60)
RECENT = timedelta(minutes=10)
"""How long after the end of a killed run a new one may start; `serve` may have been down."""
ATTEMPTS = 3
KILLED_ATTEMPTS = 2
"""If only the process was killed, mostly for its memory: the second time, it will be again."""
ATTEMPT = "modelmint.attempt"
"""Label of a run: its attempt number, counted from 1."""
ACTIVE = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
"""States in which a run occupies a concurrency slot and must have a process."""
WAITING = ("Scheduled", "Late", "AwaitingConcurrencySlot")
"""Names of states that wait for their first start; a retried or resumed run has another name."""
GONE = "Its process is gone: it was killed, or this machine was restarted."

_NEVER_STARTED = "Failed to submit flow run to infrastructure"
"""How a worker begins the message of a run that it could not start, such as for a busy server."""
_ENDED = re.compile(
    r"(?:Process exited with status code:"
    r"|Flow run infrastructure exited with non-zero status code) (-?\d+)"
)
"""How Prefect's runner and its workers begin the message of a run whose process ended too early. A
flow that raises an error is Failed, not Crashed. Status 1: most likely the process was starting
when no server answered; then Prefect's client does not try again (prefect 3.9.1)."""
_ASKED = {-signal.SIGINT, -signal.SIGTERM}
"""The status of a process that a person ended on purpose."""

log = logging.getLogger("prefect.runner")


class Reconciler:
    """Corrects the server's records. Call `reconcile` repeatedly: some faults need two calls."""

    def __init__(
        self,
        client: "SyncPrefectClient",
        deployments: Iterable[UUID],
        find_living: Callable[[], set[str] | None] = living_runs,
        *,
        gone: str = GONE,
        attempts: int = ATTEMPTS,
    ) -> None:
        """`gone`: what to say of a run that is not living; it is tried `attempts` times."""
        self._client = client
        self._deployments = list(deployments)
        self._find_living = find_living
        self._gone, self._attempts = gone, attempts
        self._missing: dict[UUID, tuple[UUID, float]] = {}
        """By run without a process: its state at that time, and when it was first noticed."""
        self._miscounted: dict[UUID, frozenset[UUID]] = {}
        """By deployment with a wrong slot count: its active runs when that was first noticed."""
        self._orphans: set[UUID] = set()
        """Runs of an earlier runner whose processes still live; nobody reports their end."""
        self._killed: set[UUID] = set()
        """Runs whose process alone was killed, and about which was decided already."""
        self._cancelling: dict[UUID, float] = {}
        """By run to cancel whose process lives: when that was first noticed."""

    def reconcile(self, *, nothing_starts: bool = False) -> None:
        """Check every deployment once. Raises what Prefect's client raises.

        `nothing_starts`: no runner works yet, so a run without a process is dead without a grace
        period.
        """
        # The processes first: a run that ends between the two queries must not look dead.
        living = self._find_living()
        active = self._read_runs(ACTIVE)
        dead = [] if living is None else self._find_dead(active, living, nothing_starts)
        waiting = self._read_runs((StateType.SCHEDULED,), due_until=datetime.now(UTC) + SOON)
        for run in dead:
            self._end_dead(run, waiting, [r for r in active if r not in dead])
        self._cancel_living(active, living or set())
        self._replace_killed(waiting, active)
        self._skip_duplicates(waiting, active, nothing_starts)
        self._correct_slots(nothing_starts)

    def _read_runs(
        self,
        types: tuple[StateType, ...],
        due_until: datetime | None = None,
        ended_after: datetime | None = None,
    ) -> list[FlowRun]:
        return read_runs(self._client, self._deployments, types, due_until, ended_after)

    def _find_dead(
        self, active: list[FlowRun], living: set[str], nothing_starts: bool
    ) -> list[FlowRun]:
        dead, missing = [], {}
        for run in active:
            if str(run.id) in living or run.state is None:
                if nothing_starts:
                    self._orphans.add(run.id)
                continue
            state, since = self._missing.get(run.id, (None, 0.0))
            if state != run.state.id:
                since = time.monotonic()
            missing[run.id] = (run.state.id, since)
            grace = START_GRACE_S if run.state.is_pending() else END_GRACE_S
            certain = nothing_starts or run.id in self._orphans
            if certain or time.monotonic() - since >= grace:
                dead.append(run)
        self._missing = missing
        return dead

    def _end_dead(self, run: FlowRun, waiting: list[FlowRun], others: list[FlowRun]) -> None:
        """Mark a dead run Crashed or Cancelled; a crashed one is started again."""
        assert run.state is not None
        if run.state.is_cancelling():
            state: Any = Cancelled(message=f"Cancelled. {self._gone}")
        else:
            # The new run first. If we are killed in between, the next call repeats both steps, and
            # the idempotency key prevents a second run.
            again = self._start_again(run, waiting, others, self._attempts)
            state = Crashed(message=f"{self._gone} {again}")
        self._client.set_flow_run_state(run.id, state, force=True)
        log.warning("run '%s' is marked %s: %s", run.name, state.name, state.message)

    def _cancel_living(self, active: list[FlowRun], living: set[str]) -> None:
        """End the processes of runs that a person cancelled, if Prefect's runner does not.

        It stops looking for cancelled runs, for good, if no server answers for about 30 s
        (prefect 3.9.1, `ObservationDelivery`).
        """
        now = time.monotonic()
        asked = [r for r in active if r.state and r.state.is_cancelling() and str(r.id) in living]
        self._cancelling = {run.id: self._cancelling.get(run.id, now) for run in asked}
        for run in asked:
            if now - self._cancelling[run.id] >= CANCEL_GRACE_S:
                log.warning("run '%s' was to be cancelled: its process is stopped", run.name)
                stop_run(str(run.id))

    def _replace_killed(self, waiting: list[FlowRun], active: list[FlowRun]) -> None:
        """Start a new run, once, for each whose process was killed while its runner lived."""
        recent = datetime.now(UTC) - RECENT
        for run in self._read_runs((StateType.CRASHED,), ended_after=recent):
            if run.id not in self._killed and _was_killed(run):
                sentence = self._start_again(run, waiting, active, KILLED_ATTEMPTS)
                self._killed.add(run.id)  # a runner that starts later finds the idempotency key
                log.warning("the process of run '%s' ended too early. %s", run.name, sentence)

    def _start_again(
        self,
        run: FlowRun,
        waiting: list[FlowRun],
        others: list[FlowRun],
        attempts: int,
    ) -> str:
        """Start a run that replaces a dead one if needed. Returns a sentence for its state."""
        for other in (*others, *waiting):
            if _same_work(other, run):
                return f"The run '{other.name}' does the same work."
        attempt = int(str(run.labels.get(ATTEMPT, 1)))
        if attempt >= attempts:
            return f"This happened {attempt} times, so no new run was started."
        assert run.deployment_id is not None
        new = self._client.create_flow_run_from_deployment(
            run.deployment_id,
            name=run.name,
            parameters=run.parameters,
            idempotency_key=f"resume {run.id}",
            labels={ATTEMPT: attempt + 1},
        )
        waiting.append(new)
        return f"The new run '{new.name}' resumes its work."

    def _skip_duplicates(
        self, waiting: list[FlowRun], active: list[FlowRun], nothing_starts: bool
    ) -> None:
        """Cancel scheduled runs that are due and duplicate an earlier one.

        After hours without `serve` many runs are due, and all but the first would find no new work.
        While runs start, the earlier one must be active: of several that wait, any may be the one
        that starts next, and one that is cancelled while it starts loses its slot and crashes.
        """
        now = datetime.now(UTC)
        first = list(active)
        for run in waiting:
            if not run.auto_scheduled or run.state_name not in WAITING:
                continue
            if not run.expected_start_time or run.expected_start_time > now:
                continue
            same = next((r for r in first if _same_work(r, run)), None)
            if same is None:
                if nothing_starts:
                    first.append(run)
                continue
            if not nothing_starts and self._client.read_flow_run(run.id).state_name not in WAITING:
                continue  # it has just been started
            due = f"{same.expected_start_time:%Y-%m-%d %H:%M:%S %Z}"
            message = f"The run '{same.name}', due at {due}, does the same."
            self._client.set_flow_run_state(run.id, Cancelled(name="Skipped", message=message))

    def _correct_slots(self, nothing_starts: bool) -> None:
        """Set the server's slot counts to the number of active runs where the two differ.

        The server increments and decrements; a kill in between leaves the count wrong.
        """
        number = DeploymentFilterId(any_=self._deployments)
        found = self._client.read_deployments(deployment_filter=DeploymentFilter(id=number))
        active = self._read_runs(ACTIVE)
        for deployment in found:
            runs = frozenset(run.id for run in active if run.deployment_id == deployment.id)
            limit = deployment.global_concurrency_limit
            before = self._miscounted.pop(deployment.id, None)
            if limit is None or limit.active_slots == len(runs):
                continue
            # A run may start or end between the two queries, so correct only what two calls in a
            # row find with the same runs.
            if not nothing_starts and before != runs:
                self._miscounted[deployment.id] = runs
                continue
            log.warning(
                "'%s': the server counted %d occupied slots for %d active runs: corrected",
                deployment.name,
                limit.active_slots,
                len(runs),
            )
            update = GlobalConcurrencyLimitUpdate(active_slots=len(runs))
            self._client.update_global_concurrency_limit(limit.name, update)


def read_runs(
    client: "SyncPrefectClient",
    deployments: list[UUID],
    types: tuple[StateType, ...],
    due_until: datetime | None = None,
    ended_after: datetime | None = None,
) -> list[FlowRun]:
    """Runs in these states, earliest first; 200 at most, which is Prefect's limit."""
    # At run time Prefect's DateTime is a datetime.
    due = FlowRunFilterExpectedStartTime(before_=due_until) if due_until else None  # type: ignore[arg-type]
    ended = FlowRunFilterEndTime(after_=ended_after) if ended_after else None  # type: ignore[arg-type]
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            end_time=ended,
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))),
            deployment_id=FlowRunFilterDeploymentId(any_=deployments),
            expected_start_time=due,
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=200,
    )


def _same_work(one: FlowRun, other: FlowRun) -> bool:
    """Whether two runs have the same deployment and parameters."""
    return (one.deployment_id, one.parameters) == (other.deployment_id, other.parameters)


def _was_killed(run: FlowRun) -> bool:
    """Whether the process of a crashed run ended by accident, or was never started."""
    message = (run.state and run.state.message) or ""
    if message.startswith(_NEVER_STARTED):
        return True
    found = _ENDED.match(message)
    return found is not None and int(found[1]) not in _ASKED
