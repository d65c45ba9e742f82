"""INSERT ... ON CONFLICT, which SQLAlchemy has separately for each database."""

from importlib import import_module
from typing import TYPE_CHECKING

from sqlalchemy import Table

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite


def insert(dialect: str, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """An INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`."""
    # Not both at the start: importing PostgreSQL's takes 40 ms, which users of SQLite have not.
    found: postgresql.Insert | sqlite.Insert = import_module(
        f"sqlalchemy.dialects.{dialect}"
    ).insert(table)
    return found
