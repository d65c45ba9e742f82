"""`/metrics` for Prometheus, read from the registry and from Prefect when it is asked.

Nothing is counted in this process, so a restart loses nothing and resets nothing: what another
exporter would count since its start is counted here over the last 24 hours, by an index.
docs/monitoring.md lists every metric.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flows.backups import Backup, last_backup
from flows.deploy import deployed_name, deployed_names
from flows.drift import LOOKED_AT
from flows.notify.outbox import channel_states
from flows.overview import LATE, waits_for_approval
from flows.runner import SERVED_WITHIN
from flows.settings import BACKUP, Settings
from registry import CHAMPION, Job, ModelLine, NoRegistry, Registry, RegistryError
from registry.display.drift import VERDICTS, drift
from tasks.errors import InputError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

DAY = timedelta(hours=24)
MODELS = 200
"""Models by name; of more, only their number is told. A series for each costs memory there."""
FRESH_S = 5.0
"""Several who ask within so many seconds get the same answer, and the databases one query."""
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
ACTIVE = ("PENDING", "RUNNING", "PAUSED", "CANCELLING")


def serve_metrics(settings: Settings, address: str, state: Path) -> str:
    """Answer at `address` from now on, in a thread. Returns the URL. Raises OSError."""
    host, _, port = address.rpartition(":")
    registry = CollectorRegistry()
    registry.register(_Fresh(settings, state))
    start_http_server(int(port), addr=host, registry=registry)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"


class _Fresh(Collector):
    """Gives the same metrics to all who ask within FRESH_S."""

    def __init__(self, settings: Settings, state: Path) -> None:
        self._settings, self._state = settings, state
        self._lock = threading.Lock()
        self._metrics: list[Metric] = []
        self._at = -FRESH_S

    def collect(self) -> list[Metric]:
        with self._lock:
            if time.monotonic() - self._at >= FRESH_S:
                self._metrics = list(metrics(self._settings, self._state))
                self._at = time.monotonic()
            return self._metrics


def metrics(settings: Settings, state: Path) -> Iterator[Metric]:
    """All metrics. A source that does not answer has its `up` at 0, and no other metric."""
    up = _gauge("registry_up", "Whether the registry could be read.")
    found: list[Metric] = []
    try:
        found = list(_of_registry(settings))
        up.add_metric([], 1)
    except RegistryError:
        up.add_metric([], 0)
    yield from (up, *found)
    up, found = _gauge("prefect_up", "Whether the Prefect server answered."), []
    try:
        found = list(_of_prefect(settings))
        up.add_metric([], 1)
    except Exception:  # whatever Prefect's client raises
        up.add_metric([], 0)
    yield from (up, *found)
    yield from _of_channels(state)
    yield from _of_backup(settings)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"modelmint_{name}", text, labels=labels)


# The registry


def _of_registry(settings: Settings) -> Iterator[Metric]:
    with settings.open_registry() as registry:
        try:
            page = registry.overview(limit=MODELS)
        except NoRegistry:
            return
        more = registry.overview(limit=1, after=page.after).lines if page.after else ()
        left_out = _gauge("models_left_out", "1 if there are more models than are shown.")
        left_out.add_metric([], len(more))
        yield left_out
        yield from _of_models(page.lines)
        yield from _of_jobs(registry, {line.model.name for line in page.lines})
        yield from _of_last_jobs(registry, page.lines)


def _of_models(lines: tuple[ModelLine, ...]) -> Iterator[Metric]:
    versions = _gauge("model_versions", "Versions of a model.", "model")
    waiting = _gauge("approval_waiting", "1 if a challenger waits for approval.", "model")
    since = _gauge(
        "champion_since_timestamp_seconds", "When the champion became it.", "model", "version"
    )
    for line in lines:
        name, champion = line.model.name, line.holders.get(CHAMPION)
        versions.add_metric([name], line.model.last_version)
        waiting.add_metric([name], waits_for_approval(line))
        if champion and champion.moved:
            since.add_metric([name, str(champion.alias.version)], champion.moved.at.timestamp())
    yield from (versions, waiting, since)


def _of_jobs(registry: Registry, names: set[str]) -> Iterator[Metric]:
    jobs = _gauge("jobs_24h", "Jobs that began within 24 hours.", "model", "state")
    rows = _gauge("job_rows_24h", "Rows that they predicted.", "model")
    bad = _gauge("job_quarantined_rows_24h", "Rows that they put into quarantine.", "model")
    seconds = _gauge("job_seconds_24h", "Seconds that they took.", "model")
    sums: dict[str, list[float]] = {}
    for found in registry.job_totals(datetime.now(UTC) - DAY):
        if found.model in names:
            jobs.add_metric([found.model, found.state], found.jobs)
            now = (found.rows, found.quarantined, found.seconds)
            before = sums.get(found.model, [0, 0, 0])
            sums[found.model] = [a + b for a, b in zip(before, now, strict=True)]
    for name, totals in sums.items():
        for metric, total in zip((rows, bad, seconds), totals, strict=True):
            metric.add_metric([name], total)
    yield from (jobs, rows, bad, seconds)


def _of_last_jobs(registry: Registry, lines: tuple[ModelLine, ...]) -> Iterator[Metric]:
    began = _gauge("last_job_start_timestamp_seconds", "When the last job began.", "model", "state")
    rows = _gauge("last_job_rows", "Rows that the last job predicted.", "model")
    bad = _gauge("last_job_quarantined_rows", "Rows that it put into quarantine.", "model")
    seconds = _gauge("last_job_duration_seconds", "Seconds that it took.", "model")
    drifts = _Drifts()
    for line in lines:
        name = line.model.name
        last, measured = registry.latest_jobs(name, looked_at=LOOKED_AT)
        if last:
            began.add_metric([name, last.state], last.started_at.timestamp())
            took = (
                (last.finished_at - last.started_at).total_seconds() if last.finished_at else None
            )
            for metric, value in ((rows, last.rows), (bad, last.quarantined), (seconds, took)):
                if value is not None:
                    metric.add_metric([name], value)
        if measured:
            drifts.add(name, measured)
    yield from (began, rows, bad, seconds, *drifts.metrics)


class _Drifts:
    """The drift of the last job of each model that was measured."""

    def __init__(self) -> None:
        text = "Verdict of the last job that was measured: 0 none, 1 watch, 2 drifted."
        self._verdict = _gauge("drift_verdict", text, "model")
        self._moved = _gauge("drift_columns", "Columns that moved in that job.", "model")
        text = "PSI of the columns that moved most in that job, 10 at most."
        self._psi = _gauge("drift_psi", text, "model", "column")
        self.metrics = (self._verdict, self._moved, self._psi)

    def add(self, name: str, job: Job) -> None:
        found = drift(job.drift)
        if found is None:
            return
        if found.training.verdict in VERDICTS:
            self._verdict.add_metric([name], VERDICTS.index(found.training.verdict))
        self._moved.add_metric([name], found.training.moved)
        for part in {part.name: part for part in found.parts}.values():
            if known := [one.psi for one in part.measures if one.psi is not None]:
                self._psi.add_metric([name, part.name], max(known))


# Prefect


def _of_prefect(settings: Settings) -> Iterator[Metric]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    served = _gauge("deployment_served", "1 if a process serves the deployment.", "deployment")
    runs = _gauge("runs_24h", "Runs that ended within 24 hours.", "deployment", "state")
    active = _gauge("runs_active", "Runs that have begun and not ended.", "deployment", "state")
    late = _gauge("runs_late", "Runs that should have begun 5 minutes ago.", "deployment")
    ended = _gauge(
        "last_run_end_timestamp_seconds", "When the last run ended.", "deployment", "state"
    )
    failed = _gauge("last_run_failed", "1 if the last run failed or crashed.", "deployment")
    seconds = _gauge("last_run_duration_seconds", "Seconds that it took.", "deployment")
    suffix = deployed_name("", settings.root)
    names = DeploymentFilterName(any_=deployed_names(settings.root / "prefect.yaml"))
    now = datetime.now(UTC)
    with get_client(sync_client=True) as client:
        for one in client.read_deployments(deployment_filter=DeploymentFilter(name=names)):
            name = one.name.removesuffix(suffix)
            polled = bool(one.last_polled and now - one.last_polled <= SERVED_WITHIN)
            served.add_metric([name], polled and not one.paused)
            for state in ENDED:
                number = _count(client, one, state, ended_after=now - DAY)
                runs.add_metric([name, state.lower()], number)
            for state in ACTIVE:
                active.add_metric([name, state.lower()], _count(client, one, state))
            late.add_metric([name], _count(client, one, "SCHEDULED", due_before=now - LATE))
            if run := _last_run(client, one):
                how = run.state_type.value
                ended.add_metric([name, how.lower()], run.end_time.timestamp())
                failed.add_metric([name], how in ("FAILED", "CRASHED"))
                seconds.add_metric([name], run.total_run_time.total_seconds())
    yield from (served, runs, active, late, ended, failed, seconds)


def _filter(
    deployment: Any,
    states: tuple[str, ...],
    ended_after: Any = None,
    due_before: Any = None,
) -> Any:
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterDeploymentId,
        FlowRunFilterEndTime,
        FlowRunFilterExpectedStartTime,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    types = FlowRunFilterStateType(any_=[StateType(name) for name in states])
    return FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]),
        state=FlowRunFilterState(type=types),
        end_time=FlowRunFilterEndTime(after_=ended_after) if ended_after else None,
        expected_start_time=(
            FlowRunFilterExpectedStartTime(before_=due_before) if due_before else None
        ),
    )


def _count(client: "SyncPrefectClient", deployment: Any, state: str, **limits: Any) -> int:
    return client.count_flow_runs(flow_run_filter=_filter(deployment, (state,), **limits))


def _last_run(client: "SyncPrefectClient", deployment: Any) -> Any:
    from prefect.client.schemas.sorting import FlowRunSort

    over = _filter(deployment, ("COMPLETED", "FAILED", "CRASHED"))
    found = client.read_flow_runs(flow_run_filter=over, sort=FlowRunSort.END_TIME_DESC, limit=1)
    return next((run for run in found if run.end_time), None)


# What waits to be sent, and the backup


def _of_channels(state: Path) -> Iterator[Metric]:
    labels = ["channel"]
    sent = CounterMetricFamily("modelmint_notifications_sent", "Accepted.", labels=labels)
    lost = CounterMetricFamily("modelmint_notifications_dropped", "Given up.", labels=labels)
    waiting = _gauge("notifications_waiting", "Not sent yet.", "channel")
    failing = _gauge("notifications_failing", "1 if the last attempt failed.", "channel")
    for channel in channel_states(state):
        sent.add_metric([channel.name], channel.sent)
        lost.add_metric([channel.name], channel.dropped)
        waiting.add_metric([channel.name], channel.waiting)
        failing.add_metric([channel.name], channel.failing_since is not None)
    yield from (sent, lost, waiting, failing)


def _of_backup(settings: Settings) -> Iterator[Metric]:
    if not os.environ.get(BACKUP):
        return
    good = _gauge("backup_ok", "1 if MODELMINT_BACKUP has a backup of this registry.")
    made = _gauge("backup_timestamp_seconds", "When the last backup was made.")
    backup: Backup | None = None
    with suppress(InputError, RegistryError):
        backup = last_backup(settings)
    good.add_metric([], backup is not None)
    if backup:
        made.add_metric([], backup.made_at.timestamp())
    yield from (good, made)
