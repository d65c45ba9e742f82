"""What a batch inference put in place of values that its model does not know."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("substituted", sa.JSON))
