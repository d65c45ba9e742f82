"""Types of rows and queries; reading rows that somebody may have edited in spite of the rules."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Row, Select

from registry.values import shown

AnyRow = Row[*tuple[Any, ...]]
"""A row with columns of any number and type."""

AnySelect = Select[*tuple[Any, ...]]
"""A query for such rows."""


def typed(kind: type[Any], value: Any) -> Any:
    """Return a value of a row, which may have been edited, if it has this type; else TypeError."""
    if not isinstance(value, kind):
        raise TypeError(f"{shown(value)} is not a {kind.__name__}")
    return value


@contextmanager
def any_bytes(c: Connection) -> Iterator[None]:
    """Let SQLite return text that is not UTF-8, with the invalid bytes escaped.

    PostgreSQL cannot store invalid text.
    """
    if c.dialect.name != "sqlite":
        yield
        return
    driver: Any = c.connection.driver_connection
    driver.text_factory = lambda text: text.decode(errors="backslashreplace")
    try:
        yield
    finally:
        driver.text_factory = str
