"""What a page shows, read from the registry: a bounded number of rows each."""

import re
import shlex
from dataclasses import dataclass
from typing import Any

from registry.display.documents import headline
from registry.errors import Corrupt, InvalidQuery, NotFound, Unreachable
from registry.records import Event, Holder, Job, Summary, Version
from registry.references import CHALLENGER, CHAMPION
from registry.registry import Registry
from registry.web import plots
from registry.web.plots import Plot

MODELS = 40
VERSIONS = 25
EVENTS = 40
JOBS = 50
CHILDREN = 100
_LARGEST_HISTORY = 1_000_000
COLUMNS = 3
"""Metrics that a list of versions has columns for."""


@dataclass(frozen=True, slots=True)
class VersionList:
    """Some of the versions that a search found, with columns for these metrics."""

    versions: tuple[Summary, ...]
    after: str | None
    columns: tuple[str, ...]
    problem: str | None
    """Why the search could not be understood."""


def holders(registry: Registry, name: str) -> list[Holder]:
    """Who holds a model's aliases, the champion and the challenger first."""
    order = {CHAMPION: 0, CHALLENGER: 1}
    return sorted(registry.holders(name), key=lambda h: (order.get(h.alias.name, 2), h.alias.name))


def version_list(
    registry: Registry,
    name: str,
    wanted: str,
    *,
    order: str = "newest",
    after: str | None = None,
    columns: str = "",
) -> VersionList:
    """Versions that meet the conditions in a text; `columns` are those of the list gone on with."""
    try:
        where = conditions(wanted)
        page = registry.search(name, where, order=order, limit=VERSIONS, after=after)
    except InvalidQuery as problem:
        return VersionList((), None, (), str(problem))
    chosen = tuple(filter(None, columns.split(",")))[:COLUMNS]
    if not chosen and page.versions:
        chosen = _columns(page.versions)
    return VersionList(page.versions, page.after, chosen, None)


def conditions(text: str) -> list[str]:
    """The conditions in a text, one a word: `metric.accuracy >= 0.9 tag.team=risk`.

    Raises:
        InvalidQuery: a quote is left open.
    """
    if not {'"', "'"} & set(text):
        text = re.sub(r"\s*(>=|<=|!=|=|>|<)\s*", r"\1", text)
    try:
        return shlex.split(text)
    except ValueError:
        raise InvalidQuery("A quotation mark is not closed.") from None


def page_of(found: list[Job]) -> dict[str, Any]:
    """A page of jobs, of which one more was asked for; `before` is where the next one begins."""
    return {"jobs": found[:JOBS], "before": found[JOBS - 1].id if len(found) > JOBS else None}


def curves(registry: Registry, version: Version) -> Plot | None:
    """The training curves of a version, from its history.csv; None where it has none to show."""
    found = next((a for a in version.artifacts if a.path == "history.csv"), None)
    if found is None or found.size > _LARGEST_HISTORY:
        return None
    try:
        text = registry.files.fetch(found.sha256, found.size).read_text(encoding="utf-8")
    except (Corrupt, Unreachable, OSError, UnicodeDecodeError):
        return None  # `verify` says what is wrong with it; the rest of the page can be shown
    return plots.training(text)


def next_event(events: list[Event]) -> int | None:
    """Where the older events begin; None where this was the end."""
    return events[-1].id if len(events) == EVENTS else None


def close_names(registry: Registry, error: NotFound) -> list[str]:
    """The models that a message about a missing one names, to link them."""
    return [m.name for m in registry.models() if repr(m.name) in str(error)]


def _columns(versions: tuple[Summary, ...]) -> tuple[str, ...]:
    """The metrics to show of versions, the most telling first."""
    known: dict[str, float] = {}
    for version in versions:
        known |= version.metrics
    first = headline(known)
    rest = [name for name in ("accuracy", "log_loss", "rmse", *sorted(known)) if name in known]
    return tuple(dict.fromkeys((*first, *rest)))[:COLUMNS]
