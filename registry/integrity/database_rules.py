"""Whether the database still keeps the rules: its triggers, constraints and indexes."""

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Connection,
    ForeignKeyConstraint,
    Table,
    UniqueConstraint,
    inspect,
    text,
)

from registry import schema
from registry.records import Problem
from registry.values import shown

_WHERE = "the database's rules"


def broken_rules(c: Connection, dialect: Any, found: "FoundTables") -> Iterator[Problem]:
    """The rules of this release that are missing, switched off or changed in the database."""
    for table in schema.metadata.sorted_tables:
        if table.name not in found.columns:
            yield Problem(f"table {table.name}", "", "it is gone")
        else:
            for what in found.differences(table):
                yield Problem(f"table {table.name}", "", what)
    of_database = _sqlite if c.dialect.name == "sqlite" else _postgresql
    for what in of_database(c, dialect.trigger_ddl()):
        yield Problem(_WHERE, "", what)


class FoundTables:
    """The tables of this release as the database has them, all read at once."""

    def __init__(self, c: Connection) -> None:
        look = inspect(c)
        there = [name for name in look.get_table_names() if name in schema.metadata.tables]
        of: dict[str, Any] = {"filter_names": there}

        def by_table(found: dict[Any, Any]) -> dict[str, Any]:
            return {name: parts for (_, name), parts in found.items()}

        self._sqlite = c.dialect.name == "sqlite"
        self.columns = by_table(look.get_multi_columns(**of))
        self._keys = by_table(look.get_multi_pk_constraint(**of))
        self._foreign = by_table(look.get_multi_foreign_keys(**of))
        self._unique = by_table(look.get_multi_unique_constraints(**of))
        self._checks = by_table(look.get_multi_check_constraints(**of))
        self._indexes = by_table(look.get_multi_indexes(**of))
        # SQLAlchemy leaves out indexes on expressions.
        query = "SELECT tbl_name, name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        self._named = list(c.exec_driver_sql(query)) if self._sqlite else []

    def is_complete(self) -> bool:
        """Whether every table and column exists; otherwise queries would fail."""
        return (
            all(
                {column.name for column in table.columns} <= {c["name"] for c in self.columns[name]}
                for name, table in schema.metadata.tables.items()
                if name in self.columns
            )
            and self.columns.keys() == schema.metadata.tables.keys()
        )

    def differences(self, table: Table) -> Iterator[str]:
        name = table.name
        columns = {column["name"]: column["nullable"] for column in self.columns[name]}
        declared = {column.name: column.nullable for column in table.columns}
        if columns != declared:
            names = columns.keys() | declared.keys()
            changed = sorted(n for n in names if columns.get(n) != declared.get(n))
            yield f"its columns are not those of this release: {', '.join(changed)}"
        key = self._keys[name]["constrained_columns"]
        if key != [column.name for column in table.primary_key]:
            yield "its primary key is missing or changed"
        for kind, expected, found in (
            ("foreign key", _foreign_keys(table), _found_foreign_keys(self._foreign[name])),
            ("unique key", _uniques(table), _by_name(self._unique[name], "column_names")),
            ("check", self._conditions(table), self._found_conditions(name)),
            ("index", _indexes(table), self._found_indexes(name)),
        ):
            for one in sorted(expected.keys() - found.keys(), key=str):
                yield f"its {kind} {one} is gone"
            for one in sorted(expected.keys() & found.keys(), key=str):
                if expected[one] != found[one]:
                    yield f"its {kind} {one} says something else: {shown(found[one])}"

    def _conditions(self, table: Table) -> dict[Any, Any]:
        return {
            constraint.name: self._plain(str(constraint.sqltext))
            for constraint in table.constraints
            if isinstance(constraint, CheckConstraint)
        }

    def _found_conditions(self, name: str) -> dict[Any, Any]:
        return {one["name"]: self._plain(one["sqltext"]) for one in self._checks[name]}

    def _found_indexes(self, table: str) -> dict[Any, Any]:
        named: dict[Any, Any] = {index: False for of, index in self._named if of == table}
        return named | _by_name(self._indexes[table], "unique")

    def _plain(self, condition: str) -> str | None:
        # PostgreSQL rewrites conditions in its own form; `tables` checks them on every row instead.
        return "".join(condition.split()) if self._sqlite else None


def _by_name(found: list[Any], what: str) -> dict[Any, Any]:
    return {one["name"]: one[what] for one in found}


def _foreign_keys(table: Table) -> dict[Any, Any]:
    return {
        constraint.name: (
            [one.parent.name for one in constraint.elements],
            constraint.referred_table.name,
            [one.column.name for one in constraint.elements],
            {"onupdate": constraint.onupdate} if constraint.onupdate else {},
        )
        for constraint in table.constraints
        if isinstance(constraint, ForeignKeyConstraint)
    }


