"""The content of pages, read from the registry: a limited number of rows each."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.display import drift as display
from registry.display.documents import headline, items, mapping, number
from registry.display.drift import Drift
from registry.errors import Corrupt, InvalidQuery, NotFound, Unreachable
from registry.records import Event, Holder, Job, Summary, Version
from registry.references import CHALLENGER, CHAMPION
from registry.registry import Registry
from registry.web import plots
from registry.web.bars import Bars, bars
from registry.web.plots import Plot

MODELS = 40
VERSIONS = 25
EVENTS = 40
JOBS = 50
CHAINS = 5
CHILDREN = 100
_LARGEST_FILE = 1_000_000
COLUMNS = 3
"""The number of metrics with a column in a list of versions."""


@dataclass(frozen=True, slots=True)
class JobDrift:
    """A job, its drift, and plots of the parts that moved most."""

    job: Job
    drift: Drift
    plots: tuple[Bars, ...]


@dataclass(frozen=True, slots=True)
class StudyView:
    """The study of `modelmint tune` that found the parameters of a version."""

    name: str
    trial: float | None
    verdict: str
    importances: Mapping[str, float]
    """The share of the loss's variance that each parameter explains."""
    plot: Plot | None


@dataclass(frozen=True, slots=True)
class VersionList:
    """A page of the versions that a search found; `columns` are metrics."""

    versions: tuple[Summary, ...]
    after: str | None
    columns: tuple[str, ...]
    problem: str | None
    """The error message of an invalid search."""


def holders(registry: Registry, name: str) -> list[Holder]:
    """The holders of a model's aliases, champion and challenger first."""
    order = {CHAMPION: 0, CHALLENGER: 1}
    return sorted(registry.holders(name), key=lambda h: (order.get(h.alias.name, 2), h.alias.name))


def version_list(
    registry: Registry,
    name: str,
    query: str,
    *,
    order: str = "newest",
    after: str | None = None,
    columns: str = "",
) -> VersionList:
    """Versions that meet the conditions in a text; `columns` are those of the previous page."""
    try:
        where = conditions(query)
        page = registry.search(name, where, order=order, limit=VERSIONS, after=after)
    except InvalidQuery as problem:
        return VersionList((), None, (), str(problem))
    chosen = tuple(filter(None, columns.split(",")))[:COLUMNS]
    if not chosen and page.versions:
        chosen = _columns(page.versions)
    return VersionList(page.versions, page.after, chosen, None)


def conditions(text: str) -> list[str]:
    """Split a text into conditions: `metric.accuracy >= 0.9 tag.team=risk`.

    Raises:
        InvalidQuery: a quotation mark is not closed.
    """
    if not {'"', "'"} & set(text):
        text = re.sub(r"\s*(>=|<=|!=|=|>|<)\s*", r"\1", text)
    try:
        return shlex.split(text)
    except ValueError:
        raise InvalidQuery("A quotation mark is not closed.") from None


def page_of(found: list[Job]) -> dict[str, Any]:
    """A page of jobs, from a list with one more; `before` is where the next page begins."""
    return {"jobs": found[:JOBS], "before": found[JOBS - 1].id if len(found) > JOBS else None}


def drift(jobs: Sequence[Job], most: int = 10) -> JobDrift | None:
    """The drift of the first of these jobs for which it was measured, with so many plots."""
    for job in jobs:
        if found := display.drift(job.drift):
            drawn = [bars(part, measure) for part in found.parts for measure in part.measures]
            return JobDrift(job, found, tuple(filter(None, drawn))[:most])
    return None


def last_drift(registry: Registry, name: str, jobs: Sequence[Job]) -> JobDrift | None:
    """The last drift of a model, whose newest jobs are given; they may all have failed."""
    if found := drift(jobs, most=3):
        return found
    _, measured = registry.latest_jobs(name, looked_at=JOBS)
    return drift([measured], most=3) if measured else None


def curves(registry: Registry, version: Version) -> Plot | None:
    """The training curves of a version, from its history.csv; None if it has no usable one."""
    text = _text_of(registry, version, "history.csv")
    return None if text is None else plots.training(text)


def study(registry: Registry, version: Version) -> StudyView | None:
    """The study that found a version's parameters, from its study.json; None without one."""
    if (text := _text_of(registry, version, "study.json")) is None:
        return None
    try:
        found = mapping(json.loads(text))
    except (ValueError, RecursionError):
        return None
    shares = {name: number(share) for name, share in mapping(found.get("importances")).items()}
    name, verdict = found.get("study"), found.get("verdict")
    return StudyView(
        name=name if isinstance(name, str) else "",
        trial=number(found.get("trial")),
        verdict=verdict if isinstance(verdict, str) else "",
        importances={n: share for n, share in shares.items() if share is not None},
        plot=plots.study([mapping(one) for one in items(found.get("trials"))]),
    )


def _text_of(registry: Registry, version: Version, path: str) -> str | None:
    """A file of a version as text; None if it has none that a page can show."""
    found = next((a for a in version.artifacts if a.path == path), None)
    if found is None or found.size > _LARGEST_FILE:
        return None
    try:
        return registry.files.fetch(found.sha256, found.size).read_text(encoding="utf-8")
    except (Corrupt, Unreachable, OSError, UnicodeDecodeError):
        return None  # `verify` reports the damage; the rest of the page can be shown


def next_event(events: list[Event]) -> int | None:
    """The id of the event before which the next page begins; None if there is none."""
    return events[-1].id if len(events) == EVENTS else None


def close_names(registry: Registry, error: NotFound) -> list[str]:
    """The models that an error message names, to link them."""
    return [m.name for m in registry.models() if repr(m.name) in str(error)]


def _columns(versions: tuple[Summary, ...]) -> tuple[str, ...]:
    """The metrics to show of versions, the most important first."""
    known: dict[str, float] = {}
    for version in versions:
        known |= version.metrics
    first = headline(known)
    rest = [name for name in ("accuracy", "log_loss", "rmse", *sorted(known)) if name in known]
    return tuple(dict.fromkeys((*first, *rest)))[:COLUMNS]
