"""The table `jobs`: batch inferences."""

from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    func,
    literal,
    select,
    tuple_,
    update,
)

from registry.errors import Conflict, NotFound
from registry.queries import models as models_
from registry.queries import on_conflict
from registry.queries.rows import AnyRow, AnySelect, typed
from registry.records import Job, JobTotals, Resolved
from registry.schema import jobs, models, versions
from registry.values import microseconds, moment, now


def start(
    c: Connection, resolved: Resolved, *, input_sha256: str, output: str, flow_run_id: str | None
) -> str:
    """Insert a running job and return its id; one still running for that output is lost."""
    version = resolved.version
    version_id = (
        select(versions.c.id)
        .join(models)
        .where(models.c.name == version.model, versions.c.version == version.version)
    )
    new = on_conflict.insert(c.dialect.name, jobs).values(
        id=str(uuid4()),
        version_id=version_id.scalar_subquery(),
        reference=resolved.reference,
        alias=resolved.alias,
        alias_revision=resolved.revision,
        state="running",
        input_sha256=input_sha256,
        output=output,
        flow_run_id=flow_run_id,
        started_at=now(),
    )
    begin = new.on_conflict_do_nothing().returning(jobs.c.id)
    # Two writers of one output cannot both be alive: the earlier one was killed.
    replaced = and_(jobs.c.output == output, jobs.c.state == "running")
    job_id: str | None = None
    while job_id is None:  # again, where another one began in between
        c.execute(update(jobs).where(replaced).values(state="lost", finished_at=now()))
        job_id = c.execute(begin).scalar_one_or_none()
    return job_id


RUNNING = jobs.c.state == "running"
_DEAD_AFTER = 7 * 86_400_000_000  # microseconds


def dead() -> ColumnElement[bool]:
    """That a job was killed: it runs on in its row alone, for a week now.

    One that is part of a flow run is ended when that is found to have ended.
    """
    begun = jobs.c.started_at < now() - _DEAD_AFTER
    return and_(RUNNING, jobs.c.flow_run_id.is_(None), begun)


def lose_dead(c: Connection, version_id: int) -> None:
    """Mark killed jobs of a version as lost, so that they no longer keep it from being archived."""
    here = and_(jobs.c.version_id == version_id, dead())
    if c.execute(select(jobs.c.id).where(here).limit(1)).first():
        c.execute(update(jobs).where(here).values(state="lost", finished_at=now()))


def end(c: Connection, job_id: str, state: str, **values: Any) -> Job:
    """Close a running job, or raise Conflict where it is not running any more."""
    running = and_(jobs.c.id == job_id, jobs.c.state == "running")
    closed = update(jobs).where(running).values(state=state, finished_at=now(), **values)
    if c.execute(closed).rowcount != 1:
        raise _ended(c, job_id, state)
    return load_one(c, job_id)


def lock_running(c: Connection, job_id: str) -> None:
    """Keep others from ending a job, or raise Conflict where it is not running any more."""
    running = and_(jobs.c.id == job_id, jobs.c.state == "running")
    locked = select(jobs.c.id).where(running).with_for_update(key_share=True)
    if c.execute(locked).first() is None:
        raise _ended(c, job_id, "completed")


def _ended(c: Connection, job_id: str, wanted: str) -> Conflict:
    job = load_one(c, job_id)
    why = ", since a later job took over its output" if job.state == "lost" else " already"
    return Conflict(f"Job {job_id} cannot become {wanted}: it is {job.state}{why}.")


def load_one(c: Connection, job_id: str) -> Job:
    """One job, or NotFound."""
    found = load(c, jobs.c.id == job_id)
    if not found:
        raise _missing(job_id)
    return found[0]


def _missing(job_id: str) -> NotFound:
    return NotFound(
        f"There is no job {job_id!r} in this registry; `modelmint models jobs` lists them."
    )


def page(
    c: Connection, *where: ColumnElement[bool], limit: int, before: str | None
) -> tuple[tuple[Job, ...], str | None]:
    """Some of the jobs that meet conditions, and `before` for the next page; None: no more."""
    found = load(c, *where, limit=limit + 1, before=before)
    shown = tuple(found[:limit])
    return shown, shown[-1].id if len(found) > limit else None


def of_model(c: Connection, name: str) -> ColumnElement[bool]:
    """The condition that jobs are of a model; raises NotFound."""
    id_ = models_.load_id(c, name)
    _, size = models_.find_size(c, name)
    # For a model with many versions, `+ 0` keeps the planner from using the index on versions: it
    # reads the jobs from the newest on instead, and stops after a page.
    own = versions.c.model_id
    return own == id_ if size <= _FEW else own + 0 == id_


_FEW = 1000
"""For up to this many versions of a model, jobs are looked up version by version."""


