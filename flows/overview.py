"""`modelmint status`: what the server, the schedules, the runs, the models and the disks are at."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flows.alive import living_runs
from flows.backups import last_backup
from flows.deploy import deployed_names, entry_names, owner
from flows.doctor import disks
from flows.drift import LOOKED_AT
from flows.errors import ServerDown
from flows.loop import records
from flows.notify.outbox import channel_states
from flows.notify.state import project_state
from flows.runner import SERVED_WITHIN
from flows.server import find_api
from flows.settings import BACKUP, Settings
from registry import (
    CHALLENGER,
    CHAMPION,
    Event,
    Job,
    ModelLine,
    NoRegistry,
    Registry,
    RegistryError,
)
from registry.display.describing import champion_moved
from registry.display.drift import said
from tasks.errors import InputError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

LATE = timedelta(minutes=5)
"""A run that should have begun so long ago needs a person: `serve` does not run, or all slots are
taken. Prefect itself calls a run late after 15 s."""
STUCK = timedelta(seconds=90)
"""A run without a process for so long: `serve` would have marked it Crashed."""
OLD_BACKUP = timedelta(days=8)
"""A weekly backup may be a day late."""
MODELS = 50


@dataclass(frozen=True)
class Line:
    """A fact of the overview. `attention`: a person must do something."""

    section: str
    name: str
    text: str
    attention: bool = False


Lines = Iterator[Line]


def overview(settings: Settings) -> Lines:
    """Everything, in the order in which a person would look."""
    yield from _server(settings)
    yield from _models(settings)
    yield from _backup(settings)
    yield from _notifications(settings)
    for finding in disks(settings):
        yield Line("disk", "", finding.found, finding.state == "problem")


def age(when: datetime) -> str:
    """How long ago, or in how much time, in its largest unit: `3 h`."""
    seconds = abs((datetime.now(UTC) - when).total_seconds())
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _server(settings: Settings) -> Lines:
    names = deployed_names(settings.root / "prefect.yaml")
    try:
        api = find_api()
    except ServerDown as error:
        yield Line("server", "", str(error), attention=True)
        return
    if api is None:
        text = "no Prefect server runs, so no schedule does: `modelmint serve`"
        yield Line("server", "", text, attention=bool(names))
        return
    yield Line("server", "", f"{api.removesuffix('/api')} answers")
    import httpx
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            yield from _deployments(client, settings, names)
    except httpx.HTTPError as error:
        text = f"stopped answering: {error or type(error).__name__}; `modelmint serve` starts one"
        yield Line("server", "", text, attention=True)


def _deployments(client: "SyncPrefectClient", settings: Settings, names: list[str]) -> Lines:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    from flows.workers import is_of_workers

    path = settings.root / "prefect.yaml"
    entry_of = dict(zip(deployed_names(path), entry_names(path), strict=True))
    wanted = DeploymentFilter(name=DeploymentFilterName(any_=[*names, *entry_of.values()]))
    found = client.read_deployments(deployment_filter=wanted)
    of_workers = {d.name: d for d in found if is_of_workers(d, settings.root)}
    # Those that workers run are not served, and the other way round.
    served = [name for name in names if entry_of.get(name) not in of_workers]
    found = [d for d in found if d.name in served] + list(of_workers.values())
    for name in sorted(set(served) - {deployment.name for deployment in found}):
        yield Line("schedule", name, "was never served: `modelmint serve`", attention=True)
    living = living_runs()
    for deployment in found:
        yield _schedule(client, deployment)
        yield from _last_run(client, deployment)
        here = owner(settings.root) in (deployment.description or "")
        yield from _active(client, deployment, living if here else None)


def _runs(
    client: "SyncPrefectClient", deployment: Any, types: list[str], sort: str, limit: int = 200
) -> list[Any]:
    """The runs of a deployment in states of these types; 200 at most, which is Prefect's limit."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterDeploymentId,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    states = FlowRunFilterStateType(any_=[StateType(name) for name in types])
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]),
        state=FlowRunFilterState(type=states),
    )
    return list(client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort(sort), limit=limit))


