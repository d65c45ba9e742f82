"""The form of each kind of record in a printed list and in a DataFrame."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from modelmint.listing import Form, Row
from registry import Event, Job, Model, Problem, Stray, Summary
from registry.display.describing import local, why
from registry.display.documents import headline
from registry.display.drift import said


def count(records: Sequence[object], one: str, many: str = "") -> str:
    """The number of records in words: `3 versions`."""
    return f"{len(records):,} {one if len(records) == 1 else many or one + 's'}"


def _flat(record: Any) -> Row:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _names(record: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(record))


def _summary(version: Summary) -> Row:
    plain = {name: getattr(version, name) for name in _SUMMARY}
    metrics = {f"metric.{name}": value for name, value in version.metrics.items()}
    tags = {f"tag.{name}": value for name, value in version.tags.items()}
    return plain | {"aliases": ", ".join(version.aliases)} | metrics | tags


def _summary_shown(version: Summary) -> dict[str, str]:
    first = [version.metric] if version.metric in version.metrics else []
    names = [*first, *headline(version.metrics)][:1]
    return {
        "version": version.ref,
        "status": version.status,
        "aliases": ", ".join(version.aliases),
        **{name: f"{version.metrics[name]:.4f}" for name in names if name is not None},
        "registered": local(version.created_at),
        "by": version.created_by,
    }


def _event_shown(event: Event) -> dict[str, str]:
    return {
        "when": local(event.at),
        "who": event.actor,
        "what": f"{event.kind} {event.alias}" if event.alias else event.kind,
        "version": f"{event.model}:{event.version}" if event.version else "",
        "why": why(event),
    }


def _job_shown(job: Job) -> dict[str, str]:
    return {
        "started": local(job.started_at),
        "version": f"{job.model}:{job.version}",
        "state": job.state,
        "rows": "" if job.rows is None else f"{job.rows:,}",
        "quarantined": "" if job.quarantined is None else f"{job.quarantined:,}",
        "drift": said(job),
        "output": job.error or job.output,
    }


def _model(model: Model) -> Row:
    pointing = {f"alias.{alias.name}": alias.version for alias in model.aliases}
    return {"name": model.name, "versions": model.last_version, **pointing, **_flat(model.policy)}


def _model_shown(model: Model) -> dict[str, str]:
    aliases = (f"{a.name} -> {model.name}:{a.version}" for a in model.aliases)
    return {
        "model": model.name,
        "versions": str(model.last_version),
        "aliases": ", ".join(aliases),
    }


_SUMMARY = (
    "ref", "model", "version", "status", "aliases", "created_at", "created_by", "dataset", "digest",
)  # fmt: skip
SUMMARIES = Form(_summary_shown, _summary, _SUMMARY)
EVENTS = Form(_event_shown, _flat, _names(Event))
JOBS = Form(_job_shown, _flat, _names(Job))
MODELS = Form(_model_shown, _model, ("name", "versions"))
PROBLEMS: Form[Problem] = Form(
    lambda p: {"where": f"{p.ref} {p.path}".rstrip(), "what": p.what}, _flat, _names(Problem)
)
STRAYS: Form[Stray] = Form(
    lambda s: {"file": s.path, "bytes": f"{s.size:,}", "removable": "yes" if s.removable else "no"},
    _flat,
    _names(Stray),
)