def _found_foreign_keys(found: list[Any]) -> dict[Any, Any]:
    return {
        one["name"]: (
            one["constrained_columns"],
            one["referred_table"],
            one["referred_columns"],
            one.get("options", {}),
        )
        for one in found
    }


def _uniques(table: Table) -> dict[Any, Any]:
    return {
        constraint.name: [column.name for column in constraint.columns]
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    }


def _indexes(table: Table) -> dict[Any, Any]:
    return {index.name: index.unique for index in table.indexes}


def _sqlite(c: Connection, ddl: list[str]) -> Iterator[str]:
    for said in c.exec_driver_sql("PRAGMA integrity_check").scalars():
        if said != "ok":
            yield f"SQLite finds the file damaged: {said}"
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
    expected = {_first(r"CREATE TRIGGER (\w+)", statement): statement for statement in ddl}
    found = {row.name: row.sql for row in c.exec_driver_sql(query)}
    yield from _triggers(expected, found)


def _triggers(expected: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    for name in sorted(expected.keys() - found.keys()):
        yield f"trigger {name} is gone"
    for name in sorted(found.keys() - expected.keys()):
        yield f"trigger {name} is not one of this release"
    for name in sorted(expected.keys() & found.keys()):
        if expected[name] != found[name]:
            yield f"trigger {name} is not as this release made it: {shown(found[name])}"


_TRIGGERS = text("""
    SELECT t.tgname, t.tgrelid::regclass::text AS on_table, p.proname, t.tgenabled,
        upper(pg_get_triggerdef(t.oid)) AS definition
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_class r ON r.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND r.relnamespace = current_schema()::regnamespace
""")

_FUNCTIONS = text("""
    SELECT proname, prosrc, prosecdef, proconfig FROM pg_proc
    WHERE pronamespace = current_schema()::regnamespace AND prorettype = 'trigger'::regtype
""")

_OFF = text("""
    SELECT r.relname, coalesce(k.conname, t.tgname) AS name
    FROM pg_trigger t JOIN pg_class r ON r.oid = t.tgrelid
    LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint
    WHERE t.tgenabled NOT IN ('O', 'A') AND r.relnamespace = current_schema()::regnamespace
    UNION SELECT r.relname, k.conname FROM pg_constraint k JOIN pg_class r ON r.oid = k.conrelid
    WHERE NOT k.convalidated AND r.relnamespace = current_schema()::regnamespace
    ORDER BY 1, 2
""")


def _postgresql(c: Connection, ddl: list[str]) -> Iterator[str]:
    for row in c.execute(_OFF):
        yield f"{row.name} on {row.relname} is switched off, or was never checked on existing rows"
    made = (_made_trigger(statement) for statement in ddl if "TRIGGER" in statement.split("(")[0])
    found = {row.tgname: _found_trigger(row) for row in c.execute(_TRIGGERS)}
    yield from _triggers(dict(one for one in made if one), found)
    functions = dict(one for one in map(_made_function, ddl) if one)
    there = {
        row.proname: (row.prosrc.strip(), row.prosecdef, bool(row.proconfig))
        for row in c.execute(_FUNCTIONS)
    }
    for name in sorted(functions):
        if functions[name] != there.get(name):
            yield f"function {name} is gone, or not as this release made it"


def _made_trigger(statement: str) -> tuple[str, Any] | None:
    """Name, and timing, events, table and function, of a statement that creates a trigger."""
    pattern = (
        r"CREATE (?:CONSTRAINT )?TRIGGER (\w+) (BEFORE|AFTER) ([\w ,]+?) ON (\w+)"
        r".*EXECUTE FUNCTION (\w+)"
    )
    found = re.search(pattern, statement, re.DOTALL)
    if found is None:
        return None
    name, timing, events, table, function = found.groups()
    return name, f"{timing} {events} ON {table} {function}".lower()


def _found_trigger(row: Any) -> str:
    events = _first(r"((?:BEFORE|AFTER) [\w ,]+?) ON ", row.definition)
    table = row.on_table.rpartition(".")[2].strip('"')
    return f"{events} ON {table} {row.proname}".lower()


def _made_function(statement: str) -> tuple[str, Any] | None:
    """Name, and body, SECURITY DEFINER and search path, of a statement that creates a function."""
    pattern = r"CREATE (?:OR REPLACE )?FUNCTION (\w+)\((.*?)AS \$\$(.*)\$\$"
    found = re.search(pattern, statement, re.DOTALL)
    if found is None:
        return None
    name, options, body = found.groups()
    return name, (body.strip(), "SECURITY DEFINER" in options, "SET search_path" in options)


def _first(pattern: str, statement: str) -> str:
    found = re.search(pattern, statement)
    return found.group(1) if found else statement
