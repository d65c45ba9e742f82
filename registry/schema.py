"""The registry's tables, constraints and indexes; no queries. Triggers are in `registry.rules`.

A change here needs a new revision in migrations/versions/ and a new HEAD; a test compares
the two. Times are BIGINT microseconds since 1970 in UTC, the same on every database. Tables of many
short rows have no rowid: SQLite then keeps them in their primary key, one tree instead of two.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    func,
    literal_column,
    text,
)

HEAD = "0006"
"""The Alembic revision that this code needs. Revisions are numbered, so text order is age."""

VERSION_TABLE = "registry_alembic_version"
"""Alembic's own table, with its own name in case other tools share the database."""

IS_RUNNING = text("state = 'running'")
"""Of a job."""

NO_EVENT = "0" * 64
"""What the first event of a model names as its predecessor."""

# Fixed names, so that migrations can drop and alter constraints on every database.
metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

revisions = Table(
    VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)
"""As Alembic makes it. It has one row, the revision."""

INDEXED = 100
"""Characters of a value in an index: a row of an index in PostgreSQL has at most 2.7 kB."""


def start_of(table: Table) -> ColumnElement[str]:
    """The indexed part of a table's values. Literals: SQLite compares the text with the index."""
    first, most = literal_column("1", Integer), literal_column(str(INDEXED), Integer)
    return func.substr(table.c.value, first, most, type_=Text)


# One row. Its store and its backups have the id, too, so that they cannot be mixed up.
registry = Table(
    "registry",
    metadata,
    Column("id", Text, primary_key=True),
    # The id of its artifact store, set by the first registration.
    Column("store", Text),
    Column("created_at", BigInteger, nullable=False),
    CheckConstraint("length(id) = 32", name="id"),
)

models = Table(
    "models",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("last_version", Integer, nullable=False),
    # The hash of the newest event: shows if the end of a history was cut off.
    Column("last_event", Text, nullable=False, server_default=NO_EVENT),
    Column("created_at", BigInteger, nullable=False),
    # Policies, all off by default.
    Column("four_eyes", Boolean, nullable=False, server_default=false()),
    Column("keep_last", Integer),
    Column("keep_days", Integer),
    # The number of earlier holders of each protected alias that retention keeps for rollback.
    Column("keep_holders", Integer, nullable=False, server_default=text("2")),
    CheckConstraint("last_version >= 0", name="last_version"),
    CheckConstraint("keep_last >= 1", name="keep_last"),
    CheckConstraint("keep_days >= 0", name="keep_days"),
    CheckConstraint("keep_holders >= 0", name="keep_holders"),
)

# A row precedes its file, and `touched` keeps `gc` away until a version refers to it.
blobs = Table(
    "blobs",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("touched", BigInteger, nullable=False),
    Column("purged_at", BigInteger),
    CheckConstraint("length(sha256) = 64", name="sha256"),
    CheckConstraint("size >= 0", name="size"),
)

# Each document is stored once, for all versions with these parameters.
params = Table(
    "params",
    metadata,
    Column("id", Integer, primary_key=True),
    # SHA-256 of the stored document.
    Column("sha256", Text, nullable=False, unique=True),
    Column("document", JSON, nullable=False),
    CheckConstraint("length(sha256) = 64", name="sha256"),
)

