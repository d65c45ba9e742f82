"""The table `job_inputs`: the files that finished jobs have read, by content and by path."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Text,
    bindparam,
    func,
    insert,
    literal,
    or_,
    select,
)

from registry.records import JobInput
from registry.schema import job_inputs, jobs, versions
from registry.values import to_json

_i = job_inputs.c


def add(c: Connection, job_id: str, inputs: Sequence[JobInput]) -> None:
    """Record what a job has read. It must still run, and end in the same transaction."""
    if c.dialect.name == "postgresql":
        # In one statement. One statement per row takes twice as long: 13 s CPU for 100,000 rows.
        kinds: dict[str, Any] = {"sha256": Text, "path": Text, "rows": BigInteger}
        arrays = (
            bindparam(name, [getattr(one, name) for one in inputs], type_=ARRAY(kind))
            for name, kind in kinds.items()
        )
        read = func.unnest(*arrays).table_valued(*kinds, name="read").render_derived()
        rows = select(literal(job_id), *read.c)
        c.execute(insert(job_inputs).from_select(["job_id", *kinds], rows))
    else:
        values = [
            {"job_id": job_id, "sha256": one.sha256, "path": one.path, "rows": one.rows}
            for one in inputs
        ]
        c.execute(insert(job_inputs), values)


def predicted(
    c: Connection, model_id: int, output: str, paths: Collection[str]
) -> dict[str, set[str]]:
    """By path, every SHA-256 that finished jobs of a model have read there for `output`."""
    found: dict[str, set[str]] = {}
    query = predicted_query(model_id, output, c.dialect.name)
    for path, sha256 in c.execute(query, given(paths, c.dialect.name)):
        found.setdefault(path, set()).add(sha256)
    return found


def predicted_query(model_id: int, output: str, dialect: str) -> Select[str, str]:
    """The statement behind `predicted`.

    The start of the output is compared. LIKE would read % and _ as wildcards, and on SQLite A as a;
    a range of texts would depend on the collation of PostgreSQL.
    """
    folder = output.rstrip("/")
    start = func.substr(jobs.c.output, 1, len(folder) + 1)
    here = or_(jobs.c.output == folder, start == f"{folder}/")
    return (
        select(_i.path, _i.sha256)
        .join(jobs, jobs.c.id == _i.job_id)
        .join(versions, versions.c.id == jobs.c.version_id)
        .where(_among(dialect), versions.c.model_id == model_id)
        .where(jobs.c.state == "completed", here)
        .distinct()
    )


def _among(dialect: str) -> ColumnElement[bool]:
    """That a path is one of the given ones, however many they are."""
    if dialect == "postgresql":
        return _i.path == func.any(bindparam("given", type_=ARRAY(Text)))
    return _i.path.in_(select(func.json_each(bindparam("given")).table_valued("value").c.value))


def given(values: Collection[str], dialect: str) -> dict[str, object]:
    """The parameter of the statement."""
    each = sorted(set(values))
    return {"given": each if dialect == "postgresql" else to_json(each)}
