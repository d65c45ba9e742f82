"""What the database refuses whoever asks, beyond the constraints in `registry.schema`.

A rule is a condition under which a change is refused, in SQL that SQLite and PostgreSQL both
understand; each becomes a trigger. Triggers belong to no schema revision: migrations drop them
first, since altering a SQLite table loses its triggers, and install these afterwards. So a change
here needs a new revision, if only an empty one. The rules of the history are in `history`, those of
single values in `values`, and what SQLite's clients can switch off (foreign keys) in `sqlite`.
"""

from registry.rules.decisions import DECISIONS
from registry.rules.rows import ROWS
from registry.rules.rule import APPEND_ONLY, LASTING, Effect, Rule, refuse
from registry.rules.use import USE

RULES: tuple[Rule, ...] = (
    *(refuse(table, event) for table in APPEND_ONLY for event in ("UPDATE", "DELETE")),
    *(refuse(table, "DELETE") for table in LASTING),
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
"""The counter and the head of a model are moved by the database, and a version gets its status: a
version or an event without them would be in the way of the next one, or of readers, for ever."""
