"""Versions and jobs that used a version or a dataset, a page at a time.

Children of a version come oldest first, everything else newest first.
"""

from sqlalchemy import Connection, Select, func, select, union

from registry import schema
from registry.errors import InvalidQuery
from registry.queries import jobs, search, summaries, unknown_keys, versions
from registry.records import DataTrace, Trace, Version
from registry.references import parse_reference

_v = schema.versions.c
_FEW = 1000
"""For up to this many versions, jobs are looked up version by version; for more, all jobs are read
from the newest on."""


def trace(
    c: Connection, version: Version, *, limit: int, after: str | None, before: str | None
) -> Trace:
    """The children and the jobs of a version."""
    own = versions.load_id(c, version.ref)
    children = children_query(version.uid).limit(limit + 1)
    if after is not None:
        last = parse_reference(after)
        if last.version is None:
            raise InvalidQuery(
                f"{after!r} is not the end of a page. Give the version that the previous page "
                "named, as in digits:3, or nothing."
            )
        children = children.where(_v.id > versions.load_id(c, after))
    found = [f"{name}:{number}" for name, number in c.execute(children)]
    count = select(func.count()).where(_v.parent_uid == version.uid)
    shown, older = jobs.page(c, schema.jobs.c.version_id == own, limit=limit, before=before)
    return Trace(
        version,
        tuple(found[:limit]),
        shown,
        child_count=c.execute(count).scalar_one(),
        job_count=jobs.count(c, own),
        after=found[limit - 1] if len(found) > limit else None,
        before=older,
    )


def children_query(uid: str) -> Select[str, int]:
    """The statement behind a page of children: all of them, oldest first."""
    query = select(schema.models.c.name, _v.version).join(schema.models)
    return query.where(_v.parent_uid == uid).order_by(_v.id)


def trace_data(
    c: Connection, md5: str, *, limit: int, after: str | None, before: str | None
) -> DataTrace:
    """The versions that were trained on a dataset or a file, or started from it, and their jobs."""
    if not md5 or not md5.isprintable() or " " in md5:
        raise InvalidQuery(f"{md5!r} is not a hash. Give the whole hash, as dvc.lock has it.")
    rows, more = search.built_on_page(c, md5, limit=limit, after=after)
    prepared, raw = search.built_on_ids(md5)
    count = select(func.count()).select_from(union(prepared, raw).subquery())
    total = c.execute(count).scalar_one()
    if not total:
        unknown_keys.check_hash(md5)
    among = _v.id.in_(union(prepared, raw)) if total <= _FEW else search.is_built_on(md5)
    shown, older = jobs.page(c, among, limit=limit, before=before)
    return DataTrace(md5, summaries.load(c, rows), shown, total, after=more, before=older)
