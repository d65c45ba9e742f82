"""The registry's tables, constraints and indexes; no queries.

A change here needs a new revision in migrations/versions/ and a new HEAD; a test compares
the two. Times are BIGINT microseconds since 1970 in UTC, the same on every database.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

HEAD = "0001"
"""The Alembic revision that this code needs. Revisions are numbered, so text order is age."""

VERSION_TABLE = "registry_alembic_version"
"""Alembic's own table, named apart from other tools' in case they share the database."""

APPEND_ONLY = ("versions", "version_artifacts", "version_metrics", "events")
"""History: triggers refuse UPDATE and DELETE on these, whatever the client is."""

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

models = Table(
    "models",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    # A counter, not MAX(version): one UPDATE ... RETURNING locks, allocates and returns, and a
    # number once issued is never issued again.
    Column("last_version", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    CheckConstraint("last_version >= 0", name="last_version"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model_id", ForeignKey("models.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", Text, nullable=False, index=True),
    Column("dataset", Text, nullable=False, index=True),
    Column("test_split", Text, nullable=False),
    Column("signature", JSON, nullable=False),
    Column("params", JSON, nullable=False),
    Column("evaluation", JSON, nullable=False),
    Column("git_commit", Text),
    Column("git_dirty", Boolean, nullable=False),
    Column("flow_run_id", Text),
    Column("libraries", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    UniqueConstraint("model_id", "version"),
    UniqueConstraint("model_id", "digest", "dataset"),
    CheckConstraint("version > 0", name="version"),
    CheckConstraint("length(digest) = 64", name="digest"),
)

version_artifacts = Table(
    "version_artifacts",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("sha256", Text, nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("identity", Boolean, nullable=False),
    CheckConstraint("length(sha256) = 64", name="sha256"),
    CheckConstraint("size >= 0", name="size"),
)

version_metrics = Table(
    "version_metrics",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Double, nullable=False),
    Index(None, "key", "value", "version_id"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("model_id", Integer, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    # Composite: an alias can only point to an existing version of its own model.
    ForeignKeyConstraint(["model_id", "version"], ["versions.model_id", "versions.version"]),
    CheckConstraint("revision > 0", name="revision"),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model_id", ForeignKey("models.id"), nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("version", Integer),
    Column("alias", Text),
    Column("previous", Integer),
    Column("reason", Text),
    Column("payload", JSON, nullable=False),
    ForeignKeyConstraint(["model_id", "version"], ["versions.model_id", "versions.version"]),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version_id", ForeignKey("versions.id"), nullable=False, index=True),
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
    CheckConstraint("state IN ('running', 'completed', 'failed', 'lost')", name="state"),
    CheckConstraint("length(input_sha256) = 64", name="input_sha256"),
)
