"""Everything a registry knows about a version, as one document that another registry can read."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from registry import schema
from registry.queries import evaluations, events, models, signatures, versions
from registry.records import Event, Json, Version
from registry.registry import Registry
from registry.values import moment, to_json


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation as it was recorded."""

    report: Json
    at: datetime
    actor: str


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """Everything a registry knows about a version: the config of an archive."""

    version: Version
    parent_uid: str | None
    """The uid of the version whose weights the training started from."""
    evaluations: tuple[Evaluation, ...]
    """Oldest first."""
    signatures: dict[str, str]
    """Signature documents by the ids of their keys."""
    events: tuple[Event, ...]
    """The events of this version, oldest first."""
    head: str
    """The hash of the newest event of its model. Keep it elsewhere to notice a changed history."""


_ADAPTER = TypeAdapter(VersionRecord)


def dump(record: VersionRecord) -> bytes:
    """The record as JSON; the same bytes for the same record."""
    return to_json(document(record)).encode()


def document(record: VersionRecord) -> dict[str, Any]:
    """The record as plain JSON values."""
    plain: dict[str, Any] = _ADAPTER.dump_python(record, mode="json")
    return plain


def parse(content: bytes) -> VersionRecord:
    """Read what `dump` wrote. Raises ValueError (pydantic's ValidationError) for anything else."""
    # PostgreSQL cannot store a NUL in a text.
    if b"\\u0000" in content:
        raise ValueError("it has a NUL character")
    return _ADAPTER.validate_json(content, strict=True)


def load_record(registry: Registry, reference: str) -> VersionRecord:
    """The record of a version, read in one transaction."""
    ref = registry.resolve(reference).version.ref
    name, _, number = ref.rpartition(":")
    with registry.database.read() as c:
        version = versions.load(c, name, int(number))
        own = versions.load_id(c, ref)
        of_it = (schema.models.c.name == name, schema.events.c.version == version.version)
        return VersionRecord(
            version=version,
            parent_uid=versions.parent_uid(c, own),
            evaluations=tuple(
                Evaluation(row.report, moment(row.at), row.actor)
                for row in evaluations.load(c, own)
            ),
            signatures=signatures.load(c, own),
            events=tuple(reversed(events.load(c, *of_it))),
            head=models.load_head(c, name),
        )
