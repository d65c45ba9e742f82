"""How the rows of a batch inference differ from those that its model was trained on."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("drift", sa.JSON))
