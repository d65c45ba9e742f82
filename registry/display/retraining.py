"""Reads the entries about trainings that started by themselves, for display: a chain of each.

As in `drift`, values without the expected form are left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from registry.display.documents import texts
from registry.queries.lineage import RETRAINING
from registry.records import Event, Json


@dataclass(frozen=True, slots=True)
class Chain:
    """From the jobs that were the cause to the first job of the new champion."""

    model: str
    at: datetime
    """When it was started."""
    why: str
    jobs: tuple[str, ...]
    """The jobs that drifted, the newest first."""
    outcome: str
    """promoted, waits, kept, refused or failed; empty while it goes on."""
    said: str
    """What was recorded last of the training."""
    version: int | None
    """The version that it made."""
    used: str | None
    """The first job of that version as champion."""


def chains(entries: Iterable[Event]) -> list[Chain]:
    """The chains of the entries of one model, which are newest first; so are the chains."""
    by_id: dict[str, list[Event]] = {}
    for event in entries:
        by_id.setdefault(str(event.payload.get(RETRAINING)), []).append(event)
    return [_chain(found) for found in by_id.values()]


def _chain(found: list[Event]) -> Chain:
    start = found[-1]
    trained = [event for event in found if event.payload.get("phase") != "used"]
    last = trained[0] if trained else start
    ended = last.payload if last.payload.get("phase") == "ended" else {}
    return Chain(
        model=start.model,
        at=start.at,
        why=_without_topic(start),
        jobs=texts(start.payload.get("jobs")),
        outcome=_text(ended, "outcome"),
        said=_without_topic(last) if last is not start else "",
        version=last.version if "made" in ended else None,
        used=next(
            (_text(e.payload, "job") for e in found if e.payload.get("phase") == "used"), None
        ),
    )


def _text(document: Json, key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _without_topic(event: Event) -> str:
    return (event.reason or "").removeprefix(f"{RETRAINING}: ")
