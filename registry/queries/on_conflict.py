"""INSERT ... ON CONFLICT, which SQLAlchemy has for each database apart."""

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert(c: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`."""
    on_postgresql = c.dialect.name == "postgresql"
    return postgresql.insert(table) if on_postgresql else sqlite.insert(table)
