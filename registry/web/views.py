"""What a page shows, read from the registry: a bounded number of rows each."""

import re
import shlex
from dataclasses import dataclass
from itertools import islice

from registry.documents import headline
from registry.errors import InvalidQuery, NotFound
from registry.records import Alias, Event, Job, Model, Summary
from registry.references import CHALLENGER, CHAMPION
from registry.store import Registry

MODELS = 40
VERSIONS = 25
EVENTS = 40
JOBS = 50
COLUMNS = 3
"""Metrics that a list of versions has columns for."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds an alias: the version, and since when."""

    alias: Alias
    version: Summary | None
    moved: Event | None


@dataclass(frozen=True, slots=True)
class ModelLine:
    """A line of the list of models."""

    model: Model
    holders: dict[str, Holder]
    changed: Event | None


@dataclass(frozen=True, slots=True)
class ModelList:
    """Some of the models; `after` is the last name when there are more."""

    lines: tuple[ModelLine, ...]
    after: str | None
    any: bool
    """Whether there is any model at all."""


@dataclass(frozen=True, slots=True)
class VersionList:
    """Some of the versions that a search found, with columns for these metrics."""

    versions: tuple[Summary, ...]
    after: str | None
    columns: tuple[str, ...]
    problem: str | None
    """Why the search could not be understood."""


@dataclass(frozen=True, slots=True)
class BuiltOn:
    """Some of the versions that were built on a dataset or a raw file, and the jobs of all."""

    versions: tuple[Summary, ...]
    after: str | None
    jobs: tuple[Job, ...] | None
    """Newest first; None where they are of too many versions to look for."""
    problem: str | None


def built_on(registry: Registry, md5: str, after: str | None) -> BuiltOn:
    """What was built on the data of that hash, from the version after `after` on."""
    if not md5:
        return BuiltOn((), None, (), None)
    try:
        page = registry.search(None, [f"dataset={md5}"], limit=VERSIONS, after=after)
    except InvalidQuery:
        return BuiltOn((), None, (), f"{md5!r} is no hash.")
    few = after is None and page.after is None
    jobs = registry.trace_data(md5).jobs[:JOBS] if few else None
    return BuiltOn(page.versions, page.after, jobs, None)


def model_list(registry: Registry, wanted: str, after: str) -> ModelList:
    """Models whose name contains `wanted`, by name, from the one after `after` on."""
    models = registry.models()
    found = (m for m in models if wanted.lower().strip() in m.name and m.name > after)
    page = list(islice(found, MODELS + 1))
    shown, more = page[:MODELS], len(page) > MODELS
    lines = tuple(
        ModelLine(
            model,
            {h.alias.name: h for h in holders(registry, model, (CHAMPION, CHALLENGER))},
            next(iter(registry.history(model.name, limit=1)), None),
        )
        for model in shown
    )
    return ModelList(lines, shown[-1].name if more else None, bool(models))


def holders(registry: Registry, model: Model, only: tuple[str, ...] = ()) -> list[Holder]:
    """Who holds a model's aliases, the champion and the challenger first."""
    order = {CHAMPION: 0, CHALLENGER: 1}
    found = []
    for alias in sorted(model.aliases, key=lambda a: (order.get(a.name, 2), a.name)):
        if not only or alias.name in only:
            page = registry.search(model.name, [f"alias={alias.name}"], limit=1)
            moves = registry.history(model.name, alias=alias.name, limit=1)
            found.append(Holder(alias, next(iter(page.versions), None), next(iter(moves), None)))
    return found


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