# The document again, flat and as text, for search: train.optimizer.name = adam.
param_values = Table(
    "param_values",
    metadata,
    Column("params_id", ForeignKey("params.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_param_values_start", param_values.c.key, start_of(param_values), param_values.c.params_id)

versions = Table(
    "versions",
    metadata,
    Column("id", Integer, primary_key=True),
    # Stays the same when a version is imported into another registry.
    Column("uid", Text, nullable=False, unique=True),
    Column("model_id", ForeignKey("models.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", Text, nullable=False, index=True),
    Column("dataset", Text, nullable=False),
    Column("test_split", Text, nullable=False),
    Column("signature", JSON, nullable=False),
    Column("params_id", ForeignKey("params.id"), nullable=False),
    Column("libraries", JSON, nullable=False),
    Column("git_commit", Text, index=True),
    Column("git_dirty", Boolean, nullable=False),
    Column("flow_run_id", Text, index=True),
    Column("parent_id", ForeignKey("versions.id"), index=True),
    Column("request_id", Text),
    Column("created_at", BigInteger, nullable=False, index=True),
    Column("created_by", Text, nullable=False),
    # The version whose weights its training started from. It may be missing here, or be imported
    # later, so it is found by its uid. `parent_id` is set if it existed at the registration.
    Column("parent_uid", Text),
    UniqueConstraint("model_id", "version"),
    UniqueConstraint("id", "model_id", "version"),
    UniqueConstraint("model_id", "digest", "dataset"),
    UniqueConstraint("model_id", "request_id"),
    CheckConstraint("version > 0", name="version"),
    CheckConstraint("length(digest) = 64", name="digest"),
    Index(None, "params_id", "id"),
    Index(None, "dataset", "id"),
    # The children of a version, in order. Without the ids PostgreSQL walks the primary key until it
    # has met enough children: 100 ms if the newest of 100,000 versions are the children.
    Index(None, "parent_uid", "id"),
    # The versions of a user, newest first: of all models, and of one.
    Index(None, "created_by", "id"),
    Index(None, "model_id", "created_by", "version"),
)

version_artifacts = Table(
    "version_artifacts",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("path", Text, primary_key=True),
    # To `blobs`: the row of a file that a version needs cannot be deleted, so its file stays.
    Column("sha256", ForeignKey("blobs.sha256"), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("identity", Boolean, nullable=False),
    CheckConstraint("size >= 0", name="size"),
    sqlite_with_rowid=False,
)

version_metrics = Table(
    "version_metrics",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Double, nullable=False),
    Index(None, "key", "value", "version_id"),
    sqlite_with_rowid=False,
)

version_tags = Table(
    "version_tags",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)
Index(
    "ix_version_tags_start", version_tags.c.key, start_of(version_tags), version_tags.c.version_id
)

# The files that the pipeline read, above all raw data, with their DVC hashes.
version_data = Table(
    "version_data",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("md5", Text, nullable=False),
    Index(None, "md5", "version_id"),
    sqlite_with_rowid=False,
)

version_signatures = Table(
    "version_signatures",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    # SHA-256 of the public key.
    Column("key_id", Text, primary_key=True),
    Column("document", Text, nullable=False),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version_id", ForeignKey("versions.id"), nullable=False, index=True),
    Column("passed", Boolean, nullable=False),
    Column("report", JSON, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    UniqueConstraint("id", "version_id", "passed"),
)

# The composite key and the CHECK ensure that an approval names a passed evaluation of its version.
approvals = Table(
    "approvals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version_id", ForeignKey("versions.id"), nullable=False, index=True),
    Column("evaluation_id", Integer, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("approver", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["evaluation_id", "version_id", "passed"],
        ["evaluations.id", "evaluations.version_id", "evaluations.passed"],
    ),
    UniqueConstraint("id", "version_id"),
    CheckConstraint("passed", name="passed"),
)

# A separate table, since rows of `versions` never change.
version_state = Table(
    "version_state",
    metadata,
    Column("version_id", Integer, primary_key=True),
    Column("model_id", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False, index=True),
    Column("approval_id", Integer),
    ForeignKeyConstraint(
        ["version_id", "model_id", "version"],
        ["versions.id", "versions.model_id", "versions.version"],
    ),
    ForeignKeyConstraint(["approval_id", "version_id"], ["approvals.id", "approvals.version_id"]),
    UniqueConstraint("model_id", "version", "status"),
    CheckConstraint("status IN ('candidate', 'approved', 'rejected', 'archived')", name="status"),
    CheckConstraint("status <> 'approved' OR approval_id IS NOT NULL", name="approved"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("model_id", Integer, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    # The status is that of the version, and is updated with it (ON UPDATE CASCADE), so the CHECKs
    # below also refuse a change of status while an alias points to the version.
    ForeignKeyConstraint(
        ["model_id", "version", "status"],
        ["version_state.model_id", "version_state.version", "version_state.status"],
        onupdate="CASCADE",
    ),
    CheckConstraint("status <> 'archived'", name="archived"),
    CheckConstraint("alias <> 'champion' OR status = 'approved'", name="champion"),
    CheckConstraint("revision > 0", name="revision"),
    Index(None, "model_id", "version", "status"),
)

# The aliases that need an approved version, in addition to champion.
protected_aliases = Table(
    "protected_aliases",
    metadata,
    Column("model_id", ForeignKey("models.id"), primary_key=True),
    Column("alias", Text, primary_key=True),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model_id", ForeignKey("models.id"), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("version", Integer),
    Column("alias", Text),
    Column("previous", Integer),
    Column("reason", Text),
    Column("payload", JSON, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False, unique=True),
    ForeignKeyConstraint(["model_id", "version"], ["versions.model_id", "versions.version"]),
    UniqueConstraint("model_id", "prev_hash"),  # one successor each: no second history
    Index(None, "model_id", "id"),
    Index(None, "model_id", "alias", "id"),
    Index(None, "model_id", "version", "id"),
    CheckConstraint("length(hash) = 64", name="hash"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version_id", ForeignKey("versions.id"), nullable=False),
    Column("reference", Text, nullable=False),
    Column("alias", Text),
    Column("alias_revision", Integer),
    Column("state", Text, nullable=False),
    Column("input_sha256", Text, nullable=False),
    Column("output", Text, nullable=False, index=True),
    Column("rows", BigInteger),
    Column("provider", Text),
    Column("onnxruntime", Text),
    Column("flow_run_id", Text),
    Column("error", Text),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("substituted", JSON(none_as_null=True)),
    # Rows that could not be predicted; `rows` does not count them. NULL until the job has finished.
    Column("quarantined", BigInteger),
    # A few kB: the counters of all columns, and the columns that moved most.
    Column("drift", JSON(none_as_null=True)),
    CheckConstraint("quarantined >= 0", name="quarantined"),
    CheckConstraint("state IN ('running', 'completed', 'failed', 'lost')", name="state"),
    CheckConstraint("length(input_sha256) = 64", name="input_sha256"),
    # For lists, newest first: of all jobs, and of one version.
    Index(None, "started_at", "id"),
    Index(None, "version_id", "started_at", "id"),
    # Only one running job per output. `databases.postgresql` adds its `where`: to name that dialect
    # here imports all of its drivers, 0.08 of 0.42 s of CPU in each command.
    Index("ix_jobs_running", "output", unique=True, sqlite_where=IS_RUNNING),
)

# The files that finished jobs have read: a later job into the same folder may skip them. Because of
# the id, a backup keeps the segments of the backup before, and does not read their rows again.
job_inputs = Table(
    "job_inputs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("sha256", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    CheckConstraint("length(sha256) = 64", name="sha256"),
    CheckConstraint("rows >= 0", name="rows"),
    Index(None, "path", "sha256", "job_id"),
)
