"""Triggers: changes that the database refuses to every user, beyond the constraints of the schema.

A rule is a condition under which a change is refused, in SQL that SQLite and PostgreSQL both
understand; each becomes a trigger. Triggers are not part of a schema revision: migrations drop them
first, since altering a SQLite table loses its triggers, and install these afterwards. So a change
here needs a new revision, even an empty one. The rules of the history are in `history`, those of
single values in `values`, and those that replace SQLite's foreign keys, which clients can switch
off, in `sqlite`.
"""

from registry.rules.decisions import DECISIONS
from registry.rules.rows import ROWS
from registry.rules.rule import APPEND_ONLY, LASTING, Effect, Rule, refusing_rule
from registry.rules.use import USE

RULES: tuple[Rule, ...] = (
    *(refusing_rule(table, event) for table in APPEND_ONLY for event in ("UPDATE", "DELETE")),
    *(refusing_rule(table, "DELETE") for table in LASTING),
    *ROWS,
    *USE,
    *DECISIONS,
)

EFFECTS = (
    Effect(
        "versions_move_the_count",
        "versions",
        "INSERT",
        "UPDATE models SET last_version = NEW.version WHERE id = NEW.model_id",
    ),
    Effect(
        "versions_begin_as_candidates",
        "versions",
        "INSERT",
        "INSERT INTO version_state (version_id, model_id, version, status) "
        "VALUES (NEW.id, NEW.model_id, NEW.version, 'candidate')",
    ),
    Effect(
        "events_move_the_head",
        "events",
        "INSERT",
        "UPDATE models SET last_event = NEW.hash WHERE id = NEW.model_id",
    ),
)
"""The database itself updates the counter and the head of a model, and inserts the status of a
version. If a client could omit that, later registrations or reads would fail."""
