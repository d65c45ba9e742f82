"""The table `events`: one append-only chain of hashes for each model."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    cast,
    func,
    insert,
    select,
    type_coerce,
)
from sqlalchemy.types import NullType

from registry.digests import seal_json
from registry.errors import Corrupt
from registry.queries import rows
from registry.queries.models import Locked
from registry.queries.rows import AnyRow, AnySelect
from registry.records import Event, Json
from registry.schema import events, models
from registry.values import microseconds, moment, now, parse_object, shown

_HASHED = ("at", "actor", "kind", "version", "alias", "previous", "reason", "payload", "prev_hash")

TOPIC = "topic"
"""The key of a payload that makes a note an entry."""

MOVES = ("promoted", "rolled back", "unset")
"""The kinds of event that move an alias."""


def hash_of(model: str, fields: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of the canonical JSON (RFC 8785) of an event and its model's name.

    `prev_hash` is one of the fields, so a hash also depends on all earlier events.
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
    """Append to a model's history; a trigger updates the model's head."""
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
    # inline: without the new id, since returning it would end a pipeline of statements.
    c.execute(insert(events).inline(), {"model_id": model.id, "hash": model.head, **fields})


def load(c: Connection, *where: ColumnElement[bool], limit: int | None = None) -> list[Event]:
    """The events that meet conditions on `events`, newest first."""
    with rows.any_bytes(c):
        found = c.execute(query(*where).limit(limit)).all()
    return [_event(row) for row in found]


def load_entries(
    c: Connection, model: int, topic: str, *where: ColumnElement[bool], limit: int | None = None
) -> list[Event]:
    """The entries of a model about a topic that meet conditions on `events`, newest first.

    The topic is asked for in the reason, and then in the payload: that of an edited event may not
    be JSON, and a query of it would fail for all.
    """
    e, start = events.c, f"{topic}: "
    begins = func.substr(e.reason, 1, len(start)) == start
    found = load(c, e.model_id == model, e.kind == "noted", begins, *where)
    return [event for event in found if event.payload.get(TOPIC) == topic][:limit]


def load_after(c: Connection, id_: int, limit: int) -> list[Event]:
    """The events of all models after that one, oldest first."""
    oldest = query(events.c.id > id_).order_by(None).order_by(events.c.id).limit(limit)
    with rows.any_bytes(c):
        found = c.execute(oldest).all()
    return [_event(row) for row in found]


def query(*where: ColumnElement[bool]) -> AnySelect:
    """The statement behind `load`."""
    newest = events.c.id.desc()
    return (
        select(*_STORED, models.c.name.label("model")).join(models).where(*where).order_by(newest)
    )


def holders(c: Connection, model: int, alias: str) -> list[int]:
    """The versions that held an alias since it was last set, in order, the present one last.

    Versions that were rolled back are left out.

    Raises:
        Corrupt: the moves do not follow from each other: somebody edited them.
    """
    return _periods(c, model, alias)[-1]


def former_holders(c: Connection, model: int, alias: str) -> list[int]:
    """The versions that held an alias, each once, in the order in which rollbacks reach them.

    The present holder comes first. Holders from before the alias was last unset come at the end: no
    rollback reaches them, but they may be needed when the alias is set again.
    """
    periods = _periods(c, model, alias)
    return list(dict.fromkeys(version for held in reversed(periods) for version in reversed(held)))


def latest_holders(c: Connection, model: int, alias: str) -> list[int]:
    """The versions that held an alias, each once, the latest first, including rolled back ones."""
    moves = (events.c.model_id == model, events.c.alias == alias, events.c.kind.in_(MOVES[:2]))
    query = select(events.c.version).where(*moves).group_by(events.c.version)
    return list(c.execute(query.order_by(func.max(events.c.id).desc())).scalars())


def _periods(c: Connection, model: int, alias: str) -> list[list[int]]:
    """The result of `holders` for each period in which the alias was set."""
    moves = (events.c.model_id == model, events.c.alias == alias, events.c.kind.in_(MOVES))
    query = select(events.c.id, events.c.kind, events.c.version).where(*moves)
    held: list[int] = []
    periods = [held]
    for id_, kind, version in c.execute(query.order_by(events.c.id)):
        if kind == "unset":
            held = []
            periods.append(held)
        elif not isinstance(version, int) or (kind == "rolled back" and version not in held[:-1]):
            raise Corrupt(
                f"The history of {alias} was edited: event {id_} ({kind}) does not follow from the "
                "earlier ones. Nothing was changed. Run `modelmint models verify`, then promote "
                "the version that you want."
            )
        elif kind == "promoted":
            held.append(version)
        else:
            held.pop()
            while held[-1] != version:
                held.pop()
    return periods


def holder_at(c: Connection, model: int, alias: str, when: datetime) -> int | None:
    """The version that an alias pointed to at a time; None if it was not set."""
    moves = (events.c.model_id == model, events.c.alias == alias, events.c.kind.in_(MOVES))
    query = select(events.c.kind, events.c.version).where(*moves, events.c.at <= microseconds(when))
    row = c.execute(query.order_by(events.c.id.desc()).limit(1)).one_or_none()
    return None if row is None or row.kind == "unset" else row.version


@dataclass(frozen=True, slots=True)
class Moves:
    """The state of an alias by its history."""

    count: int
    """The number of moves."""
    holder: int | None
    """The version that it points to; None: it is not set."""


def moves_of(c: Connection, model: int, alias: str) -> Moves:
    """The state of an alias by its history, regardless of its row."""
    moves = (events.c.model_id == model, events.c.alias == alias, events.c.kind.in_(MOVES))
    query = select(events.c.kind, events.c.version, func.count().over()).where(*moves)
    row = c.execute(query.order_by(events.c.id.desc()).limit(1)).one_or_none()
    if row is None:
        return Moves(0, None)
    kind, version, count = row
    return Moves(count, None if kind == "unset" else version)


# Read as stored, without conversion: one edited row must not hide the others.
_STORED = [
    type_coerce(cast(column, Text) if column.name == "payload" else column, NullType()).label(
        column.name
    )
    for column in events.columns
]


def _event(row: AnyRow) -> Event:
    payload, complaint = parse_object(row.payload)
    wrong = [f"its payload {complaint}"] if complaint else []
    try:
        at = moment(row.at)
    except (OverflowError, TypeError, ValueError):
        at, wrong = moment(0), [*wrong, f"its time is invalid: {shown(row.at)}"]
    return Event(
        id=row.id,
        model=row.model,
        at=at,
        actor=row.actor,
        kind=row.kind,
        version=row.version,
        alias=row.alias,
        previous=row.previous,
        reason=row.reason,
        payload={"malformed": "; ".join(wrong)} if wrong else payload,
        hash=row.hash,
    )
