"""An id of the registry, which its store and its backups carry, too."""

import time
from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    _give_an_id()
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


def _index_for_lists() -> None:
    """What lists read in order, however long they are: jobs, events, versions."""
    op.create_index("ix_versions_created_by_id", "versions", ["created_by", "id"])
    columns = ["model_id", "created_by", "version"]
    op.create_index("ix_versions_model_id_created_by_version", "versions", columns)
    op.drop_index("ix_versions_dataset", "versions")
    op.create_index("ix_versions_dataset_id", "versions", ["dataset", "id"])
    op.drop_index("ix_version_data_md5", "version_data")
    op.create_index("ix_version_data_md5_version_id", "version_data", ["md5", "version_id"])
    columns = ["model_id", "version", "id"]
    op.create_index("ix_events_model_id_version_id", "events", columns)
    op.drop_index("ix_jobs_version_id", "jobs")
    op.create_index("ix_jobs_started_at_id", "jobs", ["started_at", "id"])
    columns = ["version_id", "started_at", "id"]
    op.create_index("ix_jobs_version_id_started_at_id", "jobs", columns)
