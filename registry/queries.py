"""Every SQL statement of the registry but the jobs'. Each function takes its caller's
transaction and never commits; what it returns is a record, an id or nothing.
"""

import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, select, update

from registry.errors import NotFound, choices
from registry.records import Alias, Artifact, Candidate, Event, Json, Lineage, Model, Version
from registry.schema import aliases, events, models, version_artifacts, version_metrics, versions

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> int:
    """Microseconds since 1970, as the tables keep them."""
    return time.time_ns() // 1000


def moment(microseconds: int) -> datetime:
    """A stored time as a record shows it, exactly."""
    return _EPOCH + timedelta(microseconds=microseconds)


# Models


def model_id(c: Connection, name: str) -> int:
    """The id of a model; NotFound names the close match."""
    found = find_model(c, name)
    if found is None:
        known = c.execute(select(models.c.name)).scalars()
        raise NotFound(f"There is no model {name!r}. {choices(name, known)}")
    return found


def ensure_model(c: Connection, name: str) -> int:
    """The id of a model that is made if it is new."""
    found = find_model(c, name)
    if found is not None:
        return found
    new = insert(models).values(name=name, last_version=0, created_at=now())
    made: int = c.execute(new.returning(models.c.id)).scalar_one()
    return made


def find_model(c: Connection, name: str) -> int | None:
    """The id of a model, None if it is new."""
    return c.execute(select(models.c.id).where(models.c.name == name)).scalar_one_or_none()


def load_models(c: Connection) -> list[Model]:
    """All models, by name."""
    held = defaultdict(list)
    for alias in load_aliases(c):
        held[alias.model].append(alias)
    counted = (
        select(models.c.name, models.c.last_version, func.count(versions.c.id))
        .outerjoin(versions, versions.c.model_id == models.c.id)
        .group_by(models.c.id)
        .order_by(models.c.name)
    )
    return [Model(name, last, count, tuple(held[name])) for name, last, count in c.execute(counted)]


# Versions


def find_version(c: Connection, model: int, digest: str, dataset: str) -> int | None:
    """The number of the version with these bytes from this dataset, if there is one."""
    same = and_(versions.c.model_id == model, versions.c.digest == digest)
    query = select(versions.c.version).where(same, versions.c.dataset == dataset)
    return c.execute(query).scalar_one_or_none()


def add_version(
    c: Connection,
    model: int,
    candidate: Candidate,
    artifacts: tuple[Artifact, ...],
    digest: str,
    actor: str,
) -> int:
    """Insert a version under the model's next number, which is returned."""
    counter = update(models).where(models.c.id == model)
    counter = counter.values(last_version=models.c.last_version + 1)
    number: int = c.execute(counter.returning(models.c.last_version)).scalar_one()
    lineage = candidate.lineage
    new = insert(versions).values(
        model_id=model,
        version=number,
        digest=digest,
        dataset=lineage.dataset,
        test_split=lineage.test_split,
        signature=candidate.signature,
        params=candidate.params,
        evaluation=candidate.evaluation,
        git_commit=lineage.git_commit,
        git_dirty=lineage.git_dirty,
        flow_run_id=lineage.flow_run_id,
        libraries=lineage.libraries,
        created_at=now(),
        created_by=actor,
    )
    version_id = c.execute(new.returning(versions.c.id)).scalar_one()
    for a in artifacts:
        part = {"path": a.path, "sha256": a.sha256, "size": a.size, "identity": a.identity}
        c.execute(insert(version_artifacts).values(version_id=version_id, **part))
    for key, value in candidate.metrics.items():
        c.execute(insert(version_metrics).values(version_id=version_id, key=key, value=value))
    return number


def load_version(c: Connection, name: str, number: int) -> Version:
    """One version; NotFound says which numbers there are."""
    model = model_id(c, name)
    found = load_versions(c, versions.c.model_id == model, versions.c.version == number)
    if not found:
        last = c.execute(select(models.c.last_version).where(models.c.id == model)).scalar_one()
        there_is = f"It has 1 to {last}, {name}:{last} is the newest" if last else "It has none yet"
        raise NotFound(f"Model {name!r} has no version {number}. {there_is}.")
    return found[0]


