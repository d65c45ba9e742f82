"""Whether the database still keeps the rules: its triggers, constraints and indexes."""

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Connection,
    ForeignKeyConstraint,
    Inspector,
    Table,
    UniqueConstraint,
    inspect,
    text,
)

from registry import schema
from registry.records import Problem
from registry.values import shown

_WHERE = "the database's rules"


def broken(c: Connection, dialect: Any) -> Iterator[Problem]:
    """What is missing of the rules of this release, was switched off, or says something else."""
    look = inspect(c)
    there = set(look.get_table_names())
    for table in schema.metadata.sorted_tables:
        if table.name not in there:
            yield Problem(f"table {table.name}", "", "it is gone")
        else:
            for what in _table(look, table):
                yield Problem(f"table {table.name}", "", what)
    of_database = _sqlite if c.dialect.name == "sqlite" else _postgresql
    for what in of_database(c, dialect.trigger_ddl()):
        yield Problem(_WHERE, "", what)


def _table(look: Inspector, table: Table) -> Iterator[str]:
    name = table.name
    columns = {column["name"]: column["nullable"] for column in look.get_columns(name)}
    expected: dict[str, Any] = {column.name: column.nullable for column in table.columns}
    if columns != expected:
        changed = sorted(k for k in columns.keys() | expected if columns.get(k) != expected.get(k))
        yield f"its columns are not those of this release: {', '.join(changed)}"
    if look.get_pk_constraint(name)["constrained_columns"] != [k.name for k in table.primary_key]:
        yield "its primary key is gone or another one"
    for kind, expected, found in (
        ("foreign key", _foreign_keys(table), _found_foreign_keys(look, name)),
        ("unique key", _uniques(table), _found_uniques(look, name)),
        ("check", _checks(look, table), _found_checks(look, name)),
        ("index", _indexes(table), _found_indexes(look, name)),
    ):
        for key in sorted(expected.keys() - found.keys(), key=str):
            yield f"its {kind} {key} is gone"
        for key in sorted(expected.keys() & found.keys(), key=str):
            if expected[key] != found[key]:
                yield f"its {kind} {key} says something else: {shown(found[key])}"


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


def _found_foreign_keys(look: Inspector, name: str) -> dict[Any, Any]:
    return {
        found["name"]: (
            found["constrained_columns"],
            found["referred_table"],
            found["referred_columns"],
            found.get("options", {}),
        )
        for found in look.get_foreign_keys(name)
    }


def _uniques(table: Table) -> dict[Any, Any]:
    return {
        constraint.name: [column.name for column in constraint.columns]
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    }


def _found_uniques(look: Inspector, name: str) -> dict[Any, Any]:
    return {found["name"]: found["column_names"] for found in look.get_unique_constraints(name)}


def _checks(look: Inspector, table: Table) -> dict[Any, Any]:
    return {
        constraint.name: _plain(look, str(constraint.sqltext))
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }


def _found_checks(look: Inspector, name: str) -> dict[Any, Any]:
    found = look.get_check_constraints(name)
    return {one["name"]: _plain(look, one["sqltext"]) for one in found}


def _plain(look: Inspector, condition: str) -> str | None:
    # PostgreSQL writes conditions anew, in words of its own; `tables` asks them of every row.
    return "".join(condition.split()) if look.dialect.name == "sqlite" else None


def _indexes(table: Table) -> dict[Any, bool]:
    return {index.name: index.unique for index in table.indexes}


def _found_indexes(look: Inspector, name: str) -> dict[Any, bool]:
    return {found["name"]: bool(found["unique"]) for found in look.get_indexes(name)}


def _sqlite(c: Connection, ddl: list[str]) -> Iterator[str]:
    for said in c.exec_driver_sql("PRAGMA integrity_check").scalars():
        if said != "ok":
            yield f"SQLite finds the file damaged: {said}"
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
    expected = {_first(r"CREATE TRIGGER (\w+)", statement): statement for statement in ddl}
    yield from _triggers(expected, dict(c.exec_driver_sql(query).tuples().all()))


def _triggers(expected: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    for name in sorted(expected.keys() - found.keys()):
        yield f"trigger {name} is gone; the upgrade of a registry makes it again"
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
    for table, name in c.execute(_OFF).tuples():
        yield f"{name} on {table} is switched off, or was never asked of the rows there were"
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
    """Name, and timing, events, table and function, of a statement that makes a trigger."""
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
    """Name, and body, SECURITY DEFINER and search path, of a statement that makes a function."""
    pattern = r"CREATE (?:OR REPLACE )?FUNCTION (\w+)\((.*?)AS \$\$(.*)\$\$"
    found = re.search(pattern, statement, re.DOTALL)
    if found is None:
        return None
    name, options, body = found.groups()
    return name, (body.strip(), "SECURITY DEFINER" in options, "SET search_path" in options)


def _first(pattern: str, statement: str) -> str:
    found = re.search(pattern, statement)
    return found.group(1) if found else statement
