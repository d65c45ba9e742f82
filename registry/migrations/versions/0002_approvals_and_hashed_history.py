"""Evaluations, approvals and states of versions, searchable parameters, a hashed history.

Every table takes another shape or refers to one that does, and neither database can do all of
that in place. A registry of revision 0001 is small, so its rows are read into memory, turned
into what they are now, and written into new tables: the same way on every database. Nothing is
dropped before the rows have been turned without an error.

What is computed here (the flat parameters, the hashes) repeats the code of its time on purpose:
that code moves on, the rows of this revision do not.
"""

import hashlib
import json
import time
from typing import Any
from uuid import uuid4

import rfc8785
import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0002"
down_revision = "0001"

NO_EVENT = "0" * 64
REASON = "champion before approvals were recorded"

# Each before those that it refers to, so that they can be dropped in this order.
OLD_TABLES = (
    "jobs",
    "events",
    "aliases",
    "version_metrics",
    "version_artifacts",
    "versions",
    "models",
)

Row = dict[str, Any]
Rows = dict[str, list[Row]]
"""The rows of each table by its name."""


def upgrade() -> None:
    rows = _converted(_read_old())
    for name in OLD_TABLES:
        op.drop_table(name)
    for table in _create_tables():
        if rows.get(table.name):
            op.get_bind().execute(sa.insert(table), rows[table.name])
    if op.get_bind().dialect.name == "postgresql":
        _set_sequences("models", "params", "versions", "evaluations", "approvals", "events")


def _read_old() -> Rows:
    bind, found = op.get_bind(), sa.MetaData()
    found.reflect(bind, only=OLD_TABLES)
    rows = {}
    for table in found.tables.values():
        query = sa.select(table).order_by(*table.primary_key)
        rows[table.name] = [dict(row) for row in bind.execute(query).mappings()]
    return rows


def _set_sequences(*tables: str) -> None:
    # A row inserted with its id does not move the sequence. Of no rows, max is NULL, and setval
    # does nothing.
    for table in tables:
        op.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")


# Rows


def _converted(old: Rows) -> Rows:
    events, newest = _chained(old)
    evaluations = _evaluations(old)
    approvals = _approvals(old, evaluations)
    states = _states(old, approvals)
    params = _params(old)
    policies = {"four_eyes": False, "keep_last": None, "keep_days": None}
    return {
        "models": [
            {**row, **policies, "last_event": newest.get(row["id"], NO_EVENT)}
            for row in old["models"]
        ],
        "blobs": _blobs(old),
        "params": list(params.values()),
        "param_values": [
            {"params_id": row["id"], "key": key, "value": value}
            for row in params.values()
            for key, value in _flat(row["document"]).items()
        ],
        "versions": _versions(old, params),
        "version_artifacts": old["version_artifacts"],
        "version_metrics": old["version_metrics"],
        "evaluations": evaluations,
        "approvals": approvals,
        "version_state": states,
        "aliases": _aliases(old, states),
        "events": events,
        "jobs": old["jobs"],
    }


def _blobs(old: Rows) -> list[Row]:
    now = time.time_ns() // 1000
    sizes = {row["sha256"]: row["size"] for row in old["version_artifacts"]}
    return [
        {"sha256": sha256, "size": size, "touched": now, "purged_at": None}
        for sha256, size in sorted(sizes.items())
    ]


def _params(old: Rows) -> dict[str, Row]:
    """Each document once, by its SHA-256."""
    found: dict[str, Row] = {}
    for row in old["versions"]:
        sha256 = _sha256(row["params"])
        new = {"id": len(found) + 1, "sha256": sha256, "document": row["params"]}
        found.setdefault(sha256, new)
    return found


def _sha256(params: Row) -> str:
    return hashlib.sha256(_json(params).encode()).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _versions(old: Rows, params: dict[str, Row]) -> list[Row]:
    return [
        {
            **{key: value for key, value in row.items() if key not in ("evaluation", "params")},
            "params_id": params[_sha256(row["params"])]["id"],
            "uid": uuid4().hex,
            "parent_id": None,
            "request_id": None,
        }
        for row in old["versions"]
    ]


def _flat(params: Row, prefix: str = "") -> dict[str, str]:
    """{"train": {"epochs": 3}} as {"train.epochs": "3"}; a list stays whole, as JSON."""
    flat: dict[str, str] = {}
    for name, value in params.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            flat.update(_flat(value, f"{key}."))
        elif isinstance(value, str):
            flat[key] = value
        else:
            flat[key] = _json(value)
    return flat


