"""Run by Alembic inside a transaction of `registry.databases.database`, which commits it."""

from alembic import context

from registry.schema import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
