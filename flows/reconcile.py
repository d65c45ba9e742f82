"""What the Prefect server believes of our runs, compared with the processes that really live.

A run whose process was killed together with its runner stays Running for the server, and keeps its
concurrency slot. Here it is marked Crashed, its slot is given back, and a new run takes over.
"""

import logging
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
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Crashed

from flows.alive import living_runs

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

EVERY_S = 5.0
# Between the server's word that a run may start and its process there is a moment; longer on a
# loaded machine.
STARTS_WITHIN_S = 60.0
ENDED_FOR_S = 10.0
SOON = timedelta(seconds=60)
ATTEMPTS = 3
ATTEMPT = "modelmint.attempt"
"""A label: how often the work of a run was begun, it included."""
HOLDING = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
"""The states in which a run holds a slot, and in which a process must be at work."""
WAITING = ("Scheduled", "Late", "AwaitingConcurrencySlot")
"""Not so: one that a person retries, or whose question was answered."""
GONE = "Its process is gone: it was killed, or this machine was restarted."

log = logging.getLogger("prefect.runner")


class Reconciler:
    """Compares, again and again; what is not yet certain at one look is decided at a later one."""

    def __init__(
        self,
        client: "SyncPrefectClient",
        deployments: Iterable[UUID],
        living: Callable[[], set[str] | None] = living_runs,
    ) -> None:
        self._client = client
        self._deployments = list(deployments)
        self._living = living
        self._missing: dict[UUID, tuple[UUID, float]] = {}
        """Run: the state it was in when its process was first missed, and when that was."""
        self._held: dict[UUID, frozenset[UUID]] = {}
        """Deployment: which runs held its slots when their count was first found wrong."""
        self._orphans: set[UUID] = set()
        """Runs that an earlier runner started and that still die; once gone, nobody ends them."""

    def look(self, *, nothing_starts: bool = False) -> None:
        """One look at every deployment. Raises what Prefect's client raises.

        `nothing_starts`: no runner is at work yet, so a run without a process has no future.
        """
        # First the processes: a run that ends now is then one that lived, not one that died.
        living = self._living()
        holding = self._runs(HOLDING)
        dead = [] if living is None else self._dead(holding, living, nothing_starts)
        waiting = self._runs((StateType.SCHEDULED,), due_until=datetime.now(UTC) + SOON)
        for run in dead:
            self._bury(run, waiting, [r for r in holding if r not in dead])
        self._skip_repeated(waiting)
        self._count_slots(nothing_starts)

    def _runs(
        self, types: tuple[StateType, ...], due_until: datetime | None = None
    ) -> list[FlowRun]:
        """Runs in these states, the one due first first; Prefect gives 200 at most."""
        # Prefect's own type of a time is a datetime at run time.
        due = FlowRunFilterExpectedStartTime(before_=due_until) if due_until else None  # type: ignore[arg-type]
        return self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))),
                deployment_id=FlowRunFilterDeploymentId(any_=self._deployments),
                expected_start_time=due,
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=200,
        )

    def _dead(
        self, holding: list[FlowRun], living: set[str], nothing_starts: bool
    ) -> list[FlowRun]:
        dead, missing = [], {}
        for run in holding:
            if str(run.id) in living or run.state is None:
                if nothing_starts:
                    self._orphans.add(run.id)
                continue
            state, since = self._missing.get(run.id, (None, 0.0))
            if state != run.state.id:
                since = time.monotonic()
            missing[run.id] = (run.state.id, since)
            patience = STARTS_WITHIN_S if run.state.is_pending() else ENDED_FOR_S
            certain = nothing_starts or run.id in self._orphans
            if certain or time.monotonic() - since >= patience:
                dead.append(run)
        self._missing = missing
        return dead

    def _bury(self, run: FlowRun, waiting: list[FlowRun], others: list[FlowRun]) -> None:
        """Mark a run whose process is gone, and see to it that its work goes on."""
        assert run.state is not None
        if run.state.is_cancelling():
            state: Any = Cancelled(message=f"Cancelled. {GONE}")
        else:
            # The new run first: killed between the two, this is done again, to the same end.
            state = Crashed(message=f"{GONE} {self._succeed(run, waiting, others)}")
        self._client.set_flow_run_state(run.id, state, force=True)
        log.warning("run '%s' is marked %s: %s", run.name, state.name, state.message)

    def _succeed(self, run: FlowRun, waiting: list[FlowRun], others: list[FlowRun]) -> str:
        """Have the work of a dead run go on; says how."""
        for other in (*others, *waiting):
            if _same(other, run):
                return f"The run '{other.name}' does the same work."
        attempt = int(str(run.labels.get(ATTEMPT, 1)))
        if attempt >= ATTEMPTS:
            return f"That happened {attempt} times, so no new run was started."
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

    def _skip_repeated(self, waiting: list[FlowRun]) -> None:
        """Of runs that are due by schedule and do the same, leave the one that waits longest.

        After hours without `serve` the server has many; each would find what the first has done.
        """
        now = datetime.now(UTC)
        first: list[FlowRun] = []
        for run in waiting:
            if not run.auto_scheduled or run.state_name not in WAITING:
                continue
            if not run.expected_start_time or run.expected_start_time > now:
                continue
            same = next((r for r in first if _same(r, run)), None)
            if same is None:
                first.append(run)
                continue
            due = f"{same.expected_start_time:%Y-%m-%d %H:%M:%S %Z}"
            message = f"The run '{same.name}', due at {due}, has not begun yet and does the same."
            self._client.set_flow_run_state(run.id, Cancelled(name="Skipped", message=message))

    def _count_slots(self, nothing_starts: bool) -> None:
        """Correct the server's counts of slots where they differ from the runs that hold one.

        It counts by adding and subtracting, so whatever is killed in between leaves an error.
        """
        number = DeploymentFilterId(any_=self._deployments)
        found = self._client.read_deployments(deployment_filter=DeploymentFilter(id=number))
        holding = self._runs(HOLDING)
        for deployment in found:
            held = frozenset(run.id for run in holding if run.deployment_id == deployment.id)
            limit = deployment.global_concurrency_limit
            before = self._held.pop(deployment.id, None)
            if limit is None or limit.active_slots == len(held):
                continue
            # Between the two questions a run may come or go; not at two looks in the same way.
            if not nothing_starts and before != held:
                self._held[deployment.id] = held
                continue
            log.warning(
                "%d slots of '%s' are held, by %d runs: corrected",
                limit.active_slots,
                deployment.name,
                len(held),
            )
            update = GlobalConcurrencyLimitUpdate(active_slots=len(held))
            self._client.update_global_concurrency_limit(limit.name, update)


def _same(one: FlowRun, other: FlowRun) -> bool:
    """Whether two runs would do the same."""
    return (one.deployment_id, one.parameters) == (other.deployment_id, other.parameters)
