"""Causes in the registry: refusals, promotions, approvals, the loop, drift, jobs of commands."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from flows.loop.records import ROLLBACK
from flows.loop.records import TOPIC as RETRAINING
from flows.notify.conditions import Conditions, cause_of
from flows.notify.message import Message, message
from flows.notify.runs import TOO_MANY_BAD
from registry import CHALLENGER, CHAMPION, Event, Job, NotFound, Registry, RegistryError
from registry.display.describing import champion_moved
from registry.display.drift import Drift, drift

BATCH = 1000
BEFORE = 100
"""Events that are read again: on PostgreSQL one may become visible after its successors."""
OVERLAP = timedelta(minutes=10)
"""Jobs that are read again: the clocks of machines differ by less."""
MOST_OPEN = 500
"""Running jobs that are looked at; one that was killed may run on in its row for ever."""
DRIFT_OVER_S = 12 * 3600.0
"""Without a drifted job for so long, the drift of a model is over. A file that drifts among others
that do not would otherwise be told of every hour."""


class ModelWatch:
    """Reads events and jobs since the last call. `content` is JSON that the caller keeps."""

    def __init__(self, content: dict[str, Any], project: str) -> None:
        self._content, self._project = content, project
        self._conditions = Conditions(content.setdefault("conditions", {}))

    def read(self, registry: Registry) -> list[Message]:
        """Messages about what happened since the last call. Raises RegistryError."""
        if "jobs" not in self._content:
            self._begin(registry, from_start=False)
        return [*self._events(registry), *self._jobs(registry)]

    def begin_empty(self, registry: Registry) -> None:
        """Begin with a registry that was made while we waited for it: everything is new."""
        if "jobs" not in self._content:
            self._begin(registry, from_start=True)

    def _begin(self, registry: Registry, *, from_start: bool) -> None:
        """Of what happened before nothing is told."""
        newest = [] if from_start else registry.news()
        after = newest[0].id if newest else 0
        now = datetime.now(UTC).isoformat()
        self._content["events"] = {"begun": after, "after": after, "seen": []}
        self._content["jobs"] = {"begun": now, "since": now, "seen": {}, "open": []}

    # Events

    def _events(self, registry: Registry) -> list[Message]:
        kept = self._content["events"]
        found: list[Message] = []
        while True:
            read = registry.news(max(kept["begun"], kept["after"] - BEFORE), limit=BATCH)
            for event in read:
                if event.hash not in kept["seen"]:
                    found += self._judge_event(registry, event)
            if not read:  # nothing new, or an older state of the registry was restored
                newest = registry.news()
                kept["after"] = newest[0].id if newest else 0
                kept["begun"] = min(kept["begun"], kept["after"])
                return found
            kept["after"] = read[-1].id
            kept["seen"] = [event.hash for event in read[-BEFORE:]]
            if len(read) < BATCH:
                return found

    def _judge_event(self, registry: Registry, event: Event) -> Iterator[Message]:
        refused = f"refused {event.model}"
        if event.kind == "registered":
            self._conditions.end(refused)
        elif event.kind == "refused":
            if self._conditions.begin(refused, [cause_of(event.reason or "")], event.at):
                title = f"{event.model}: a gate refused a training"
                yield self._of_event("refused", event, title, event.reason or "")
        elif event.kind in ("promoted", "rolled back", "unset") and event.alias == CHAMPION:
            yield self._of_event("promoted", event, champion_moved(event), event.reason or "")
        elif event.kind == "promoted" and _waits_for_approval(registry, event):
            yield self._approval(event)
        elif event.kind == "noted":
            yield from self._entry(event)

    def _approval(self, event: Event) -> Message:
        ref = f"{event.model}:{event.version}"
        text = (
            f"{event.reason or ''}\nSomebody else than who registered it decides: modelmint models "
            f"approve {ref} --promote, or in the Prefect UI the run `approve {ref}`."
        )
        return self._of_event("approval", event, f"{ref} waits for approval", text.strip())

    def _entry(self, event: Event) -> Iterator[Message]:
        """What the loop did. Of what it promoted or what failed, other events tell."""
        topic, phase = event.payload.get("topic"), event.payload.get("phase")
        text = (event.reason or "").partition(": ")[2]
        if topic == RETRAINING and phase == "started":
            title = f"{event.model}: a training starts by itself"
            yield self._of_event("retraining", event, title, text)
        elif topic == ROLLBACK:
            title = f"{event.model}:{event.version} should be rolled back"
            yield self._of_event("rollback", event, title, text)

    def _of_event(self, kind: str, event: Event, title: str, text: str) -> Message:
        return message(
            kind,
            event.model,
            title,
            text,
            project=self._project,
            key=event.hash,
            at=event.at,
            model=event.model,
            version=event.version,
            previous=event.previous,
            how=event.kind,
            actor=event.actor,
            reason=event.reason,
        )

    # Jobs

    def _jobs(self, registry: Registry) -> list[Message]:
        kept = self._content["jobs"]
        begun, since = (datetime.fromisoformat(kept[name]) for name in ("begun", "since"))
        found = self._judge_jobs(_still_known(registry, kept["open"]))
        start = max(begun, since - OVERLAP)
        while True:
            read = registry.jobs_between(start, limit=BATCH)
            found += self._judge_jobs(read)
            if len(read) < BATCH or read[-1].started_at == start:
                break
            start = read[-1].started_at
        if read:
            # A machine whose clock is ahead must not hide what begins in the meantime.
            newest = min(read[-1].started_at, datetime.now(UTC))
            kept["since"] = max(since, newest).isoformat()
            oldest = max(since, newest) - 2 * OVERLAP
            kept["seen"] = {
                id_: at for id_, at in kept["seen"].items() if datetime.fromisoformat(at) >= oldest
            }
        return found

    def _judge_jobs(self, jobs: Sequence[Job]) -> list[Message]:
        """Judge those that have ended, in the order in which they did; remember the others."""
        kept, found = self._content["jobs"], list[Message]()
        going_on = [job.id for job in jobs if not job.finished_at]
        kept["open"] = list(dict.fromkeys([*kept["open"], *going_on]))[-MOST_OPEN:]
        ended = [job for job in jobs if job.finished_at and job.id not in kept["seen"]]
        for job in sorted(ended, key=lambda job: (job.finished_at or job.started_at, job.id)):
            found += self._judge_job(job)
            kept["seen"][job.id] = job.started_at.isoformat()
            if job.id in kept["open"]:
                kept["open"].remove(job.id)
        return found

    def _judge_job(self, job: Job) -> Iterator[Message]:
        at = job.finished_at or job.started_at
        if job.flow_run_id is None:  # else its flow run tells of it
            yield from self._command(job, at)
        found = drift(job.drift)
        if found and found.training.verdict:
            yield from self._drift(job, found, at)

    def _command(self, job: Job, at: datetime) -> Iterator[Message]:
        """A job of `modelmint predict`; its condition is that of its input, so of `output`."""
        key = f"job {job.model} {job.output}"
        if job.state == "completed":
            if over := self._conditions.end(key):
                title = f"{job.model}: predictions in {job.output} are complete now"
                text = f"It had failed {over.times} times since {over.since:%Y-%m-%d %H:%M} UTC."
                yield self._of_job("recovered", job, title, text, times=over.times)
            return
        bad = (job.error or "").startswith(TOO_MANY_BAD)
        event = "quarantine" if bad else "crashed" if job.state == "lost" else "failed"
        cause = "quarantine" if bad else cause_of(f"{job.state}: {job.error}")
        if self._conditions.begin(key, [cause], at):
            what = {"quarantine": "published nothing: too many rows cannot be predicted"}
            title = f"{job.model}:{job.version}: a job {what.get(event, event)}"
            yield self._of_job(event, job, title, job.error or "its process was killed")

    def _drift(self, job: Job, found: Drift, at: datetime) -> Iterator[Message]:
        key = f"drift {job.model}"
        if found.training.verdict != "drifted":
            if over := self._conditions.end(key, at, DRIFT_OVER_S):
                text = f"{over.times} jobs had drifted since {over.since:%Y-%m-%d %H:%M} UTC."
                title = f"{job.model}: the rows are like those of the training again"
                yield self._of_job("recovered", job, title, text, times=over.times)
            return
        # Each column is a cause, and another version has another reference.
        names = [part.name for part in found.parts if part.verdict == "drifted"]
        if self._conditions.begin(key, [f"{job.version} {name}" for name in names or [""]], at):
            title = f"{job.model}: the rows of a job have drifted"
            columns = list(found.training.columns)
            text = str(found.training)
            yield self._of_job(
                "drifted", job, title, text, columns=columns, moved=found.training.moved
            )

    def _of_job(self, event: str, job: Job, title: str, text: str, **more: Any) -> Message:
        return message(
            event,
            job.model,
            title,
            text,
            project=self._project,
            key=job.id,
            at=job.finished_at,
            model=job.model,
            version=job.version,
            job=job.id,
            output=job.output,
            rows=job.rows,
            quarantined=job.quarantined,
            flow_run_id=job.flow_run_id,
            **more,
        )


def _still_known(registry: Registry, ids: Sequence[str]) -> list[Job]:
    found = []
    for id_ in ids:
        with suppress(NotFound):
            found.append(registry.job(id_))
    return found


def _waits_for_approval(registry: Registry, event: Event) -> bool:
    """Whether the event made a challenger that still needs somebody's approval."""
    if event.alias != CHALLENGER:
        return False
    try:
        if not registry.model(event.model).policy.four_eyes:
            return False
        version = registry.resolve(f"{event.model}:{event.version}").version
    except RegistryError:
        return True
    return version.status == "candidate"
