"""One state of all rows, read without conversion, since any value may have been edited.

SQLite can store text in a numeric column, and an owner can write anything into a document. So
values are read without SQLAlchemy's conversions, and each is compared with its column's type.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    Integer,
    Table,
    Text,
    cast,
    select,
    type_coerce,
)
from sqlalchemy.types import NullType

from registry.databases.database import Database
from registry.queries.rows import any_bytes
from registry.records import Problem
from registry.values import parse_object, shown

Row = dict[str, Any]
"""The values of a row by column. A JSON column has the parsed object; its stored text is under its
name and ` text`."""

AT_ONCE = 200  # rows per query


class Snapshot:
    """The rows of one transaction; values of a wrong type are added to `problems`."""

    def __init__(self, c: Connection, problems: list[Problem]) -> None:
        self.connection = c
        self.problems = problems

    def rows(
        self, table: Table, *where: ColumnElement[bool], columns: Sequence[str] = ()
    ) -> list[Row]:
        """The rows of a table that meet conditions, in the order of its key."""
        chosen = [table.c[name] for name in columns] or list(table.columns)
        query = select(*map(_stored, chosen)).where(*where).order_by(*table.primary_key)
        found = self.connection.execute(query).all()
        return [self._checked(table, chosen, values) for values in found]

    def by_version(self, table: Table, ids: Sequence[int]) -> dict[int, list[Row]]:
        """The rows of a table that refers to `versions`, by the ids of the versions."""
        found: dict[int, list[Row]] = {id_: [] for id_ in ids}
        for row in self.rows(table, table.c.version_id.in_(ids)):
            found[row["version_id"]].append(row)
        return found

    def in_pieces(self, table: Table, key: Column[Any]) -> Iterator[list[Row]]:
        """All rows of a table, AT_ONCE at a time; `key` is its primary key."""
        after: Any = None
        while True:
            here = () if after is None else (key > after,)
            keys = select(key).where(*here).order_by(key).limit(AT_ONCE).subquery()
            found = self.rows(table, key.in_(select(keys.c[0])))
            if not found:
                return
            yield found
            after = found[-1][key.name]

    def _checked(self, table: Table, columns: Iterable[Column[Any]], values: Iterable[Any]) -> Row:
        row: Row = {}
        for column, stored in zip(columns, values, strict=True):
            value, complaint = _value(column, stored)
            row[column.name] = value
            if isinstance(column.type, JSON):
                row[f"{column.name} text"] = stored
            if complaint:
                row.setdefault("complaints", []).append(f"its {column.name} {complaint}")
        for complaint in row.pop("complaints", ()):
            self.problems.append(Problem(row_name(table, row), "", complaint))
        return row


@contextmanager
def take_snapshot(database: Database, problems: list[Problem]) -> Iterator[Snapshot]:
    """A transaction that sees one state of the database, regardless of other writers."""
    with database.read() as c, any_bytes(c):
        yield Snapshot(c, problems)


def row_name(table: Table, row: Row) -> str:
    """The name of a row in a message: its table and its key."""
    key = ", ".join(f"{column.name} {row.get(column.name)}" for column in table.primary_key)
    return f"table {table.name}, {key}"


def _stored(column: Column[Any]) -> ColumnElement[Any]:
    plain: Any = cast(column, Text) if isinstance(column.type, JSON) else column
    return type_coerce(plain, NullType()).label(column.name)


def _value(column: Column[Any], stored: Any) -> tuple[Any, str | None]:
    if stored is None:
        return None, None if column.nullable else "is empty"
    kind = column.type
    if isinstance(kind, JSON):
        return parse_object(stored)
    if isinstance(kind, Boolean):
        fits = isinstance(stored, int) and stored in (0, 1)
        return (
            (bool(stored), None)
            if fits
            else (stored, f"is neither true nor false: {shown(stored)}")
        )
    if isinstance(kind, Integer):
        fits, what = type(stored) is int, "a whole number"
    elif isinstance(kind, Double):
        fits, what = isinstance(stored, int | float) and math.isfinite(stored), "a finite number"
    else:
        fits, what = isinstance(stored, str), "text"
    return stored, None if fits else f"is not {what}: {shown(stored)}"
