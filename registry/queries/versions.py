"""The table `versions` and its parts: files, metrics, parameters, tags, data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    and_,
    bindparam,
    cast,
    delete,
    insert,
    select,
)

from registry import schema
from registry.errors import NotFound
from registry.queries import models, on_conflict, parts, rows
from registry.queries.models import Locked
from registry.queries.rows import AnyRow, AnySelect
from registry.queries.states import STATUS
from registry.records import Artifact, Candidate, Json, Lineage, Version
from registry.schema import version_tags, versions
from registry.values import moment, now

_parent = versions.alias("parent")
_parent_model = schema.models.alias("parent_model")
_params, _evaluations = schema.params.c, schema.evaluations.c

# Writing


def add(
    c: Connection,
    model: Locked,
    candidate: Candidate,
    artifacts: tuple[Artifact, ...],
    digest: str,
    *,
    params_id: int,
    parent: tuple[int | None, str | None],
    created_by: str,
    request_id: str | None,
    uid: str | None = None,
) -> tuple[int, Version]:
    """Insert a version under the model's next number; returns its id and its record.

    A trigger increments the model's counter. `parent` is the id and the uid of the version that
    the training started from; the id is None if that version is not in this registry.
    """
    model.last_version += 1
    lineage = candidate.lineage
    row: dict[str, Any] = {
        "uid": uid or uuid4().hex,
        "model_id": model.id,
        "version": model.last_version,
        "digest": digest,
        "dataset": lineage.dataset,
        "test_split": lineage.test_split,
        "signature": candidate.signature,
        "params_id": params_id,
        "libraries": lineage.libraries,
        "git_commit": lineage.git_commit,
        "git_dirty": lineage.git_dirty,
        "flow_run_id": lineage.flow_run_id,
        "parent_id": parent[0],
        "parent_uid": parent[1],
        "request_id": request_id,
        "created_at": now(),
        "created_by": created_by,
    }
    id_: int = c.execute(insert(versions).returning(versions.c.id), row).scalar_one()
    version = Version(
        model=model.name,
        version=model.last_version,
        uid=row["uid"],
        digest=digest,
        status="candidate",
        signature=candidate.signature,
        metrics=candidate.metrics,
        params=candidate.params,
        evaluation=candidate.evaluation,
        lineage=lineage,
        artifacts=artifacts,
        tags=candidate.tags,
        aliases=(),
        created_at=moment(row["created_at"]),
        created_by=created_by,
    )
    return id_, version


def add_parts(c: Connection, version_id: int, version: Version) -> None:
    """Insert the rows of a version's files, metrics, tags and data."""
    data = [{"path": path, "md5": md5} for path, md5 in version.lineage.data.items()]
    for table, own in (
        (schema.version_artifacts, _files(version.artifacts)),
        (schema.version_metrics, _pairs(version.metrics)),
        (schema.version_tags, _pairs(version.tags)),
        (schema.version_data, data),
    ):
        if own:
            c.execute(insert(table), [{"version_id": version_id, **row} for row in own])


def _files(artifacts: tuple[Artifact, ...]) -> list[dict[str, Any]]:
    return [
        {"path": a.path, "sha256": a.sha256, "size": a.size, "identity": a.identity}
        for a in artifacts
    ]


