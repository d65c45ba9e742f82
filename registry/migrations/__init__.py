"""Alembic's environment and the registry's schema revisions, run by `registry.database`."""
