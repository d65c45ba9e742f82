"""An id of the registry, which its store and its backups carry, too; long values in the index."""

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
    # A whole value was in the index, and PostgreSQL keeps at most 2.7 kB in a row of one.
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
