"""What the history of a model says of its trainings by the loop, and how it is written.

A training is entries of the topic `retraining` with one id: `started`, perhaps `resumed`, `ended`,
and `used` with the first job of the champion that it made. An entry is added only if the newest one
is still that on which the decision was based: so of two that want to start a training, one does.
"""

import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from registry import CHAMPION, Conflict, Event, Registry

TOPIC = "retraining"
ROLLBACK = "rollback"
"""The topic of a proposal to roll back."""
FORMAT = 1
ATTEMPTS = 3
"""How often a training is begun for one cause, before it waits for the cool-down or a person."""
FAILED = "failed"
"""The outcome of a training that made no candidate, so its cause was not answered."""


@dataclass(frozen=True)
class Retraining:
    """A training by the loop, as its entries describe it."""

    id: str
    entries: tuple[Event, ...] = field(repr=False)
    """Newest first."""

    @property
    def started(self) -> Mapping[str, Any]:
        return self.entries[-1].payload

    @property
    def at(self) -> datetime:
        """When it was started: the cool-down begins here."""
        return self.entries[-1].at

    @property
    def attempts(self) -> int:
        return sum(one.payload.get("phase") in ("started", "resumed") for one in self.entries)

    @property
    def holder(self) -> Event:
        """The entry of the flow run that works on it, or did so last."""
        found = (one for one in self.entries if one.payload.get("phase") in ("started", "resumed"))
        return next(found, self.entries[-1])

    @property
    def ended(self) -> Event | None:
        """How the last attempt ended; None while it goes on, or after it was killed."""
        trained = (one for one in self.entries if one.payload.get("phase") != "used")
        newest = next(trained, self.entries[-1])
        return newest if newest.payload.get("phase") == "ended" else None

    @property
    def used(self) -> Event | None:
        """The entry of the first job of its champion."""
        return next((one for one in self.entries if one.payload.get("phase") == "used"), None)

    @property
    def outcome(self) -> str:
        """As `ended` has it; empty while it goes on."""
        return str(self.ended.payload.get("outcome", "")) if self.ended else ""

    @property
    def champion(self) -> int | None:
        """The champion when it was started."""
        return self.started.get("champion")

    @property
    def version(self) -> int | None:
        """The version that it made."""
        return self.ended.version if self.ended and "made" in self.ended.payload else None


@dataclass(frozen=True)
class Log:
    """The trainings of a model by the loop, newest first, and the id of the newest entry."""

    trainings: tuple[Retraining, ...]
    newest: int

    @property
    def last(self) -> Retraining | None:
        return self.trainings[0] if self.trainings else None

    @property
    def answers(self) -> list[Retraining]:
        """Those that did not fail."""
        return [one for one in self.trainings if one.outcome != FAILED]


def proposed_rollback(registry: Registry, name: str) -> str:
    """What is proposed for the present champion; empty if nothing is."""
    alias = registry.alias(name, CHAMPION)
    entries = registry.entries(name, ROLLBACK, limit=1)
    if not alias or not entries or entries[0].payload.get("revision") != alias.revision:
        return ""
    return (entries[0].reason or "").removeprefix(f"{ROLLBACK}: ")


def read(registry: Registry, name: str) -> Log:
    """Raises NotFound: there is no such model."""
    entries = registry.entries(name, TOPIC)
    by_id: dict[str, list[Event]] = {}
    for one in entries:
        by_id.setdefault(str(one.payload.get("retraining", one.id)), []).append(one)
    trainings = tuple(Retraining(id_, tuple(found)) for id_, found in by_id.items())
    return Log(trainings, entries[0].id if entries else 0)


def start(
    registry: Registry,
    name: str,
    log: Log,
    *,
    champion: int,
    revision: int,
    text: str,
    facts: Mapping[str, Any],
    root: Path,
    flow_run_id: str,
    actor: str,
) -> Retraining | None:
    """Claim that a training is started now; None if somebody else has done so meanwhile."""
    id_ = uuid.uuid4().hex
    document = {**facts, "champion": champion, **_holder(root, flow_run_id)}
    return _add(registry, name, log, id_, "started", document, text, actor, champion, revision)


def resume(
    registry: Registry,
    name: str,
    log: Log,
    training: Retraining,
    *,
    text: str,
    root: Path,
    flow_run_id: str,
    actor: str,
) -> Retraining | None:
    """Claim a training whose flow run is dead; None if somebody else has done so meanwhile."""
    document = _holder(root, flow_run_id)
    return _add(registry, name, log, training.id, "resumed", document, text, actor)


def end(
    registry: Registry,
    name: str,
    training: Retraining,
    outcome: str,
    text: str,
    *,
    version: int | None,
    facts: Mapping[str, Any],
    actor: str,
) -> None:
    """Record how a training ended. Raises Conflict if another flow run has taken it over."""
    document = {**facts, "outcome": outcome, **({"made": version} if version else {})}
    log = Log((), training.entries[0].id)
    if not _add(registry, name, log, training.id, "ended", document, text, actor, version):
        raise Conflict(f"another flow run has taken over the training {training.id} of {name}")


def use(
    registry: Registry, name: str, log: Log, training: Retraining, job: str, text: str, actor: str
) -> None:
    """Record the first job of the champion that a training made."""
    document = {"job": job}
    _add(registry, name, log, training.id, "used", document, text, actor, training.version)


def _holder(root: Path, flow_run_id: str) -> dict[str, str]:
    return {"host": socket.gethostname(), "root": str(root), "flow_run_id": flow_run_id}


def _add(
    registry: Registry,
    name: str,
    log: Log,
    id_: str,
    phase: str,
    document: Mapping[str, Any],
    text: str,
    actor: str,
    version: int | None = None,
    revision: int | None = None,
) -> Retraining | None:
    document = {**document, "format": FORMAT, "retraining": id_, "phase": phase}
    try:
        registry.add_entry(
            name,
            TOPIC,
            document,
            expect=log.newest,
            expect_revision=revision,
            text=text,
            actor=actor,
            version=version,
        )
    except Conflict:
        return None
    return next(one for one in read(registry, name).trainings if one.id == id_)
