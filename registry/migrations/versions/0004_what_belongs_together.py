"""An id of the registry, which its store and its backups carry, too."""

import time
from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    _give_an_id()


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