def _pairs(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def tag(c: Connection, version_id: int, key: str, value: str | None) -> None:
    """Set a tag, or remove it."""
    if value is None:
        here = and_(version_tags.c.version_id == version_id, version_tags.c.key == key)
        c.execute(delete(version_tags).where(here))
    else:
        new = on_conflict.insert(c.dialect.name, version_tags)
        new = new.values(version_id=version_id, key=key, value=value)
        where = [version_tags.c.version_id, version_tags.c.key]
        c.execute(new.on_conflict_do_update(index_elements=where, set_={"value": value}))


# Finding


@dataclass(frozen=True, slots=True)
class Known:
    """The existing versions that match a candidate, at the time of the query."""

    same: int | None
    """The number of the version with these bytes from this dataset."""
    requested: int | None
    """The number of the version that this request registered."""
    requested_digest: str | None

    @property
    def number(self) -> int | None:
        """The number of the existing version that the candidate equals."""
        return self.same if self.requested is None else self.requested


def _known() -> AnySelect:
    mine = select(versions.c.version).where(versions.c.model_id == schema.models.c.id)
    same = mine.where(
        versions.c.digest == bindparam("digest"), versions.c.dataset == bindparam("dataset")
    )
    requested = mine.where(versions.c.request_id == bindparam("request"))
    found = (same, requested, requested.with_only_columns(versions.c.digest))
    query = select(*(one.scalar_subquery() for one in found)).select_from(schema.models)
    return query.where(schema.models.c.name == bindparam("model"))


_KNOWN = _known()


def find_existing(
    c: Connection, name: str, digest: str, dataset: str, request_id: str | None
) -> Known:
    """Find the version that a candidate equals; `digest` is that of its identity files."""
    given = {"model": name, "digest": digest, "dataset": dataset, "request": request_id}
    row = c.execute(_KNOWN, given).one_or_none()
    return Known(None, None, None) if row is None else Known(*row)


def any_at_all(c: Connection) -> bool:
    """Whether the registry has a version of any model."""
    return c.execute(select(versions.c.id).limit(1)).first() is not None


def find_request(c: Connection, name: str, request_id: str) -> int | None:
    """The number of the version that a request registered, if it did."""
    query = select(versions.c.version).join(schema.models).where(schema.models.c.name == name)
    return c.execute(query.where(versions.c.request_id == request_id)).scalar_one_or_none()


def find_uid(c: Connection, uid: str) -> tuple[str, int] | None:
    """Name and number of the version with that uid, if this registry has it."""
    query = select(schema.models.c.name, versions.c.version).join(schema.models)
    row = c.execute(query.where(versions.c.uid == uid)).one_or_none()
    return None if row is None else (row.name, row.version)


def load_id(c: Connection, ref: str) -> int:
    """The id of `digits:3`, or NotFound."""
    return load_ids(c, ref)[0]


def load_ids(c: Connection, ref: str) -> tuple[int, str]:
    """The id and the uid of `digits:3`, or NotFound."""
    name, _, number = ref.rpartition(":")
    query = select(versions.c.id, versions.c.uid).join(schema.models)
    query = query.where(schema.models.c.name == name, versions.c.version == int(number))
    found = c.execute(query).one_or_none()
    if found is None:
        raise missing(c, name, int(number))
    return found.id, found.uid


def parent_uid(c: Connection, id_: int) -> str | None:
    """The uid of the version that this one started from, which may be in another registry."""
    found: str | None = c.execute(
        select(versions.c.parent_uid).where(versions.c.id == id_)
    ).scalar_one()
    return found


def missing(c: Connection, name: str, number: int) -> NotFound:
    """The error for a version, or a model, that does not exist."""
    last = models.load(c, name).last_version
    if last is None or last < 2:
        there_is = f"It has only {name}:1" if last else "It has none yet"
    else:
        there_is = f"It has 1 to {last}, {name}:{last} is the newest"
    return NotFound(f"Model {name!r} has no version {number}. {there_is}.")


# Reading


def load(c: Connection, name: str, number: int) -> Version:
    """One version; NotFound names the existing numbers."""
    found = c.execute(_ONE, {"name": name, "number": number}).all()
    if not found:
        raise missing(c, name, number)
    return _complete(c, found)[0]


def load_held(c: Connection, name: str, alias: str) -> tuple[Version, int] | None:
    """The version that an alias points to, and the alias's revision."""
    rows = c.execute(_OF_ALIAS, {"name": name, "alias": alias}).all()
    return (_complete(c, rows)[0], rows[0].revision) if rows else None


def load_all(c: Connection, *where: ColumnElement[bool]) -> list[Version]:
    """The versions that meet conditions on `versions` or `models`, newest first, in full."""
    return _complete(c, c.execute(_FULL.where(*where)).all())


def _complete(c: Connection, rows: Sequence[AnyRow]) -> list[Version]:
    found = parts.load(c, [row.id for row in rows])
    return [_version(row, found[row.id]) for row in rows]


def _full() -> AnySelect:
    # Subqueries and only one join: PostgreSQL takes longer to plan joins than to look up a row.
    document = select(_params.document).where(_params.id == versions.c.params_id)
    report = select(_evaluations.report).where(_evaluations.version_id == versions.c.id)
    newest = report.order_by(_evaluations.id.desc()).limit(1)
    parent = (
        select(_parent_model.c.name + ":" + cast(_parent.c.version, Text))
        .join(_parent_model, _parent_model.c.id == _parent.c.model_id)
        .where(_parent.c.uid == versions.c.parent_uid)
    )
    return (
        select(
            versions,
            schema.models.c.name.label("model"),
            STATUS,
            document.scalar_subquery().label("params"),
            newest.scalar_subquery().label("report"),
            parent.scalar_subquery().label("parent"),
        )
        .join(schema.models, schema.models.c.id == versions.c.model_id)
        .order_by(schema.models.c.name, versions.c.version.desc())
    )


# Built once: building a statement takes longer than SQLite needs to answer it.
_FULL = _full()
_OF_MODEL = _FULL.where(schema.models.c.name == bindparam("name"))
_ONE = _OF_MODEL.where(versions.c.version == bindparam("number"))
_OF_ALIAS = (
    _OF_MODEL.join(schema.aliases, parts.POINTS_HERE)
    .where(schema.aliases.c.alias == bindparam("alias"))
    .add_columns(schema.aliases.c.revision)
)


def _version(row: AnyRow, own: parts.Parts) -> Version:
    lineage = Lineage(
        dataset=row.dataset,
        test_split=row.test_split,
        git_commit=row.git_commit,
        git_dirty=row.git_dirty,
        flow_run_id=row.flow_run_id,
        libraries=rows.typed(dict, row.libraries),
        parent=row.parent,
        data=own.data,
    )
    evaluation: Json = {} if row.report is None else rows.typed(dict, row.report)
    return Version(
        model=row.model,
        version=row.version,
        uid=row.uid,
        digest=row.digest,
        status=rows.typed(str, row.status),
        signature=rows.typed(dict, row.signature),
        metrics=own.metrics,
        params=rows.typed(dict, row.params),
        evaluation=evaluation,
        lineage=lineage,
        artifacts=tuple(own.artifacts),
        tags=own.tags,
        aliases=tuple(own.aliases),
        created_at=moment(row.created_at),
        created_by=row.created_by,
    )