def _schedule(client: "SyncPrefectClient", deployment: Any) -> Line:
    """When a deployment runs next, or why it does not."""
    now, polled = datetime.now(UTC), deployment.last_polled
    if deployment.paused or not polled or now - polled > SERVED_WITHIN:
        text = "nobody serves it: `modelmint serve`"
        if pool := deployment.work_pool_name:
            text = f"no worker takes it: `modelmint prefect worker start --pool {pool}`"
        return Line("schedule", deployment.name, text, attention=bool(deployment.schedules))
    waiting = _runs(client, deployment, ["SCHEDULED"], "EXPECTED_START_TIME_ASC")
    due = [run.expected_start_time for run in waiting if run.expected_start_time]
    if not due:
        return Line("schedule", deployment.name, "has no next run; it is started by hand")
    if late := [when for when in due if now - when > LATE]:
        text = f"{len(late)} runs are late, the first by {age(late[0])}"
        return Line("schedule", deployment.name, text, attention=True)
    return Line("schedule", deployment.name, f"runs next in {age(due[0])}")


def _last_run(client: "SyncPrefectClient", deployment: Any) -> Lines:
    """How the last run ended; one that was cancelled or skipped says nothing about the next."""
    over = _runs(client, deployment, ["COMPLETED", "FAILED", "CRASHED"], "END_TIME_DESC", limit=1)
    for run in over:
        ended = age(run.end_time or run.updated)
        failed = run.state_type.value in ("FAILED", "CRASHED")
        message = f": {run.state.message}" if failed and run.state.message else ""
        text = f"{run.name} ended {ended} ago as {run.state_name}{message}"
        # One that was switched off since then cannot end otherwise any more.
        off = bool(deployment.schedules) and not any(s.active for s in deployment.schedules)
        yield Line("last run", deployment.name, text, attention=failed and not off)


def _active(client: "SyncPrefectClient", deployment: Any, living: set[str] | None) -> Lines:
    """What runs now. `living` are the runs with a process on this machine; None: not known."""
    for run in _runs(client, deployment, ["RUNNING", "PENDING", "CANCELLING"], "START_TIME_ASC"):
        since = run.state.timestamp
        dead = living is not None and str(run.id) not in living
        stuck = dead and datetime.now(UTC) - since > STUCK
        text = f"{run.name} is {run.state_name} since {age(since)}"
        lost = ", without a process: `modelmint serve` restarts it" if stuck else ""
        yield Line("running", deployment.name, text + lost, attention=stuck)


def _models(settings: Settings) -> Lines:
    try:
        with settings.open_registry() as registry:
            page = registry.overview(limit=MODELS)
            for line in page.lines:
                yield _model(line)
                yield from _last_job(registry, line.model.name)
                yield from _loop(registry, line.model.name)
            if page.after:
                yield Line(
                    "model", "", f"and more models after {page.after}: `modelmint models list`"
                )
    except NoRegistry:
        yield Line("model", "", "none was registered yet: `modelmint train`")
    except RegistryError as error:
        yield Line("model", "", str(error), attention=True)


def _model(line: ModelLine) -> Line:
    """The champion and the newest version, and whether somebody must approve."""
    model, champion = line.model, line.holders.get(CHAMPION)
    text = f"{model.last_version} versions"
    if champion:
        since = f" since {age(champion.moved.at)}" if champion.moved else ""
        text = f"champion is :{champion.alias.version} of {text}{since}"
    else:
        text = f"no champion, {text}"
    challenger = line.holders.get(CHALLENGER)
    if challenger and waits_for_approval(line):
        text += f"; :{challenger.alias.version} waits for approval: `modelmint models approve`"
        return Line("model", model.name, text, attention=True)
    return Line("model", model.name, text)


