"""Causes in Prefect: runs of this project's deployments that failed or crashed, or came through."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flows.broken import LEFT_OUT
from flows.notify.conditions import Conditions, cause_of
from flows.notify.message import Message, message
from registry import Job

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

OVERLAP = timedelta(minutes=10)
"""The clocks of the machines that end runs differ by less; what was seen is not told again."""
PAGE = 200
"""Prefect's limit."""
PAGES = 10
ENDED = ("COMPLETED", "FAILED", "CRASHED")
REFUSED = "Refused"
"""The name of a failed state of a training that came through; the registry tells of it."""
TOO_MANY_BAD = "TooManyBad:"
"""How the error of a job begins that had more bad rows than `--max-bad` allows."""

FindJobs = Callable[[datetime, datetime], list[Job]]
"""The jobs that began between two times."""


class RunWatch:
    """Reads runs since the last call. `content` is JSON that the caller keeps."""

    def __init__(self, content: dict[str, Any], project: str, ui: str) -> None:
        self._content, self._project, self._ui = content, project, ui
        # Of what ended before the very first call nothing is told.
        self._begun = content.setdefault("begun", datetime.now(UTC).isoformat())
        content.setdefault("cursor", self._begun)
        content.setdefault("seen", {})
        self._conditions = Conditions(content.setdefault("conditions", {}))

    def read(
        self, client: "SyncPrefectClient", names: Mapping[str, str], find_jobs: FindJobs
    ) -> list[Message]:
        """Messages about runs that ended since the last call. Raises what Prefect's client does.

        `names`: the deployments by their name in Prefect, with that in `prefect.yaml`.
        """
        since = datetime.fromisoformat(self._content["cursor"])
        begun = datetime.fromisoformat(self._begun)
        deployments = _deployments(client, list(names))
        seen = self._content["seen"]
        # By state: a run that is retried ends again.
        runs = [
            run
            for run in _ended_since(client, list(deployments), since - OVERLAP)
            if str(run.state_id) not in seen and run.end_time >= begun
        ]
        found = []
        for run in runs:
            found += self._judge(run, names[deployments[run.deployment_id]], find_jobs)
            seen[str(run.state_id)] = run.end_time.isoformat()
        if runs:
            newest = max(since, *(run.end_time for run in runs))
            # A machine whose clock is ahead must not hide what ends in the meantime.
            newest = min(newest, max(since, datetime.now(UTC)))
            self._content["cursor"] = newest.isoformat()
            old = newest - 2 * OVERLAP
            kept = {key: at for key, at in seen.items() if datetime.fromisoformat(at) >= old}
            self._content["seen"] = kept
        return found

    def _judge(self, run: Any, name: str, find_jobs: FindJobs) -> list[Message]:
        key = _work(run)
        if run.state_name == LEFT_OUT:  # nothing has failed again, and nothing is over
            return []
        if run.state_type.value == "COMPLETED" or run.state_name == REFUSED:
            over = self._conditions.end(key)
            return [self._recovered(run, name, over)] if over else []
        said = run.state.message or ""
        event, causes = self._event(run, said, find_jobs)
        if not self._conditions.begin(key, causes, run.end_time):
            return []
        verb = {
            "crashed": "crashed",
            "quarantine": "published nothing: too many rows cannot be predicted",
        }.get(event, "failed")
        return [self._message(event, run, name, f"{name}: {run.name} {verb}", said)]

    def _event(self, run: Any, said: str, find_jobs: FindJobs) -> tuple[str, list[str]]:
        """Which event a bad end is, and its causes."""
        if run.state_type.value == "CRASHED":
            return "crashed", [cause_of(f"crashed: {said}")]
        bad = [
            job
            for job in find_jobs(run.start_time or run.end_time, run.end_time)
            if job.flow_run_id == str(run.id) and (job.error or "").startswith(TOO_MANY_BAD)
        ]
        failed = re.match(r"(\d+) files failed", said)
        if bad and len(bad) >= int(failed[1] if failed else 1):
            return "quarantine", ["quarantine"]  # other rows each time, and still one cause
        return "failed", [cause_of(said)]

    def _recovered(self, run: Any, name: str, over: Any) -> Message:
        text = f"It did not come through {over.times} times since {over.since:%Y-%m-%d %H:%M} UTC."
        title = f"{name}: {run.name} came through again"
        return self._message(
            "recovered", run, name, title, text, times=over.times, since=over.since.isoformat()
        )

    def _message(
        self, event: str, run: Any, name: str, title: str, text: str, **more: Any
    ) -> Message:
        return message(
            event,
            name,
            title,
            text,
            project=self._project,
            key=str(run.state_id),
            at=run.end_time,
            deployment=name,
            run=run.name,
            flow_run_id=str(run.id),
            state=run.state_name,
            url=f"{self._ui}/runs/flow-run/{run.id}",
            **more,
        )


def _work(run: Any) -> str:
    """A deployment with its parameters: other parameters are other work, and fail by themselves."""
    parameters = json.dumps(run.parameters, sort_keys=True, default=str)
    return f"{run.deployment_id} {hashlib.sha256(parameters.encode()).hexdigest()[:16]}"


def _deployments(client: "SyncPrefectClient", names: list[str]) -> dict[Any, str]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    wanted = DeploymentFilter(name=DeploymentFilterName(any_=names))
    return {found.id: found.name for found in client.read_deployments(deployment_filter=wanted)}


def _ended_since(client: "SyncPrefectClient", ids: list[Any], since: datetime) -> list[Any]:
    """The runs that ended since then, earliest first; the newest 2,000 at most."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterDeploymentId,
        FlowRunFilterEndTime,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    if not ids:
        return []
    types = FlowRunFilterStateType(any_=[StateType(name) for name in ENDED])
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=ids),
        state=FlowRunFilterState(type=types),
        end_time=FlowRunFilterEndTime(after_=since),  # type: ignore[arg-type]
    )
    found: list[Any] = []
    for page in range(PAGES):
        more = client.read_flow_runs(
            flow_run_filter=wanted,
            sort=FlowRunSort.END_TIME_DESC,
            limit=PAGE,
            offset=page * PAGE,
        )
        found += more
        if len(more) < PAGE:
            break
    unique = {run.id: run for run in found if run.end_time}  # a page may move while it is read
    return sorted(unique.values(), key=lambda run: run.end_time)