def _evaluations(old: Rows) -> list[Row]:
    return [
        {
            "id": number,
            "version_id": row["id"],
            "passed": row["evaluation"].get("passed") is True,
            "report": row["evaluation"],
            "at": row["created_at"],
            "actor": row["created_by"],
        }
        for number, row in enumerate(old["versions"], 1)
    ]


def _approvals(old: Rows, evaluations: list[Row]) -> list[Row]:
    """An approval for each champion, by the actor of its last promotion."""
    names = {row["id"]: row["name"] for row in old["models"]}
    versions = {(row["model_id"], row["version"]): row for row in old["versions"]}
    passed = {row["version_id"]: row["id"] for row in evaluations if row["passed"]}
    promotions = {  # in the order of their ids, so the last one stays
        (row["model_id"], row["version"]): row
        for row in old["events"]
        if row["kind"] == "promoted" and row["alias"] == "champion"
    }
    approvals: list[Row] = []
    for alias in old["aliases"]:
        if alias["alias"] != "champion":
            continue
        at = alias["model_id"], alias["version"]
        version, promotion = versions[at], promotions.get(at)
        if version["id"] not in passed:
            raise CommandError(
                f"{names[at[0]]}:{at[1]} is the champion, but its evaluation does not say that it "
                "passed, and from this schema on a champion must have passed one. Point the alias "
                "to a version that did, with the release that wrote this database"
            )
        approvals.append(
            {
                "id": len(approvals) + 1,
                "version_id": version["id"],
                "evaluation_id": passed[version["id"]],
                "passed": True,
                "approver": promotion["actor"] if promotion else version["created_by"],
                "reason": REASON,
                "at": promotion["at"] if promotion else version["created_at"],
            }
        )
    return approvals


def _states(old: Rows, approvals: list[Row]) -> list[Row]:
    approved = {row["version_id"]: row["id"] for row in approvals}
    return [
        {
            "version_id": row["id"],
            "model_id": row["model_id"],
            "version": row["version"],
            "status": "approved" if row["id"] in approved else "candidate",
            "approval_id": approved.get(row["id"]),
        }
        for row in old["versions"]
    ]


def _aliases(old: Rows, states: list[Row]) -> list[Row]:
    status = {(row["model_id"], row["version"]): row["status"] for row in states}
    return [{**row, "status": status[row["model_id"], row["version"]]} for row in old["aliases"]]


def _chained(old: Rows) -> tuple[list[Row], dict[int, str]]:
    """The events, each with the hash of the one before it, and each model's newest hash."""
    names = {row["id"]: row["name"] for row in old["models"]}
    newest: dict[int, str] = {}
    events = []
    for row in old["events"]:
        model = row["model_id"]
        prev_hash = newest.get(model, NO_EVENT)
        newest[model] = _hash(names[model], row, prev_hash)
        events.append({**row, "prev_hash": prev_hash, "hash": newest[model]})
    return events, newest


def _hash(model: str, event: Row, prev_hash: str) -> str:
    keys = ("at", "actor", "kind", "version", "alias", "previous", "reason", "payload")
    hashed = {"model": model, **{key: event[key] for key in keys}, "prev_hash": prev_hash}
    try:
        return hashlib.sha256(rfc8785.dumps(hashed)).hexdigest()
    except rfc8785.CanonicalizationError as error:
        raise CommandError(
            f"event {event['id']} of model {model!r} has no canonical JSON form ({error}), and so "
            "no hash"
        ) from error


# Tables, in an order in which each refers to earlier ones only


def _create_tables() -> list[sa.Table]:
    return [
        _models(),
        _blobs_table(),
        *_params_tables(),
        _versions_table(),
        *_parts_of_versions(),
        *_said_of_versions(),
        _evaluations_table(),
        _approvals_table(),
        _version_state(),
        _aliases_table(),
        _events(),
        _jobs(),
    ]


