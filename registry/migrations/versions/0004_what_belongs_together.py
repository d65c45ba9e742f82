"""Ids of registry and store, protected aliases, parents by uid, retention, indexes."""

import time
from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    _give_an_id()
    _index_the_start_of_values()
    _protect_aliases()
    _keep_holders()
    _name_parents()
    _index_for_lists()


def _give_an_id() -> None:
    made = op.create_table(
        "registry",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("store", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_registry"),
        sa.CheckConstraint("length(id) = 32", name="ck_registry_id"),
    )
    op.bulk_insert(made, [{"id": uuid4().hex, "created_at": time.time_ns() // 1000}])


def _index_the_start_of_values() -> None:
    # The index had whole values, and a row of an index in PostgreSQL has at most 2.7 kB.
    for table, owner in (("param_values", "params_id"), ("version_tags", "version_id")):
        op.drop_index(f"ix_{table}_key_value_{owner}", table, if_exists=True)
        start = sa.text("substr(value, 1, 100)")
        op.create_index(f"ix_{table}_start", table, ["key", start, owner])


def _protect_aliases() -> None:
    op.create_table(
        "protected_aliases",
        sa.Column("model_id", sa.Integer, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("model_id", "alias", name="pk_protected_aliases"),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name="fk_protected_aliases_model_id_models"
        ),
        sqlite_with_rowid=False,
    )
    # The rules look for the events of a version.
    columns = ["model_id", "version", "id"]
    op.create_index("ix_events_model_id_version_id", "events", columns)


def _keep_holders() -> None:
    # As one column with its CHECK, which SQLite can add without copying the table.
    op.execute(
        "ALTER TABLE models ADD COLUMN keep_holders INTEGER DEFAULT 2 NOT NULL "
        "CONSTRAINT ck_models_keep_holders CHECK (keep_holders >= 0)"
    )


def _name_parents() -> None:
    """Add the uid of each version's parent; for imports it is in the event of the import."""
    op.add_column("versions", sa.Column("parent_uid", sa.Text))
    op.execute(
        "UPDATE versions SET parent_uid = (SELECT p.uid FROM versions p "
        "WHERE p.id = versions.parent_id) WHERE parent_id IS NOT NULL"
    )
    events = sa.table(
        "events",
        sa.column("model_id", sa.Integer),
        sa.column("version", sa.Integer),
        sa.column("kind", sa.Text),
        sa.column("payload", sa.JSON),
    )
    versions = sa.table(
        "versions",
        sa.column("model_id", sa.Integer),
        sa.column("version", sa.Integer),
        sa.column("parent_id", sa.Integer),
        sa.column("parent_uid", sa.Text),
    )
    connection = op.get_bind()
    imports = sa.select(events).where(events.c.kind == "imported", events.c.version.is_not(None))
    for row in connection.execute(imports).all():
        named = row.payload.get("parent") if isinstance(row.payload, dict) else None
        uid = named.get("uid") if isinstance(named, dict) else None
        if isinstance(uid, str):
            here = (
                versions.c.model_id == row.model_id,
                versions.c.version == row.version,
                versions.c.parent_id.is_(None),
            )
            connection.execute(sa.update(versions).where(*here).values(parent_uid=uid))
    op.create_index("ix_versions_parent_uid", "versions", ["parent_uid"])


def _index_for_lists() -> None:
    """Indexes that give long lists of jobs, events and versions in order."""
    op.create_index("ix_versions_created_by_id", "versions", ["created_by", "id"])
    columns = ["model_id", "created_by", "version"]
    op.create_index("ix_versions_model_id_created_by_version", "versions", columns)
    op.drop_index("ix_versions_dataset", "versions")
    op.create_index("ix_versions_dataset_id", "versions", ["dataset", "id"])
    op.drop_index("ix_version_data_md5", "version_data")
    op.create_index("ix_version_data_md5_version_id", "version_data", ["md5", "version_id"])
    op.drop_index("ix_jobs_version_id", "jobs")
    op.create_index("ix_jobs_started_at_id", "jobs", ["started_at", "id"])
    columns = ["version_id", "started_at", "id"]
    op.create_index("ix_jobs_version_id_started_at_id", "jobs", columns)
