"""Reading rows that somebody may have edited past the rules of the registry."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from registry.values import shown


def typed(kind: type[Any], value: Any) -> Any:
    """A value of a row that an owner may have edited. Raises TypeError for one of another type."""
    if not isinstance(value, kind):
        raise TypeError(f"{shown(value)} is no {kind.__name__}")
    return value


@contextmanager
def any_bytes(c: Connection) -> Iterator[None]:
    """Let SQLite return text that is not UTF-8, with what is wrong in it spelled out.

    PostgreSQL keeps no such text.
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