def _models() -> sa.Table:
    return op.create_table(
        "models",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("last_version", sa.Integer, nullable=False),
        sa.Column("last_event", sa.Text, nullable=False, server_default=NO_EVENT),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("four_eyes", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("keep_last", sa.Integer),
        sa.Column("keep_days", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("name", name="uq_models_name"),
        sa.CheckConstraint("last_version >= 0", name="ck_models_last_version"),
        sa.CheckConstraint("keep_last >= 1", name="ck_models_keep_last"),
        sa.CheckConstraint("keep_days >= 0", name="ck_models_keep_days"),
    )


def _blobs_table() -> sa.Table:
    return op.create_table(
        "blobs",
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("touched", sa.BigInteger, nullable=False),
        sa.Column("purged_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("sha256", name="pk_blobs"),
        sa.CheckConstraint("length(sha256) = 64", name="ck_blobs_sha256"),
        sa.CheckConstraint("size >= 0", name="ck_blobs_size"),
    )


def _params_tables() -> list[sa.Table]:
    documents = op.create_table(
        "params",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_params"),
        sa.UniqueConstraint("sha256", name="uq_params_sha256"),
        sa.CheckConstraint("length(sha256) = 64", name="ck_params_sha256"),
    )
    values = op.create_table(
        "param_values",
        sa.Column("params_id", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("params_id", "key", name="pk_param_values"),
        sa.ForeignKeyConstraint(
            ["params_id"], ["params.id"], name="fk_param_values_params_id_params"
        ),
        sqlite_with_rowid=False,
    )
    # Without the index on `value` that 0002 had when it was released: PostgreSQL refuses long
    # values in an index, so rows of SQLite could not be restored. 0004 makes another index.
    return [documents, values]


def _versions_table() -> sa.Table:
    versions = op.create_table(
        "versions",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("uid", sa.Text, nullable=False),
        sa.Column("model_id", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("test_split", sa.Text, nullable=False),
        sa.Column("signature", sa.JSON, nullable=False),
        sa.Column("params_id", sa.Integer, nullable=False),
        sa.Column("libraries", sa.JSON, nullable=False),
        sa.Column("git_commit", sa.Text),
        sa.Column("git_dirty", sa.Boolean, nullable=False),
        sa.Column("flow_run_id", sa.Text),
        sa.Column("parent_id", sa.Integer),
        sa.Column("request_id", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_versions_model_id_models"),
        sa.ForeignKeyConstraint(["params_id"], ["params.id"], name="fk_versions_params_id_params"),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["versions.id"], name="fk_versions_parent_id_versions"
        ),
        sa.UniqueConstraint("uid", name="uq_versions_uid"),
        _unique("versions", "model_id", "version"),
        _unique("versions", "id", "model_id", "version"),
        _unique("versions", "model_id", "digest", "dataset"),
        _unique("versions", "model_id", "request_id"),
        sa.CheckConstraint("version > 0", name="ck_versions_version"),
        sa.CheckConstraint("length(digest) = 64", name="ck_versions_digest"),
    )
    for key in ("digest", "dataset", "git_commit", "flow_run_id", "parent_id", "created_at"):
        _index("versions", key)
    _index("versions", "params_id", "id")
    return versions


def _parts_of_versions() -> list[sa.Table]:
    """The tables of files and metrics."""
    artifacts = op.create_table(
        "version_artifacts",
        sa.Column("version_id", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("identity", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("version_id", "path", name="pk_version_artifacts"),
        _of_version("version_artifacts"),
        sa.ForeignKeyConstraint(
            ["sha256"], ["blobs.sha256"], name="fk_version_artifacts_sha256_blobs"
        ),
        sa.CheckConstraint("size >= 0", name="ck_version_artifacts_size"),
        sqlite_with_rowid=False,
    )
    _index("version_artifacts", "sha256")
    metrics = _values_table("version_metrics", sa.Double())
    _index("version_metrics", "key", "value", "version_id")
    return [
        artifacts,
        metrics,
    ]


def _said_of_versions() -> list[sa.Table]:
    """The tables of tags, data and signatures."""
    tags = _values_table("version_tags", sa.Text())
    data = op.create_table(
        "version_data",
        sa.Column("version_id", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("md5", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("version_id", "path", name="pk_version_data"),
        _of_version("version_data"),
        sqlite_with_rowid=False,
    )
    _index("version_data", "md5")
    signatures = op.create_table(
        "version_signatures",
        sa.Column("version_id", sa.Integer, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("version_id", "key_id", name="pk_version_signatures"),
        _of_version("version_signatures"),
    )
    return [tags, data, signatures]


def _values_table(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Table:
    table = op.create_table(
        name,
        sa.Column("version_id", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", kind, nullable=False),
        sa.PrimaryKeyConstraint("version_id", "key", name=f"pk_{name}"),
        _of_version(name),
        sqlite_with_rowid=False,
    )
    return table


def _evaluations_table() -> sa.Table:
    evaluations = op.create_table(
        "evaluations",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("version_id", sa.Integer, nullable=False),
        sa.Column("passed", sa.Boolean, nullable=False),
        sa.Column("report", sa.JSON, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
        _of_version("evaluations"),
        _unique("evaluations", "id", "version_id", "passed"),
    )
    _index("evaluations", "version_id")
    return evaluations


def _approvals_table() -> sa.Table:
    approvals = op.create_table(
        "approvals",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("version_id", sa.Integer, nullable=False),
        sa.Column("evaluation_id", sa.Integer, nullable=False),
        sa.Column("passed", sa.Boolean, nullable=False),
        sa.Column("approver", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_approvals"),
        _of_version("approvals"),
        sa.ForeignKeyConstraint(
            ["evaluation_id", "version_id", "passed"],
            ["evaluations.id", "evaluations.version_id", "evaluations.passed"],
            name="fk_approvals_evaluation_id_version_id_passed_evaluations",
        ),
        _unique("approvals", "id", "version_id"),
        sa.CheckConstraint("passed", name="ck_approvals_passed"),
    )
    _index("approvals", "version_id")
    return approvals


def _version_state() -> sa.Table:
    state = op.create_table(
        "version_state",
        sa.Column("version_id", sa.Integer, nullable=False),
        sa.Column("model_id", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("approval_id", sa.Integer),
        sa.PrimaryKeyConstraint("version_id", name="pk_version_state"),
        sa.ForeignKeyConstraint(
            ["version_id", "model_id", "version"],
            ["versions.id", "versions.model_id", "versions.version"],
            name="fk_version_state_version_id_model_id_version_versions",
        ),
        sa.ForeignKeyConstraint(
            ["approval_id", "version_id"],
            ["approvals.id", "approvals.version_id"],
            name="fk_version_state_approval_id_version_id_approvals",
        ),
        _unique("version_state", "model_id", "version", "status"),
        sa.CheckConstraint(
            "status IN ('candidate', 'approved', 'rejected', 'archived')",
            name="ck_version_state_status",
        ),
        sa.CheckConstraint(
            "status <> 'approved' OR approval_id IS NOT NULL", name="ck_version_state_approved"
        ),
    )
    _index("version_state", "status")
    return state


def _aliases_table() -> sa.Table:
    aliases = op.create_table(
        "aliases",
        sa.Column("model_id", sa.Integer, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("model_id", "alias", name="pk_aliases"),
        sa.ForeignKeyConstraint(
            ["model_id", "version", "status"],
            ["version_state.model_id", "version_state.version", "version_state.status"],
            name="fk_aliases_model_id_version_status_version_state",
            onupdate="CASCADE",
        ),
        sa.CheckConstraint("status <> 'archived'", name="ck_aliases_archived"),
        sa.CheckConstraint(
            "alias <> 'champion' OR status = 'approved'", name="ck_aliases_champion"
        ),
        sa.CheckConstraint("revision > 0", name="ck_aliases_revision"),
    )
    _index("aliases", "model_id", "version", "status")
    return aliases


def _events() -> sa.Table:
    events = op.create_table(
        "events",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("model_id", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("alias", sa.Text),
        sa.Column("previous", sa.Integer),
        sa.Column("reason", sa.Text),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.Column("prev_hash", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_events_model_id_models"),
        sa.ForeignKeyConstraint(
            ["model_id", "version"],
            ["versions.model_id", "versions.version"],
            name="fk_events_model_id_version_versions",
        ),
        sa.UniqueConstraint("hash", name="uq_events_hash"),
        _unique("events", "model_id", "prev_hash"),
        sa.CheckConstraint("length(hash) = 64", name="ck_events_hash"),
    )
    _index("events", "model_id", "id")
    _index("events", "model_id", "alias", "id")
    return events


def _jobs() -> sa.Table:
    jobs = op.create_table(
        "jobs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("version_id", sa.Integer, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("alias", sa.Text),
        sa.Column("alias_revision", sa.Integer),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("input_sha256", sa.Text, nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("rows", sa.BigInteger),
        sa.Column("provider", sa.Text),
        sa.Column("onnxruntime", sa.Text),
        sa.Column("flow_run_id", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        _of_version("jobs"),
        sa.CheckConstraint(
            "state IN ('running', 'completed', 'failed', 'lost')", name="ck_jobs_state"
        ),
        sa.CheckConstraint("length(input_sha256) = 64", name="ck_jobs_input_sha256"),
    )
    _index("jobs", "version_id")
    _index("jobs", "output")
    where = sa.text("state = 'running'")
    op.create_index(
        "ix_jobs_running",
        "jobs",
        ["output"],
        unique=True,
        sqlite_where=where,
        postgresql_where=where,
    )
    return jobs


def _of_version(table: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_version_id_versions"
    return sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=name)


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=f"uq_{table}_{'_'.join(columns)}")


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