def load_versions(c: Connection, *where: ColumnElement[bool]) -> list[Version]:
    """The versions that meet conditions on the table `versions`, newest first."""
    chosen = select(versions.c.id).where(*where).scalar_subquery()
    parts: dict[int, list[Artifact]] = defaultdict(list)
    metrics: dict[int, dict[str, float]] = defaultdict(dict)
    names: dict[int, list[str]] = defaultdict(list)
    files = select(version_artifacts).where(version_artifacts.c.version_id.in_(chosen))
    for row in c.execute(files.order_by(version_artifacts.c.path)):
        parts[row.version_id].append(Artifact(row.path, row.sha256, row.size, row.identity))
    values = select(version_metrics).where(version_metrics.c.version_id.in_(chosen))
    for row in c.execute(values.order_by(version_metrics.c.key)):
        metrics[row.version_id][row.key] = row.value
    pointing = select(versions.c.id, aliases.c.alias).join(aliases, _alias_points_here)
    for row in c.execute(pointing.where(*where).order_by(aliases.c.alias)):
        names[row.id].append(row.alias)
    query = select(versions, models.c.name.label("model")).join(models).where(*where)
    return [
        _version(row, metrics[row.id], tuple(parts[row.id]), tuple(names[row.id]))
        for row in c.execute(query.order_by(models.c.name, versions.c.version.desc()))
    ]


_alias_points_here = and_(
    aliases.c.model_id == versions.c.model_id, aliases.c.version == versions.c.version
)


def _version(
    row: Row[Any], metrics: dict[str, float], parts: tuple[Artifact, ...], names: tuple[str, ...]
) -> Version:
    lineage = Lineage(
        dataset=row.dataset,
        test_split=row.test_split,
        git_commit=row.git_commit,
        git_dirty=row.git_dirty,
        flow_run_id=row.flow_run_id,
        libraries=row.libraries,
    )
    return Version(
        model=row.model,
        version=row.version,
        digest=row.digest,
        signature=row.signature,
        metrics=metrics,
        params=row.params,
        evaluation=row.evaluation,
        lineage=lineage,
        artifacts=parts,
        aliases=names,
        created_at=moment(row.created_at),
        created_by=row.created_by,
    )


def referenced(c: Connection) -> set[str]:
    """The SHA-256 of every file that some version needs."""
    return set(c.execute(select(version_artifacts.c.sha256).distinct()).scalars())


# Aliases


def load_aliases(c: Connection, *where: ColumnElement[bool]) -> list[Alias]:
    """The aliases that meet conditions on `aliases` or `models`, by model and name."""
    query = select(models.c.name, aliases.c.alias, aliases.c.version, aliases.c.revision)
    query = query.join(models, models.c.id == aliases.c.model_id).where(*where)
    rows = c.execute(query.order_by(models.c.name, aliases.c.alias))
    return [Alias(name, alias, version, revision) for name, alias, version, revision in rows]


def find_alias(c: Connection, name: str, alias: str) -> Alias | None:
    """An alias of a model; None also where there is no such model."""
    found = load_aliases(c, models.c.name == name, aliases.c.alias == alias)
    return found[0] if found else None


def load_alias(c: Connection, name: str, alias: str) -> Alias:
    """An alias of a model; NotFound names the close match."""
    found = find_alias(c, name, alias)
    if found is None:
        model_id(c, name)
        known = [held.name for held in load_aliases(c, models.c.name == name)]
        raise NotFound(
            f"Model {name!r} has no alias {alias!r}. {choices(alias, known)} "
            f"Promote a version first, or name one: {name}:1."
        )
    return found


def move_alias(c: Connection, model: int, alias: str, version: int, revision: int) -> bool:
    """Point an alias that is at `revision` (0: not there yet) to a version.

    Returns False where somebody else has moved it.
    """
    if revision == 0:
        new = insert(aliases).values(model_id=model, alias=alias, version=version, revision=1)
        c.execute(new)
        return True
    here = and_(aliases.c.model_id == model, aliases.c.alias == alias)
    move = update(aliases).where(here, aliases.c.revision == revision)
    return c.execute(move.values(version=version, revision=revision + 1)).rowcount == 1


# Events


def add_event(
    c: Connection,
    model: int,
    kind: str,
    actor: str,
    *,
    version: int | None = None,
    alias: str | None = None,
    previous: int | None = None,
    reason: str | None = None,
    payload: Json | None = None,
) -> int:
    """Append a line to a model's history and return its id."""
    new = insert(events).values(
        model_id=model,
        at=now(),
        actor=actor,
        kind=kind,
        version=version,
        alias=alias,
        previous=previous,
        reason=reason,
        payload=payload or {},
    )
    event: int = c.execute(new.returning(events.c.id)).scalar_one()
    return event


def load_events(c: Connection, *where: ColumnElement[bool]) -> list[Event]:
    """The events that meet conditions on the table `events`, newest first."""
    query = select(events, models.c.name.label("model")).join(models).where(*where)
    return [
        Event(
            id=row.id,
            model=row.model,
            at=moment(row.at),
            actor=row.actor,
            kind=row.kind,
            version=row.version,
            alias=row.alias,
            previous=row.previous,
            reason=row.reason,
            payload=row.payload,
        )
        for row in c.execute(query.order_by(events.c.id.desc()))
    ]