def waits_for_approval(line: ModelLine) -> bool:
    """Whether a challenger cannot become champion before somebody approves it."""
    challenger = line.holders.get(CHALLENGER)
    version = challenger.version if challenger else None
    return bool(version and line.model.policy.four_eyes and version.status == "candidate")


def _last_job(registry: Registry, name: str) -> Lines:
    jobs = registry.jobs(name, limit=LOOKED_AT)
    for job in jobs[:1]:
        yield Line("last job", name, _described(job), job.state in ("failed", "lost"))
    for job in [job for job in jobs if job.drift][:1]:  # while the next one runs, too
        drifted = job.drift is not None and job.drift.get("verdict") == "drifted"
        text = f"{said(job)}; {job.model}:{job.version}, job of {age(job.started_at)} ago"
        yield Line("drift", name, text, attention=drifted)


def _loop(registry: Registry, name: str) -> Lines:
    """The last training that started by itself, and what is proposed for the champion."""
    if last := records.read(registry, name).last:
        ended = last.ended
        text = f"{age(last.at)} ago, {last.entries[-1].reason or ''}".replace("retraining: ", "")
        if ended:
            text += f"; {(ended.reason or '').removeprefix('retraining: ')}"
            text += _since(registry, ended)
        else:
            text += "; it goes on, or its process was killed"
        yield Line("retraining", name, text, attention=last.outcome == records.FAILED)
    if proposed := records.proposed_rollback(registry, name):
        yield Line("rollback", name, proposed, attention=True)


def _since(registry: Registry, ended: Event) -> str:
    """What has become of the champion, and of the version of a training, since it ended."""
    name, version = ended.model, ended.version
    later = registry.history(name, alias=CHAMPION, limit=1)
    if version is not None:
        its = registry.history(name, version=version)
        later += [e for e in its if e.kind in ("approved", "rejected", "archived")]
    later = [event for event in later if event.id > ended.id]
    if not later:
        return ""
    last = max(later, key=lambda event: event.id)
    moved = last.alias == CHAMPION
    return f"; since then {champion_moved(last) if moved else f'{name}:{version} was {last.kind}'}"


def _described(job: Job) -> str:
    if job.state == "running":
        return f"{job.model}:{job.version} predicts since {age(job.started_at)}"
    ended = f"{job.state} {age(job.finished_at)} ago" if job.finished_at else job.state
    if job.state != "completed":
        return f"{job.model}:{job.version} {ended}: {job.error}"
    aside = f", {job.quarantined:,} in quarantine" if job.quarantined else ""
    return f"{job.model}:{job.version} {ended}: {job.rows:,} rows{aside}"


def _backup(settings: Settings) -> Lines:
    try:
        backup = last_backup(settings)
    except NoRegistry:
        return  # nothing to lose yet
    except (InputError, RegistryError) as error:
        yield Line("backup", "", str(error), attention=True)
        return
    if backup is None:
        text = f"its age is not known: {BACKUP} does not name its folder"
        yield Line("backup", "", text)
        return
    old = datetime.now(UTC) - backup.made_at > OLD_BACKUP
    advice = f": `modelmint models backup {backup.folder}`" if old else ""
    yield Line("backup", "", f"{backup.folder} is of {age(backup.made_at)} ago{advice}", old)


def _notifications(settings: Settings) -> Lines:
    """The channels of `serve`; nothing if it was never told of any."""
    for channel in channel_states(project_state(settings.root)):
        text = f"{channel.target}: {channel.sent} sent"
        if channel.last_sent:
            text += f", the last {age(channel.last_sent)} ago"
        if channel.dropped:
            text += f", {channel.dropped} given up"
        if channel.waiting:
            text += f", {channel.waiting} wait"
        if channel.failing_since:
            text += f"; fails since {age(channel.failing_since)}: {channel.error}"
        yield Line("notify", channel.name, text, attention=channel.failing_since is not None)
