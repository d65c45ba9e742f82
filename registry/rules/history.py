"""Rules for events: each kind must match the row that it describes, and the rights of its writer.

The row is written first, then the event; if the event is refused, the change is rolled back, too.
For tags and evaluations the event is written first and permits the change of the row, since no
other rule prevents a change without an event.

On PostgreSQL only a role that may make a change may write the event about it (the grants are in
`registry.databases.roles`): a role that only registers cannot write a promotion into the history,
so a rollback can rely on the events.
"""

from registry.rules.rule import Rule

_RECORDS = "'registered', 'imported'"
_MOVES = "'promoted', 'rolled back', 'unset'"
_OF_VERSION = (
    f"{_RECORDS}, 'evaluated', 'approved', 'rejected', 'archived', 'unarchived', 'purged', "
    "'promoted', 'rolled back', 'tagged', 'signed'"
)
KINDS = f"{_OF_VERSION}, 'unset', 'refused', 'policy', 'noted'"
"""Every kind of event, as a list in SQL."""

_VERSION = (
    "SELECT 1 FROM versions v JOIN version_state s ON s.version_id = v.id{join} "
    "WHERE v.model_id = NEW.model_id AND v.version = NEW.version"
)
_LAST_MOVE = (
    "SELECT {what} FROM events e WHERE e.model_id = NEW.model_id AND e.alias = NEW.alias "
    f"AND e.kind IN ({_MOVES}) ORDER BY e.id DESC LIMIT 1"
)
_HELD = "SELECT 1 FROM aliases a WHERE a.model_id = NEW.model_id AND a.alias = NEW.alias"


def _rule(name: str, kinds: str, broken: str, sentence: str, *, at_commit: bool = False) -> Rule:
    when = f"NEW.kind IN ({kinds})"
    return Rule(
        f"events_{name}", "events", "INSERT", broken, sentence, when=when, at_commit=at_commit
    )