def count(c: Connection, version_id: int) -> int:
    """How many jobs there are of a version."""
    counted = select(func.count()).select_from(jobs).where(jobs.c.version_id == version_id)
    return c.execute(counted).scalar_one()


def load(
    c: Connection,
    *where: ColumnElement[bool],
    limit: int | None = None,
    before: str | None = None,
) -> list[Job]:
    """The jobs that meet conditions on `jobs`, `versions` or `models`, newest first.

    With `before`, only jobs that are older than the job with that id; NotFound if it is missing.
    """
    if before is not None:
        started = c.execute(select(jobs.c.started_at).where(jobs.c.id == before)).scalar()
        if started is None:
            raise _missing(before)
        here = tuple_(jobs.c.started_at, jobs.c.id)
        where = (*where, here < tuple_(literal(started), literal(before)))
    return [_job(row) for row in c.execute(query(*where).limit(limit))]


def _job(row: AnyRow) -> Job:
    return Job(
        id=row.id,
        model=row.model,
        version=row.version,
        reference=row.reference,
        alias=row.alias,
        alias_revision=row.alias_revision,
        state=row.state,
        input_sha256=row.input_sha256,
        output=row.output,
        rows=row.rows,
        quarantined=row.quarantined,
        provider=row.provider,
        onnxruntime=row.onnxruntime,
        flow_run_id=row.flow_run_id,
        error=row.error,
        started_at=moment(row.started_at),
        finished_at=None if row.finished_at is None else moment(row.finished_at),
        substituted=None if row.substituted is None else typed(dict, row.substituted),
        drift=None if row.drift is None else typed(dict, row.drift),
    )


def between(c: Connection, since: datetime, until: datetime | None, limit: int) -> list[Job]:
    """The jobs of all models that began in a time, oldest first: a range of the index of times."""
    where = [jobs.c.started_at >= microseconds(since)]
    if until is not None:
        where.append(jobs.c.started_at <= microseconds(until))
    oldest = query(*where).order_by(None).order_by(jobs.c.started_at, jobs.c.id)
    return [_job(row) for row in c.execute(oldest.limit(limit))]


def totals(c: Connection, since: datetime) -> list[JobTotals]:
    """The jobs that began since a time, counted by model and state."""
    seconds = (jobs.c.finished_at - jobs.c.started_at) / 1e6
    counted = (
        select(
            models.c.name,
            jobs.c.state,
            func.count(),
            func.sum(jobs.c.rows),
            func.sum(jobs.c.quarantined),
            func.sum(seconds),
        )
        .join(versions, versions.c.id == jobs.c.version_id)
        .join(models, models.c.id == versions.c.model_id)
        .where(jobs.c.started_at >= microseconds(since))
        .group_by(models.c.name, jobs.c.state)
    )
    return [
        JobTotals(name, state, number, int(rows or 0), int(bad or 0), float(took or 0))
        for name, state, number, rows, bad, took in c.execute(counted)
    ]


def latest(c: Connection, name: str, looked_at: int) -> tuple[Job | None, Job | None]:
    """The newest job of a model, and the newest one with drift among the `looked_at` newest ones
    of each of the versions that were used last.
    """
    of_version = jobs.c.version_id == versions.c.id
    # One entry of an index for each version; to sort all jobs of a model would mean to read them.
    newest = select(func.max(jobs.c.started_at)).where(of_version).scalar_subquery()
    used = select(versions.c.id, newest.label("at")).where(
        versions.c.model_id == models_.load_id(c, name)
    )
    found = [(row.at, row.id) for row in c.execute(used) if row.at is not None]
    last: list[tuple[int, str, bool]] = []
    for _, version_id in sorted(found, reverse=True)[:_LAST_USED]:
        own = select(jobs.c.started_at, jobs.c.id, jobs.c.drift.is_not(None))
        own = own.where(jobs.c.version_id == version_id)
        newest_first = own.order_by(jobs.c.started_at.desc(), jobs.c.id.desc()).limit(looked_at)
        last += [(at, id_, bool(has_drift)) for at, id_, has_drift in c.execute(newest_first)]
    if not last:
        return None, None
    last.sort(reverse=True)
    measured = next((id_ for _, id_, has_drift in last if has_drift), "")
    by_id = {job.id: job for job in load(c, jobs.c.id.in_({last[0][1], measured}))}
    return by_id[last[0][1]], by_id.get(measured)


_LAST_USED = 3
"""Versions of a model in which its newest jobs are looked for."""


def query(*where: ColumnElement[bool]) -> AnySelect:
    """The statement behind `load`."""
    return (
        select(jobs, models.c.name.label("model"), versions.c.version)
        .join(versions, versions.c.id == jobs.c.version_id)
        .join(models, models.c.id == versions.c.model_id)
        .where(*where)
        .order_by(jobs.c.started_at.desc(), jobs.c.id.desc())
    )
