"""Alembic's environment and the schema revisions, run by `registry.databases.database`."""
