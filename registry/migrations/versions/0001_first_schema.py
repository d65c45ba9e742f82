"""First schema: models, versions with artifacts and metrics, aliases, events, jobs.

Triggers are not part of a revision; the migration's runner puts them back after each upgrade.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _models_and_versions()
    _parts_of_versions()
    _aliases_and_events()
    _jobs()


def _models_and_versions() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("last_version", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("name", name="uq_models_name"),
        sa.CheckConstraint("last_version >= 0", name="ck_models_last_version"),
    )
    op.create_table(
        "versions",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("model_id", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("test_split", sa.Text, nullable=False),
        sa.Column("signature", sa.JSON, nullable=False),
        sa.Column("params", sa.JSON, nullable=False),
        sa.Column("evaluation", sa.JSON, nullable=False),
        sa.Column("git_commit", sa.Text),
        sa.Column("git_dirty", sa.Boolean, nullable=False),
        sa.Column("flow_run_id", sa.Text),
        sa.Column("libraries", sa.JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_versions_model_id_models"),
        sa.UniqueConstraint("model_id", "version", name="uq_versions_model_id_version"),
        sa.UniqueConstraint(
            "model_id", "digest", "dataset", name="uq_versions_model_id_digest_dataset"
        ),
        sa.CheckConstraint("version > 0", name="ck_versions_version"),
        sa.CheckConstraint("length(digest) = 64", name="ck_versions_digest"),
    )
    op.create_index("ix_versions_digest", "versions", ["digest"])
    op.create_index("ix_versions_dataset", "versions", ["dataset"])


def _parts_of_versions() -> None:
    op.create_table(
        "version_artifacts",
        sa.Column("version_id", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("identity", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("version_id", "path", name="pk_version_artifacts"),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name="fk_version_artifacts_version_id_versions"
        ),
        sa.CheckConstraint("length(sha256) = 64", name="ck_version_artifacts_sha256"),
        sa.CheckConstraint("size >= 0", name="ck_version_artifacts_size"),
    )
    op.create_index("ix_version_artifacts_sha256", "version_artifacts", ["sha256"])
    op.create_table(
        "version_metrics",
        sa.Column("version_id", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("version_id", "key", name="pk_version_metrics"),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name="fk_version_metrics_version_id_versions"
        ),
    )
    op.create_index(
        "ix_version_metrics_key_value_version_id", "version_metrics", ["key", "value", "version_id"]
    )


def _aliases_and_events() -> None:
    op.create_table(
        "aliases",
        sa.Column("model_id", sa.Integer, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("model_id", "alias", name="pk_aliases"),
        sa.ForeignKeyConstraint(
            ["model_id", "version"],
            ["versions.model_id", "versions.version"],
            name="fk_aliases_model_id_version_versions",
        ),
        sa.CheckConstraint("revision > 0", name="ck_aliases_revision"),
    )
    op.create_table(
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
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_events_model_id_models"),
        sa.ForeignKeyConstraint(
            ["model_id", "version"],
            ["versions.model_id", "versions.version"],
            name="fk_events_model_id_version_versions",
        ),
    )
    op.create_index("ix_events_model_id", "events", ["model_id"])


def _jobs() -> None:
    op.create_table(
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
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name="fk_jobs_version_id_versions"
        ),
        sa.CheckConstraint(
            "state IN ('running', 'completed', 'failed', 'lost')", name="ck_jobs_state"
        ),
        sa.CheckConstraint("length(input_sha256) = 64", name="ck_jobs_input_sha256"),
    )
    op.create_index("ix_jobs_version_id", "jobs", ["version_id"])
    op.create_index("ix_jobs_output", "jobs", ["output"])
