"""The table `job_inputs`: the files that finished jobs have read, by content and by path."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    bindparam,
    func,
    insert,
    literal,
    or_,
    select,
)

from registry.queries.rows import typed
from registry.records import JobInput
from registry.schema import job_inputs, jobs
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


def predicted(c: Connection, version_id: int, output: str, sha256s: Collection[str]) -> set[str]:
    """Which contents a finished job of a version has predicted into `output` or below it."""
    query = contents_query(version_id, output, c.dialect.name)
    return set(c.execute(query, given(sha256s, c.dialect.name)).scalars())


def contents(c: Connection, version_id: int, output: str, paths: Collection[str]) -> dict[str, str]:
    """By path, the SHA-256 that the newest of those jobs has read there."""
    query = paths_query(version_id, output, c.dialect.name)
    found = c.execute(query, given(paths, c.dialect.name))
    return {path: typed(str, sha256) for path, sha256 in found if sha256 is not None}


def contents_query(version_id: int, output: str, dialect: str) -> Select[tuple[str]]:
    """The statement behind `predicted`."""
    value = _listed(dialect)
    any_job = _read(jobs.c.id, _i.sha256 == value, version_id, output).limit(1)
    return select(value).where(any_job.scalar_subquery().is_not(None))


def paths_query(version_id: int, output: str, dialect: str) -> Select[tuple[str, str]]:
    """The statement behind `contents`; of a path that no job has read, the SHA-256 is NULL."""
    value = _listed(dialect)
    # `+ 0`: sort the jobs that read the path. In the order of the index on started_at, PostgreSQL
    # may walk through all jobs for a path that none of them read.
    newest_first = (jobs.c.started_at + 0).desc(), jobs.c.id.desc()
    read = _read(_i.sha256, _i.path == value, version_id, output)
    return select(value, read.order_by(*newest_first).limit(1).scalar_subquery())


def given(values: Collection[str], dialect: str) -> dict[str, object]:
    """The parameter of both statements, whatever the number of values."""
    each = sorted(set(values))
    return {"given": each if dialect == "postgresql" else to_json(each)}


def _listed(dialect: str) -> ColumnElement[str]:
    """The given values as a column.

    Each is looked up separately. In a join, PostgreSQL expects too many rows if one content was
    read by all of 200,000 jobs, and scans all jobs: 390 ms for 1,000 contents instead of 80.
    """
    if dialect == "postgresql":
        return func.unnest(bindparam("given", type_=ARRAY(Text))).column_valued("value")
    return func.json_each(bindparam("given")).table_valued("value").c.value


def _read(what: Column[str], of: ColumnElement[bool], version_id: int, output: str) -> Select[Any]:
    """A column of the input files of a version's finished jobs that wrote to `output` or below.

    The start of the text is compared. LIKE would read % and _ as wildcards, and on SQLite A as a; a
    range of texts would depend on the collation of PostgreSQL.
    """
    folder = output.rstrip("/")
    start = func.substr(jobs.c.output, 1, len(folder) + 1)
    here = or_(jobs.c.output == folder, start == f"{folder}/")
    finished = and_(jobs.c.version_id == version_id, jobs.c.state == "completed", here)
    joined = select(what).select_from(job_inputs).join(jobs, jobs.c.id == _i.job_id)
    return joined.where(of, finished).correlate_except(job_inputs, jobs)
