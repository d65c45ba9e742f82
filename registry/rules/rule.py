"""The classes of rules, the append-only tables, and SQL that several rules share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """Refuse `event` on `table` if `broken` is true; `sentence` is the error message."""

    name: str
    table: str
    event: str
    """INSERT, UPDATE or DELETE."""
    broken: str
    """SQL over NEW and OLD. JSON(column, key) is the text of a key of a document;
    UNREADABLE(column) is true if it is not an object, or is nested too deeply."""
    sentence: str
    lock: str = ""
    """A query for the rows that PostgreSQL locks while it checks the condition. SQLite has one
    writer at a time and needs no lock."""
    when: str = ""
    """Check `broken` only if this is true: SQL over NEW and OLD, without a query."""
    at_commit: bool = False
    """Check at the end of the transaction, for rows that are written after an event. PostgreSQL
    only; SQLite cannot do that, so `verify` checks it."""


@dataclass(frozen=True)
class Effect:
    """After `event` on `table`, the database itself runs `statement`, SQL over NEW."""

    name: str
    table: str
    event: str
    statement: str


APPEND_ONLY = (
    "params",
    "param_values",
    "versions",
    "version_artifacts",
    "version_metrics",
    "version_data",
    "version_signatures",
    "evaluations",
    "approvals",
    "events",
    "job_inputs",
)
"""Tables of the history: their rows are never changed or deleted."""

LASTING = ("models", "version_state", "jobs", "registry")
"""Tables whose rows may change but are never deleted."""


def refusing_rule(table: str, event: str) -> Rule:
    """Refuse every change of this kind."""
    what = "is append-only" if table in APPEND_ONLY else "keeps every row"
    name = f"{table}_refuses_{event.lower()}"
    return Rule(name, table, event, "true", f"{table} {what}: {event} refused")


def unchanging_rule(table: str, *columns: str, sentence: str, name: str = "") -> Rule:
    """Refuse changes of these columns."""
    changed = " OR ".join(f"NEW.{column} IS DISTINCT FROM OLD.{column}" for column in columns)
    return Rule(name or f"{table}_keeps_its_key", table, "UPDATE", changed, sentence)


HOLD_MODEL = "SELECT 1 FROM models m WHERE m.id = NEW.model_id FOR NO KEY UPDATE"
RECORDED = (
    "EXISTS (SELECT 1 FROM versions v JOIN events e ON e.model_id = v.model_id "
    "AND e.version = v.version WHERE v.id = NEW.version_id "
    "AND e.kind IN ('registered', 'imported'))"
)
