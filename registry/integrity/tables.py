"""Checks of whole tables, and the list of columns that `verify` cannot check."""

from collections.abc import Iterator
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Double,
    ForeignKeyConstraint,
    Table,
    and_,
    cast,
    func,
    or_,
    select,
    text,
)

from registry import schema
from registry.integrity.snapshot import Row, Snapshot, row_name
from registry.queries import params
from registry.records import Problem
from registry.values import MALFORMED, shown

_JOB = "jobs have no events; the manifest beside the predictions records it"
_INPUTS = "checked only if the input files of the job are recorded: against the sum of their rows"
_ORDER = "a number that the database counts; what refers to it and the order are checked"

NOT_CHECKED = {
    ("registry", "created_at"): "no event is about the registry as a whole",
    ("models", "created_at"): "checked only not to be after the first event",
    ("blobs", "sha256"): "checked where a version refers to it; others are leftovers for gc",
    ("blobs", "size"): "checked where a version refers to it; others are leftovers for gc",
    ("blobs", "touched"): "when a file was announced last: it only keeps gc away for a day",
    ("blobs", "purged_at"): "whether it is set is checked; the time is that of its event",
    ("versions", "request_id"): "checked if the history records it",
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
    ("jobs", "rows"): _INPUTS,
    ("jobs", "provider"): _JOB,
    ("jobs", "onnxruntime"): _JOB,
    ("jobs", "flow_run_id"): _JOB,
    ("jobs", "error"): _JOB,
    ("jobs", "started_at"): _JOB,
    ("jobs", "finished_at"): _JOB,
    ("jobs", "substituted"): _JOB,
    ("jobs", "quarantined"): _INPUTS,
    ("jobs", "drift"): "checked only to be of a completed job; the manifest has its hash",
    ("job_inputs", "id"): _ORDER,
    ("job_inputs", "sha256"): _JOB,
    ("job_inputs", "path"): _JOB,
}
"""Columns, by table, whose edits `verify` does not report, and why; it reports edits of all others.
It does not notice either if the row of a job is deleted with the rows of all its input files, or if
only these are; or if a model is deleted with everything that refers to it, including its parameters
and files. A backup still has these."""


def check_tables(snapshot: Snapshot) -> Iterator[Problem]:
    """Problems of tables that belong to no single model, and of broken constraints."""
    yield from _registry(snapshot)
    yield from _params(snapshot)
    yield from _purged(snapshot)
    yield from _job_inputs(snapshot)
    for table in schema.metadata.sorted_tables:
        yield from _broken_constraints(snapshot, table)


def _registry(snapshot: Snapshot) -> Iterator[Problem]:
    rows = snapshot.rows(schema.registry)
    if len(rows) != 1:
        yield Problem("table registry", "", f"it has {len(rows)} rows instead of one")


def _params(snapshot: Snapshot) -> Iterator[Problem]:
    """Compare documents of parameters with their hash and with the values used for search."""
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
                yield Problem(row_name(schema.params, row), "", what)
    used = select(1).where(schema.versions.c.params_id == schema.params.c.id).exists()
    for row in snapshot.rows(schema.params, ~used, columns=("id",)):
        # Parameters are stored together with the first version that has them.
        what = "no version has these parameters: one was deleted, perhaps with its model"
        yield Problem(row_name(schema.params, row), "", what)


def _edited_params(row: Row, flat: list[Row]) -> str | None:
    if row["sha256"] != params.sha256_of(row["document"]):
        return "it was edited: its document does not match its SHA-256"
    if {value["key"]: value["value"] for value in flat} != params.flat(row["document"]):
        return "the values used for search are not those of its document"
    return None


def _purged(snapshot: Snapshot) -> Iterator[Problem]:
    """Files that are marked as purged without an event."""
    events, blobs = schema.events, schema.blobs
    removed: set[Any] = set()
    for row in snapshot.rows(events, events.c.kind == "purged"):
        files = row["payload"].get("files")
        removed.update(file for file in files or () if isinstance(file, str))
    for row in snapshot.rows(blobs, blobs.c.purged_at.is_not(None)):
        if row["sha256"] not in removed:
            what = "it is marked as purged, but no event records that"
            yield Problem(row_name(blobs, row), "", what)


def _job_inputs(snapshot: Snapshot) -> Iterator[Problem]:
    """Jobs whose input files have another number of rows than the job, or that did not complete."""
    inputs, jobs = schema.job_inputs.c, schema.jobs.c
    # As floating-point numbers: integers that somebody edited may be too large to add up.
    total = func.sum(cast(inputs.rows, Double)).label("rows")
    read = select(inputs.job_id, total).group_by(inputs.job_id).subquery()
    said = cast(jobs.rows, Double) + func.coalesce(cast(jobs.quarantined, Double), 0)
    wrong = or_(jobs.state != "completed", read.c.rows != said)
    query = select(jobs.id, jobs.state, read.c.rows, said).join(read, read.c.job_id == jobs.id)
    for id_, state, rows, told in snapshot.connection.execute(query.where(wrong)):
        what = f"it is {state}, but input files of it are recorded, as of a completed job"
        if state == "completed":
            what = f"its input files have {rows:.0f} rows, but it read {told:.0f} by its own row"
        yield Problem(f"job {id_}", "", what)


def _broken_constraints(snapshot: Snapshot, table: Table) -> Iterator[Problem]:
    """Rows that break a constraint: written while it was switched off or dropped."""
    key = [column.name for column in table.primary_key]
    for constraint in sorted(table.constraints, key=lambda one: str(one.name)):
        if isinstance(constraint, ForeignKeyConstraint):
            for row in snapshot.rows(table, _dangling(constraint), columns=key):
                other = constraint.referred_table.name
                what = f"it refers to a row of {other} that does not exist ({constraint.name})"
                yield Problem(row_name(table, row), "", what)
        elif isinstance(constraint, CheckConstraint):
            # Like a CHECK, this ignores rows for which the condition is NULL.
            broken: Any = text(f"NOT ({constraint.sqltext})")
            for row in snapshot.rows(table, broken, columns=key):
                what = f"it breaks the rule {constraint.name}: {shown(str(constraint.sqltext))}"
                yield Problem(row_name(table, row), "", what)


@cache  # building the condition takes longer than the query
def _dangling(constraint: ForeignKeyConstraint) -> Any:
    parent = constraint.referred_table.alias("parent")
    pairs = [(one.parent, parent.c[one.column.name]) for one in constraint.elements]
    found = select(1).select_from(parent).where(and_(*(mine == its for mine, its in pairs)))
    given = and_(*(mine.is_not(None) for mine, _ in pairs))
    return and_(given, ~found.exists())
