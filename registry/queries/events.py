"""The table `events`: a chain of hashes for each model, only ever added to."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, func, select, update

from registry.candidates import seal_json
from registry.queries import rows
from registry.queries.models import Locked
from registry.records import Event, Json
from registry.schema import events, models
from registry.values import microseconds, moment, now

_HASHED = ("at", "actor", "kind", "version", "alias", "previous", "reason", "payload", "prev_hash")

MOVES = ("promoted", "rolled back", "unset")
"""The kinds of event that move an alias."""


_MOVE_HEAD = (
    update(models)
    .where(models.c.id == bindparam("model"))
    .values(last_event=bindparam("head"), last_version=bindparam("last"))
)


def hash_of(model: str, fields: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of the canonical JSON (RFC 8785) of an event and its model's name.

    `prev_hash` is one of the fields, so a hash vouches for everything before it, too.
    """
    document = {"model": model, **{name: fields[name] for name in _HASHED}}
    return seal_json(document)


def add(
    c: Connection,
    model: Locked,
    kind: str,
    actor: str,
    *,
    version: int | None = None,
    alias: str | None = None,
    previous: int | None = None,
    reason: str | None = None,
    payload: Json | None = None,
) -> None:
    """Append to a model's history; the model's counter is written along with its head."""
    fields = {
        "at": now(),
        "actor": actor,
        "kind": kind,
        "version": version,
        "alias": alias,
        "previous": previous,
        "reason": reason,
        "payload": payload or {},
        "prev_hash": model.head,
    }
    model.head = hash_of(model.name, fields)
    row = {"model_id": model.id, "hash": model.head, **fields}
    rows.add(c, events, [row])
    head = {"head": model.head, "last": model.last_version, "model": model.id}
    c.execute(_MOVE_HEAD, head)


def load(c: Connection, *where: ColumnElement[bool], limit: int | None = None) -> list[Event]:
    """The events that meet conditions on `events`, newest first."""
    return [_event(row) for row in c.execute(query(*where).limit(limit)).all()]


def query(*where: ColumnElement[bool]) -> Select[Any]:
    """The statement behind `load`."""
    newest = events.c.id.desc()
    return select(events, models.c.name.label("model")).join(models).where(*where).order_by(newest)


def chain(c: Connection, model: int) -> list[Row[Any]]:
    """All that is stored of a model's events, oldest first."""
    query = select(events).where(events.c.model_id == model).order_by(events.c.id)
    return list(c.execute(query).all())


def holders(c: Connection, model: int, alias: str) -> list[int]:
    """The versions that held an alias one after the other since it was set, the present one last.

    A rollback took those away that it went back over.
    """
    moves = (events.c.model_id == model, events.c.alias == alias, events.c.kind.in_(MOVES))
    query = select(events.c.kind, events.c.version).where(*moves).order_by(events.c.id)
    held: list[int] = []
    for kind, version in c.execute(query):
        if kind == "promoted":
            held.append(version)
        elif kind == "unset":
            held.clear()
        else:
            held.pop()
            while held[-1] != version:
                held.pop()
    return held


def holder_at(c: Connection, model: int, alias: str, when: datetime) -> int | None:
    """The version that an alias pointed to at a moment, None if to none."""
    moves = (events.c.model_id == model, events.c.alias == alias, events.c.kind.in_(MOVES))
    query = select(events.c.kind, events.c.version).where(*moves, events.c.at <= microseconds(when))
    row = c.execute(query.order_by(events.c.id.desc()).limit(1)).one_or_none()
    return None if row is None or row.kind == "unset" else row.version


def moves_of(c: Connection, model: int, alias: str) -> int:
    """How often an alias was moved: the revision that its next life goes on from."""
    moves = (events.c.model_id == model, events.c.alias == alias, events.c.kind.in_(MOVES))
    return c.execute(select(func.count()).where(*moves)).scalar_one()


def _event(row: Row[Any]) -> Event:
    return Event(
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
        hash=row.hash,
    )