HISTORY_RULES = (
    Rule(
        "events_are_a_chain",
        "events",
        "INSERT",
        f"length(NEW.hash) <> 64 OR NEW.hash = '{'0' * 64}' OR"
        " ltrim(NEW.hash, '0123456789abcdef') <> '' "
        "OR NEW.prev_hash IS DISTINCT FROM "
        "(SELECT m.last_event FROM models m WHERE m.id = NEW.model_id)",
        "an event names the newest event of its model as its predecessor, and has a SHA-256 hash",
        lock="SELECT 1 FROM models m WHERE m.id = NEW.model_id FOR NO KEY UPDATE",
    ),
    Rule(
        "events_are_of_a_known_kind",
        "events",
        "INSERT",
        f"NEW.kind NOT IN ({KINDS}) "
        f"OR (NEW.kind IN ({_OF_VERSION}) AND NEW.version IS NULL) "
        "OR (NEW.kind IN ('unset', 'refused', 'policy') AND NEW.version IS NOT NULL) "
        f"OR (NEW.kind IN ({_MOVES})) <> (NEW.alias IS NOT NULL) "
        f"OR (NEW.kind NOT IN ({_MOVES}) AND NEW.previous IS NOT NULL)",
        "an event is of a known kind, and names a version and an alias where that kind does",
    ),
    _rule(
        "record_a_new_version",
        _RECORDS,
        f"NOT EXISTS ({_VERSION.format(join=' JOIN models m ON m.id = v.model_id')} "
        "AND m.last_version = v.version AND (NEW.kind = 'imported' OR EXISTS ("
        "SELECT 1 FROM evaluations x WHERE x.version_id = v.id AND x.passed))) OR EXISTS ("
        "SELECT 1 FROM events e WHERE e.model_id = NEW.model_id AND e.version = NEW.version "
        f"AND e.kind IN ({_RECORDS}))",
        "a registration records the newest version, once, with its status and its evaluation",
    ),
    _rule(
        "record_an_evaluation",
        "'evaluated'",
        f"NOT EXISTS ({_VERSION.format(join=' JOIN evaluations x ON x.version_id = v.id')} "
        "AND x.actor = NEW.actor AND NOT EXISTS (SELECT 1 FROM evaluations y "
        "WHERE y.version_id = v.id AND y.id > x.id))",
        "this event needs a new evaluation of its version, by the same actor",
        at_commit=True,
    ),
    _rule(
        "record_an_approval",
        "'approved'",
        f"NOT EXISTS ({_VERSION.format(join=' JOIN approvals a ON a.id = s.approval_id')} "
        "AND s.status = 'approved' AND a.approver = NEW.actor)",
        "this event needs an approval of its version, by the same actor",
    ),
    _rule(
        "record_a_status",
        "'rejected', 'archived', 'unarchived', 'purged'",
        f"NOT EXISTS ({_VERSION.format(join='')} AND s.status = CASE NEW.kind "
        "WHEN 'unarchived' THEN 'candidate' WHEN 'purged' THEN 'archived' ELSE NEW.kind END)",
        "its version does not have the status that this event says",
    ),
    _rule(
        "record_a_move",
        "'promoted', 'rolled back'",
        f"NOT EXISTS ({_HELD} AND a.version = NEW.version)",
        "the alias does not point to the version that this event says",
    ),
    _rule(
        "record_a_return",
        "'rolled back'",
        "NOT EXISTS (SELECT 1 FROM events e WHERE e.model_id = NEW.model_id "
        "AND e.alias = NEW.alias AND e.kind = 'promoted' AND e.version = NEW.version)",
        "an alias is rolled back to a version that held it before",
    ),
    _rule(
        "record_an_unset_alias",
        "'unset'",
        f"EXISTS ({_HELD})",
        "the alias that this event says was unset is set",
    ),
    _rule(
        "name_who_held_the_alias",
        _MOVES,
        # Unknown for an alias that was set before there were events.
        f"EXISTS ({_LAST_MOVE.format(what='1')}) AND NEW.previous IS DISTINCT FROM ("
        + _LAST_MOVE.format(what="CASE e.kind WHEN 'unset' THEN NULL ELSE e.version END")
        + ")",
        "the version that held the alias before is another, by the history",
    ),
    _rule(
        "record_a_tag",
        "'tagged'",
        "JSON(NEW.payload, key) IS NULL OR JSON(NEW.payload, value) IS DISTINCT FROM ("
        "SELECT t.value FROM versions v JOIN version_tags t ON t.version_id = v.id "
        "WHERE v.model_id = NEW.model_id AND v.version = NEW.version "
        "AND t.key = JSON(NEW.payload, key))",
        "its version does not have the tag that this event says",
        at_commit=True,
    ),
    _rule(
        "record_a_signature",
        "'signed'",
        f"NOT EXISTS ({_VERSION.format(join=' JOIN version_signatures g ON g.version_id = v.id')} "
        "AND g.key_id = JSON(NEW.payload, key))",
        "its version does not have the signature that this event says",
    ),
)


def _may(right: str, table: str) -> str:
    return f"has_any_column_privilege('{table}', '{right}')"


OWNS = "has_table_privilege('blobs', 'DELETE')"
"""The right of the owner only: no role may delete a file's row."""

NEEDS = {
    f"{_RECORDS}, 'refused'": _may("INSERT", "versions"),
    "'evaluated'": _may("INSERT", "evaluations"),
    "'tagged'": _may("INSERT", "version_tags"),
    "'signed'": _may("INSERT", "version_signatures"),
    "'approved'": _may("INSERT", "approvals"),
    "'rejected', 'archived', 'unarchived'": _may("UPDATE", "version_state"),
    _MOVES: _may("UPDATE", "aliases"),
    "'policy'": "has_column_privilege('models', 'four_eyes', 'UPDATE')",
    "'noted'": _may("INSERT", "events"),
}
"""By kinds of event, the right that their writer needs; other kinds need the owner."""
