"""What jobs could not predict and which files they read; children of a version in order."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # As one column with its CHECK, which SQLite adds without making the table anew.
    op.execute(
        "ALTER TABLE jobs ADD COLUMN quarantined BIGINT "
        "CONSTRAINT ck_jobs_quarantined CHECK (quarantined >= 0)"
    )
    op.create_table(
        "job_inputs",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job_inputs"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_inputs_job_id_jobs"),
        sa.CheckConstraint("length(sha256) = 64", name="ck_job_inputs_sha256"),
        sa.CheckConstraint("rows >= 0", name="ck_job_inputs_rows"),
    )
    op.create_index("ix_job_inputs_path_sha256_job_id", "job_inputs", ["path", "sha256", "job_id"])
    op.drop_index("ix_versions_parent_uid", "versions")
    op.create_index("ix_versions_parent_uid_id", "versions", ["parent_uid", "id"])
