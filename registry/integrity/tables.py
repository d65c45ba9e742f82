"""Rows of whole tables, compared with each other; and which columns nothing vouches for."""

from collections.abc import Iterator
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Table, and_, select, text

from registry import schema
from registry.integrity.snapshot import Row, Snapshot, named
from registry.queries import params
from registry.records import Problem
from registry.values import MALFORMED, shown

_JOB = "jobs have no events; the manifest beside the predictions records it"
_ORDER = "a number that the database counts; what refers to it and the order are checked"

NOT_CHECKED = {
    ("registry", "created_at"): "no event is about the registry as a whole",
    ("models", "created_at"): "checked only not to be after the first event",
    ("blobs", "sha256"): "checked where a version refers to it; others are leftovers for gc",
    ("blobs", "size"): "checked where a version refers to it; others are leftovers for gc",
    ("blobs", "touched"): "when a file was announced last: it only keeps gc away for a day",
    ("blobs", "purged_at"): "whether it is set is checked; the time is that of its event",
    ("versions", "request_id"): "checked of versions of which the history records it",
    ("version_tags", "key"): "tags that came with a version before the history recorded them",
    ("version_tags", "value"): "tags that came with a version before the history recorded them",
    ("evaluations", "id"): _ORDER,
    ("evaluations", "at"): "checked to the hour; the time of its event is exact",
    ("approvals", "id"): _ORDER,
    ("approvals", "at"): "checked to the hour; the time of its event is exact",
    ("events", "id"): _ORDER,
    ("jobs", "id"): _JOB,
    ("jobs", "input_sha256"): _JOB,
    ("jobs", "output"): _JOB,
    ("jobs", "rows"): _JOB,
    ("jobs", "provider"): _JOB,
    ("jobs", "onnxruntime"): _JOB,
    ("jobs", "flow_run_id"): _JOB,
    ("jobs", "error"): _JOB,
    ("jobs", "started_at"): _JOB,
    ("jobs", "finished_at"): _JOB,
    ("jobs", "substituted"): _JOB,
}
"""Table and column of what may be edited without a report from `verify`, and why; of every other
column an edit is reported. Not noticed either: a job whose row is gone; a model that is gone with
all that refers to it, its parameters and its files included, which a backup still has."""


def whole(snapshot: Snapshot) -> Iterator[Problem]:
    """What is wrong with the rows of tables that belong to no one model."""
    yield from _registry(snapshot)
    yield from _params(snapshot)
    yield from _purged(snapshot)
    for table in schema.metadata.sorted_tables:
        yield from _broken_constraints(snapshot, table)


def _registry(snapshot: Snapshot) -> Iterator[Problem]:
    rows = snapshot.rows(schema.registry)
    if len(rows) != 1:
        yield Problem("table registry", "", f"it has {len(rows)} rows instead of one")


def _params(snapshot: Snapshot) -> Iterator[Problem]:
    """Documents of parameters against their hash and against what is searched by."""
    values = schema.param_values
    for rows in snapshot.in_pieces(schema.params, schema.params.c.id):
        ids = [row["id"] for row in rows]
        ordered = snapshot.rows(values, values.c.params_id.in_(ids))
        flat = {id_: list(own) for id_, own in groupby(ordered, key=itemgetter("params_id"))}
        for row in rows:
            try:
                what = _edited_params(row, flat.get(row["id"], []))
            except MALFORMED as error:
                what = f"it cannot be compared with its hash ({error!r})"
            if what:
                yield Problem(named(schema.params, row), "", what)
    used = select(1).where(schema.versions.c.params_id == schema.params.c.id).exists()
    for row in snapshot.rows(schema.params, ~used, columns=("id",)):
        # They are stored with the first version that has them, or not at all.
        what = "no version was made with these parameters: one is gone, with its model perhaps"
        yield Problem(named(schema.params, row), "", what)


def _edited_params(row: Row, flat: list[Row]) -> str | None:
    if row["sha256"] != params.sha256_of(row["document"]):
        return "it was edited: its document does not make its SHA-256"
    if {value["key"]: value["value"] for value in flat} != params.flat(row["document"]):
        return "the values to search by are not those of its document"
    return None


def _purged(snapshot: Snapshot) -> Iterator[Problem]:
    """Files that are marked as removed on purpose, without an event that says so."""
    events, blobs = schema.events, schema.blobs
    removed: set[Any] = set()
    for row in snapshot.rows(events, events.c.kind == "purged"):
        files = row["payload"].get("files")
        removed.update(file for file in files or () if isinstance(file, str))
    for row in snapshot.rows(blobs, blobs.c.purged_at.is_not(None)):
        if row["sha256"] not in removed:
            what = "it is marked as purged, and no event says that it was"
            yield Problem(named(blobs, row), "", what)


def _broken_constraints(snapshot: Snapshot, table: Table) -> Iterator[Problem]:
    """Rows that the constraints forbid: written while those were switched off, or taken away."""
    key = [column.name for column in table.primary_key]
    for constraint in sorted(table.constraints, key=lambda one: str(one.name)):
        if isinstance(constraint, ForeignKeyConstraint):
            for row in snapshot.rows(table, _dangling(constraint), columns=key):
                other = constraint.referred_table.name
                what = f"it refers to a row of {other} that does not exist ({constraint.name})"
                yield Problem(named(table, row), "", what)
        elif isinstance(constraint, CheckConstraint):
            # Of a condition that is unknown, as of NULL, a CHECK takes no notice.
            broken: Any = text(f"NOT ({constraint.sqltext})")
            for row in snapshot.rows(table, broken, columns=key):
                what = f"it breaks the rule {constraint.name}: {shown(str(constraint.sqltext))}"
                yield Problem(named(table, row), "", what)


@cache  # to build the condition takes longer than to ask it
def _dangling(constraint: ForeignKeyConstraint) -> Any:
    parent = constraint.referred_table.alias("parent")
    pairs = [(one.parent, parent.c[one.column.name]) for one in constraint.elements]
    found = select(1).select_from(parent).where(and_(*(mine == its for mine, its in pairs)))
    given = and_(*(mine.is_not(None) for mine, _ in pairs))
    return and_(given, ~found.exists())
