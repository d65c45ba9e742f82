"""Rules for the values of columns, so that the registry can read every row, whoever wrote it.

Times must be valid dates, numbers must be finite, and documents must be JSON objects that are not
nested too deeply. SQLite stores values of any type in any column, so its rules also check types.
"""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Integer, Table

from registry.rules.rule import APPEND_ONLY, Rule
from registry.schema import metadata

LAST_MOMENT = 253_402_300_799_999_999
"""The end of the year 9999, in microseconds since 1970."""

LEVELS = 200
"""Levels of a stored document; the checks of arguments allow half as many."""

_LARGEST = "1.7976931348623157e308"
_TIMES = {"at", "created_at", "started_at", "finished_at", "touched", "purged_at"}


def rules() -> list[Rule]:
    """The rules for every database."""
    found = []
    for table in metadata.sorted_tables:
        if broken := " OR ".join(filter(None, map(_broken, table.columns))):
            sentence = (
                f"{table.name}: a time lies between 1970 and the end of 9999, a number is finite, "
                f"and a document is a JSON object of at most {LEVELS} levels"
            )
            found += _rules(table, "readable", broken, sentence)
    return found


def typed() -> list[Rule]:
    """The rules for types, which only SQLite needs."""
    found = []
    for table in metadata.sorted_tables:
        broken = " OR ".join(map(_mistyped, table.columns))
        sentence = f"{table.name}: a value is not of the type of its column"
        found += _rules(table, "typed", broken, sentence)
    return found


def _rules(table: Table, what: str, broken: str, sentence: str) -> list[Rule]:
    events = ["INSERT"] if table.name in APPEND_ONLY else ["INSERT", "UPDATE"]
    return [
        Rule(f"{table.name}_stay_{what}_on_{event.lower()}", table.name, event, broken, sentence)
        for event in events
    ]


def _broken(column: Column[object]) -> str | None:
    new = f"NEW.{column.name}"
    if column.name in _TIMES:
        return f"{new} NOT BETWEEN 0 AND {LAST_MOMENT}"
    if isinstance(column.type, Double):
        return f"{new} NOT BETWEEN -{_LARGEST} AND {_LARGEST}"
    if isinstance(column.type, JSON):
        given = f"{new} IS NOT NULL AND " if column.nullable else ""
        return f"({given}UNREADABLE({new}))"
    return None


def _mistyped(column: Column[object]) -> str:
    new, kind = f"NEW.{column.name}", column.type
    if isinstance(kind, Boolean):
        return f"typeof({new}) NOT IN ('integer', 'null') OR {new} NOT IN (0, 1)"
    if isinstance(kind, Double):
        return f"typeof({new}) NOT IN ('real', 'integer', 'null')"
    if not isinstance(kind, Integer):
        return f"typeof({new}) NOT IN ('text', 'null')"
    broken = f"typeof({new}) NOT IN ('integer', 'null')"
    # The range of the type in PostgreSQL.
    return broken if isinstance(kind, BigInteger) else f"{broken} OR abs({new}) > {2**31 - 1}"
