"""INSERT for the rows that every registration adds, without what SQLAlchemy does at each call.

A registration has ten of them, and SQLAlchemy's part of such a call takes longer than SQLite's.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from sqlalchemy import JSON, Connection, Table
from sqlalchemy.exc import DBAPIError

from registry.values import shown, to_json

_MARKS = {"sqlite": "?", "postgresql": "%s"}
"""What stands for a value in a statement, as the drivers have it."""


def add(c: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that have the same columns, of types as the table has them.

    The database's errors are raised as `Connection.execute` does.
    """
    if not rows:
        return
    names = tuple(rows[0])
    statement, documents = _insert(table, names, _MARKS[c.dialect.name])
    values = [[to_json(row[n]) if n in documents else row[n] for n in names] for row in rows]
    cursor, errors = c.connection.cursor(), c.dialect.loaded_dbapi.Error
    try:
        if len(values) == 1:
            cursor.execute(statement, values[0])
        else:
            cursor.executemany(statement, values)
    except errors as error:
        raise DBAPIError.instance(statement, None, error, errors, dialect=c.dialect) from error
    finally:
        cursor.close()


@cache
def _insert(table: Table, names: tuple[str, ...], mark: str) -> tuple[str, set[str]]:
    """The statement, and which columns are documents."""
    marks = ", ".join([mark] * len(names))
    documents = {name for name in names if isinstance(table.c[name].type, JSON)}
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})", documents


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
