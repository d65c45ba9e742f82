"""Run by Alembic inside the transaction that `registry.database` holds; it commits, not we."""

from alembic import context

from registry.schema import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
