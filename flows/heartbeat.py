"""Heartbeats: how a run on another machine shows `modelmint serve` that its process lives.

`serve` sees the processes of its own machine (flows/alive.py). A run of a worker sends an event
every 15 s, from a thread: the trainings are other processes, and ONNX Runtime and pyarrow let other
threads work. Prefect has such events too, but at most every 30 s, by default every 180, and nothing
in its open-source server looks at them.

Clocks of other machines are not compared: only the number of events counts, and the time since it
last changed is measured by the monotonic clock of the process that looks.
"""

import os
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

EVENT = "modelmint.flow-run.heartbeat"
PREFECTS = "prefect.flow-run.heartbeat"
EVERY_S = 15.0
SILENT_S = 60.0
"""A run is missing after so long without one: three were lost and the fourth is late. Together with
`END_GRACE_S` and the delays of server and sweep, a dead run is found within 90 s."""
UNHEARD_S = 600.0
"""The same for a run that is still being started, and for one that sends only Prefect's own."""
GAP_S = 20.0
"""A longer pause between two looks means that there was no server, or that this machine slept. Then
nobody could be heard, and every run gets the full time again."""


def send_heartbeats(flow_run_id: str) -> None:
    """Send an event every 15 s until this process ends; ends it if its run was taken for dead."""
    thread = threading.Thread(target=_send, args=(UUID(flow_run_id),), name=EVENT, daemon=True)
    thread.start()


def _send(run: UUID) -> None:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    # Prefect's client would wait up to a minute between two tries, after the server is back.
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        while True:
            try:
                with get_client(httpx_settings={"timeout": EVERY_S}, sync_client=True) as client:
                    while True:
                        beat(client, run)
                        time.sleep(EVERY_S)
            except Exception:  # the server restarts or is busy
                time.sleep(EVERY_S / 3)


def beat(client: "SyncPrefectClient", run: UUID) -> None:
    """Send one event. Ends this process if the run is Crashed: a new run may do its work by now.

    This happens if the machine slept, or its network was down, for longer than `SILENT_S`.
    """
    resource = {"prefect.resource.id": f"prefect.flow-run.{run}"}
    event = {"id": str(uuid4()), "event": EVENT, "resource": resource}
    client.request("POST", "/events", json=[event | {"occurred": datetime.now(UTC).isoformat()}])
    state = client.read_flow_run(run).state
    if state is not None and state.is_crashed():
        os.kill(os.getpid(), signal.SIGKILL)  # the kernel ends its stages with it


@dataclass
class _Heard:
    state: UUID
    events: int
    at: float
    """By `time.monotonic()`."""
    limit_s: float


class Heartbeats:
    """Which active runs of some deployments were heard of lately."""

    def __init__(self, client: "SyncPrefectClient", deployments: Iterable[UUID]) -> None:
        self._client = client
        self._deployments = list(deployments)
        self._heard: dict[UUID, _Heard] = {}
        self._looked = time.monotonic()

    def living(self) -> set[str]:
        """Ids of the runs that are not silent for too long. Raises what Prefect's client raises.

        Call it every few seconds.
        """
        from flows.reconcile import ACTIVE, read_runs

        if time.monotonic() - self._looked > GAP_S:
            self._heard.clear()
        runs = read_runs(self._client, self._deployments, ACTIVE)
        self._heard = {run.id: self._listen(run) for run in runs if run.state is not None}
        self._looked = now = time.monotonic()
        return {str(run) for run, heard in self._heard.items() if now - heard.at <= heard.limit_s}

    def _listen(self, run: "FlowRun") -> _Heard:
        assert run.state is not None
        before, state = self._heard.get(run.id), run.state.id
        limit = UNHEARD_S
        events = 0
        if not run.state.is_pending():
            if events := self._count(run.id, EVENT):
                limit = SILENT_S
            else:
                events = self._count(run.id, PREFECTS)
        if before and (before.state, before.events) == (state, events):
            return before
        return _Heard(state, events, time.monotonic(), limit)

    def _count(self, run: UUID, name: str) -> int:
        from prefect.events.filters import (
            EventFilter,
            EventNameFilter,
            EventOccurredFilter,
            EventResourceFilter,
        )

        # Of any time: the clock of the other machine may be wrong.
        ever: dict[str, Any] = {
            "since": datetime(1970, 1, 1, tzinfo=UTC),
            "until": datetime(9999, 1, 1, tzinfo=UTC),
        }
        wanted = EventFilter(
            occurred=EventOccurredFilter(**ever),
            event=EventNameFilter(name=[name]),
            resource=EventResourceFilter(id=[f"prefect.flow-run.{run}"]),
        )
        return self._client.read_events(wanted, limit=1).total
