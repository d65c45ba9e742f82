"""Versions and jobs that used a version or a dataset, a page at a time.

Children of a version come oldest first, everything else newest first.
"""

from sqlalchemy import Connection, Select, func, select, union

from registry import schema
from registry.errors import InvalidQuery
from registry.queries import events, jobs, models, search, summaries, unknown_keys, versions
from registry.records import DataTrace, Event, Trace, Version
from registry.references import parse_reference

_v = schema.versions.c
RETRAINING = "retraining"
"""The topic of the entries about trainings that started by themselves, and the key of their id."""
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
        retraining=_retraining(c, version),
    )


def _retraining(c: Connection, version: Version) -> Event | None:
    """The first entry about the training of the loop that made a version; it has the cause."""
    model, e = models.load_id(c, version.model), schema.events.c
    its = events.load_entries(c, model, RETRAINING, e.version == version.version)
    made = {str(i.payload.get(RETRAINING)) for i in its if i.payload.get("made") == version.version}
    if not made:
        return None
    started = [
        entry
        for entry in events.load_entries(c, model, RETRAINING)
        if entry.payload.get("phase") == "started"
        and str(entry.payload.get(RETRAINING)) in made
        and entry.at <= version.created_at  # a later one has made the same version again
    ]
    return started[-1] if started else None


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
