"""The rows of a backup: one state of all tables, in segments of some thousand rows.

An append-only table is split by its key, so that a segment of the earlier backup can be used
without reading its rows again. The other tables are read; their split points depend on the content
of rows, so that a new row changes one segment and not all that follow.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Table, and_, func, select

from registry import schema
from registry.errors import Corrupt
from registry.queries import blobs, identity
from registry.records import Json
from registry.rules.rule import APPEND_ONLY, LASTING
from registry.transfer.backup_folder import BackupFolder
from registry.transfer.backup_format import Content, Manifest, Progress, Segment, header, patient
from registry.values import shown, to_json

SPAN = 2000
"""Ids per segment of a table that is split by its key; average rows per segment of the others."""

FOLLOWING = ("version_state", "version_tags")
"""Tables whose rows change only together with an event of their version."""

_AT_ONCE = 1000  # rows in memory


@dataclass
class State:
    """One state of a registry, its rows in the folder of the backup."""

    content: Content
    segments: list[Segment] = field(default_factory=list)


Known = State | Manifest
"""An earlier state of the same registry: the present histories continue its histories."""


def differences(c: Connection, source: BackupFolder, before: Manifest) -> list[str]:
    """Why a registry is not a later state of the registry in a backup; empty if it is.

    If each history continues the one in the backup, all rows except jobs follow from it.
    """
    found = []
    if before.registry not in (None, id_ := identity.load(c).registry):
        found.append(f"the backup is of registry {before.registry}, and this is registry {id_}")
    here = set(c.execute(select(schema.models.c.name)).scalars())
    if before.heads and not here:
        return [*found, "this registry is empty"]
    for name, head in before.heads.items():
        if name not in here:
            found.append(f"this registry has no model {name!r}")
        elif head != schema.NO_EVENT and _event(c, name, head) is None:
            found.append(f"the history of {name!r} here does not continue event {head[:12]}")
    for table in (schema.metadata.tables[name] for name in (*LASTING, *APPEND_ONLY)):
        count, there = _count(c, table), before.tables.get(table.name, 0)
        if count < there:
            found.append(f"there are {count:,} {table.name} here, and {there:,} in the backup")
    return found + _different_jobs(c, source.rows(before, "jobs"))


def _different_jobs(c: Connection, before: Iterable[Json]) -> list[str]:
    """Jobs have no history: each job of the backup must be here, and an ended one unchanged."""
    jobs, rows = schema.jobs.c, iter(before)
    gone, other = list[str](), list[str]()
    while batch := list(islice(rows, _AT_ONCE)):
        query = select(jobs.id, jobs.state, jobs.finished_at)
        here = {
            row.id: (row.state, row.finished_at)
            for row in c.execute(query.where(jobs.id.in_([job["id"] for job in batch])))
        }
        for job in batch:
            now, then = here.get(job["id"]), (job["state"], job["finished_at"])
            if now is None:
                gone.append(job["id"])
            elif now != then and then[0] != "running":
                other.append(job["id"])
    found = (("missing here", gone), ("ended differently here", other))
    return [
        f"batch jobs of the backup that are {what}: {len(ids):,}, such as {ids[0]}"
        for what, ids in found
        if ids
    ]


def write(c: Connection, target: BackupFolder, known: Known | None, progress: Progress) -> State:
    """Store all rows that a transaction sees.

    Segments of the earlier state `known` are used again: of an append-only table, if the number of
    rows is the same; of a table in FOLLOWING, if no version in it had an event since.
    """
    return _StateWriter(c, target, known, progress).state()


class _StateWriter:
    def __init__(
        self, c: Connection, target: BackupFolder, known: Known | None, progress: Progress
    ) -> None:
        self.c, self.target, self.progress = c, target, patient(progress)
        segments = () if known is None else known.segments
        self.known = {(s.table, s.span): s for s in segments if s.span is not None}
        self.changed = set() if known is None else _changed(c, _heads(known))
        self.expected = sum(segment.rows for segment in segments)
        self.rows = 0

    def state(self) -> State:
        state = State(Content(identity.load(self.c).registry))
        for table in schema.metadata.sorted_tables:  # referenced tables first
            for segment in self._table(table):
                state.segments.append(segment)
                state.content.tables[table.name] += segment.rows
        models = schema.models.c
        heads = self.c.execute(select(models.name, models.last_event).order_by(models.id))
        state.content.heads = {row.name: row.last_event for row in heads}
        state.content.files = blobs.needed(self.c)
        return state

    def _table(self, table: Table) -> Iterator[Segment]:
        key = next(iter(table.primary_key))
        growing = table.name in APPEND_ONLY and isinstance(key.type, Integer)
        if growing or table.name in FOLLOWING:
            yield from self._by_key(table, key)
        else:
            rows = self._lines(table)
            while segment := self._store(table, None, _until_split(rows)):
                yield segment

    def _by_key(self, table: Table, key: ColumnElement[int]) -> Iterator[Segment]:
        following = table.name in FOLLOWING
        start: list[ColumnElement[bool]] = []
        while (first := self._smallest(key, *start)) is not None:
            if not isinstance(first, int):  # with a large float, this loop would not end
                raise Corrupt(
                    f"A row of the table {table.name} has the key {shown(first)}, which is not a "
                    "whole number. Somebody edited it; correct it there."
                )
            span = first // SPAN
            start = [key >= (span + 1) * SPAN]
            within = and_(key >= span * SPAN, key < (span + 1) * SPAN)
            old = self.known.get((table.name, span))
            if (
                old is not None
                and not (following and span in self.changed)
                and _count(self.c, table, within) == old.rows
                and self.target.is_intact(old.sha256, old.size)
            ):
                self.rows += old.rows
                yield old
            elif segment := self._store(table, span, self._lines(table, within)):
                yield segment

    def _smallest(self, key: ColumnElement[int], *where: ColumnElement[bool]) -> int | None:
        return self.c.execute(select(func.min(key)).where(*where)).scalar_one()

    def _lines(self, table: Table, *where: ColumnElement[bool]) -> Iterator[str]:
        query = select(table).where(*where).order_by(*table.primary_key)
        for row in self.c.execute(query, execution_options={"yield_per": _AT_ONCE}):
            values = tuple(row)
            try:
                yield to_json(values)
            except (ValueError, TypeError) as error:
                raise Corrupt(
                    f"A row of the table {table.name} cannot be stored in a backup ({error}): "
                    f"{str(values)[:200]}. Somebody edited it; correct it there."
                ) from error

    def _store(self, table: Table, span: int | None, rows: Iterator[str]) -> Segment | None:
        """Store rows as a segment; returns None if there are none."""
        first = next(rows, None)
        if first is None:
            return None
        count = 0

        def lines() -> Iterator[bytes]:
            nonlocal count
            yield f"{to_json(header(table.name, table.columns.keys()))}\n".encode()
            line: str | None = first
            while line is not None:
                count += 1
                yield f"{line}\n".encode()
                line = next(rows, None)

        kept = self.target.store_lines(lines())
        self.rows += count
        self.progress("rows", self.rows, max(self.rows, self.expected))
        return Segment(table.name, span, count, kept.sha256, kept.size)


def _until_split(rows: Iterator[str]) -> Iterator[str]:
    """Rows up to one whose CRC is a multiple of SPAN."""
    for row in rows:
        yield row
        if zlib.crc32(row.encode()) % SPAN == 0:
            return


def _heads(known: Known) -> dict[str, str]:
    return known.content.heads if isinstance(known, State) else known.heads


def _changed(c: Connection, heads: dict[str, str]) -> set[int]:
    """The spans of versions that have events since those heads."""
    events, versions = schema.events.c, schema.versions.c
    same = and_(versions.model_id == events.model_id, versions.version == events.version)
    spans: Any = select(versions.id // SPAN).distinct()
    spans = spans.join_from(schema.events, schema.versions, same)
    models = schema.models.c
    changed: set[int] = set()
    for id_, name, head in c.execute(select(models.id, models.name, models.last_event)).all():
        before = heads.get(name)
        if before != head:
            since = 0 if before is None else _event(c, name, before) or 0
            here = and_(events.model_id == id_, events.id > since)
            changed.update(c.execute(spans.where(here)).scalars())
    return changed


def _event(c: Connection, model: str, sha256: str) -> int | None:
    """The id of the event with that hash, if it is an event of that model."""
    query = select(schema.events.c.id).join(schema.models)
    return c.execute(
        query.where(schema.events.c.hash == sha256, schema.models.c.name == model)
    ).scalar_one_or_none()


def _count(c: Connection, table: Table, *where: ColumnElement[bool]) -> int:
    return c.execute(select(func.count()).select_from(table).where(*where)).scalar_one()
