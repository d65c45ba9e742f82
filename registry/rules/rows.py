"""Rules for rows: their keys, their initial values, and the columns that may change."""

from registry.rules.rule import HOLD_MODEL, RECORDED, Rule, unchanging_rule

_EVALUATIONS_IN_HISTORY = (
    "SELECT count(*) FROM versions v JOIN events e ON e.model_id = v.model_id "
    "AND e.version = v.version WHERE v.id = NEW.version_id "
    "AND (e.kind IN ('registered', 'evaluated') "
    "OR (e.kind = 'imported' AND JSON(e.payload, evaluation) IS NOT NULL))"
)
_NEWEST_EVENT = (
    "SELECT 1 FROM versions v JOIN models m ON m.id = v.model_id "
    "JOIN events e ON e.hash = m.last_event WHERE v.id = {row}.version_id "
    "AND e.version = v.version AND e.kind = 'tagged' AND JSON(e.payload, key) = {row}.key "
    "AND JSON(e.payload, value) IS {value}"
)

ROWS = (
    Rule(
        "versions_are_gapless",
        "versions",
        "INSERT",
        "NEW.version > 1 + (SELECT m.last_version FROM models m WHERE m.id = NEW.model_id)",
        "versions are numbered without a gap: the number before this one does not exist",
        lock=HOLD_MODEL,
    ),
    Rule(
        "models_begin_empty",
        "models",
        "INSERT",
        f"NEW.last_version <> 0 OR NEW.last_event <> '{'0' * 64}'",
        "a model begins without versions and events; those move its counter and its head",
    ),
    Rule(
        "models_keep_name_and_count",
        "models",
        "UPDATE",
        "NEW.id <> OLD.id OR NEW.name <> OLD.name OR NEW.created_at <> OLD.created_at "
        "OR (NEW.last_version <> OLD.last_version AND (NEW.last_version <> OLD.last_version + 1 "
        "OR NOT EXISTS (SELECT 1 FROM versions v WHERE v.model_id = NEW.id "
        "AND v.version = NEW.last_version)))",
        "a model keeps its name, and its counter goes up by one with the version of that number",
    ),
    Rule(
        "models_keep_their_head",
        "models",
        "UPDATE",
        "NOT EXISTS (SELECT 1 FROM events e WHERE e.hash = NEW.last_event "
        "AND e.model_id = NEW.id AND e.prev_hash = OLD.last_event)",
        "the head of a history is its newest event, and moves with it alone",
        when="NEW.last_event <> OLD.last_event",
    ),
    *(
        Rule(
            f"{table}_stay_as_registered",
            table,
            "INSERT",
            RECORDED,
            "a version keeps what it was registered with: nothing is added to it later",
        )
        for table in ("version_artifacts", "version_metrics", "version_data")
    ),
    Rule(
        "param_values_stay_as_stored",
        "param_values",
        "INSERT",
        "EXISTS (SELECT 1 FROM versions v WHERE v.params_id = NEW.params_id)",
        "parameters that a version was made with stay as they are",
    ),
    *(
        Rule(
            f"version_tags_follow_their_event_on_{event.lower()}",
            "version_tags",
            event,
            ("" if event == "DELETE" else f"{RECORDED} AND ")
            + f"NOT EXISTS ({_NEWEST_EVENT.format(row=row, value=value)})",
            "a tag changes right after the event that records it",
            when="" if event == "DELETE" else "NEW.value IS NOT NULL",
        )
        for event, row, value in (
            ("INSERT", "NEW", "NOT DISTINCT FROM NEW.value"),
            ("UPDATE", "NEW", "NOT DISTINCT FROM NEW.value"),
            ("DELETE", "OLD", "NULL"),
        )
    ),
    Rule(
        "evaluations_follow_their_event",
        "evaluations",
        "INSERT",
        "(SELECT count(*) FROM evaluations x WHERE x.version_id = NEW.version_id) >= "
        f"(CASE WHEN {RECORDED} THEN ({_EVALUATIONS_IN_HISTORY}) ELSE 1 END)",
        "an evaluation is added right after the event that records it",
    ),
    unchanging_rule(
        "version_tags",
        "version_id",
        "key",
        sentence="a tag stays with its version and keeps its key",
    ),
    unchanging_rule(
        "version_state",
        "version_id",
        "model_id",
        "version",
        sentence="a status stays with its version",
        name="version_state_keeps_its_version",
    ),
    unchanging_rule(
        "aliases",
        "model_id",
        "alias",
        sentence="an alias keeps its name and its model; unset it and set another",
    ),
    Rule(
        "protected_aliases_refuses_update",
        "protected_aliases",
        "UPDATE",
        "true",
        "a protected alias is added or removed, never changed",
    ),
    Rule(
        "version_state_begins_as_candidate",
        "version_state",
        "INSERT",
        "NEW.status <> 'candidate' OR NEW.approval_id IS NOT NULL",
        "a version begins as a candidate; approvals come later",
    ),
    unchanging_rule(
        "blobs", "sha256", "size", sentence="a file keeps its content: other bytes are another"
    ),
    Rule(
        "blobs_begin_stored",
        "blobs",
        "INSERT",
        "NEW.purged_at IS NOT NULL OR EXISTS (SELECT 1 FROM blobs b "
        "WHERE b.sha256 = NEW.sha256 AND b.size <> NEW.size) "
        "OR ltrim(NEW.sha256, '0123456789abcdef') <> '' OR NEW.touched < 0",
        "a file is announced by its SHA-256, with its size and without having been purged",
    ),
    Rule(
        "blobs_are_purged_when_nothing_needs_them",
        "blobs",
        "UPDATE",
        "EXISTS (SELECT 1 FROM version_artifacts a JOIN version_state s "
        "ON s.version_id = a.version_id WHERE a.sha256 = NEW.sha256 AND s.status <> 'archived') "
        "OR NOT EXISTS (SELECT 1 FROM version_artifacts a WHERE a.sha256 = NEW.sha256)",
        "only a file that archived versions alone refer to can be purged",
        when="NEW.purged_at IS NOT NULL AND OLD.purged_at IS NULL",
    ),
    Rule(
        "registry_is_one",
        "registry",
        "INSERT",
        "EXISTS (SELECT 1 FROM registry)",
        "a registry has one id, and has it already",
    ),
    unchanging_rule(
        "registry",
        "id",
        "created_at",
        sentence="a registry keeps its id for ever",
        name="registry_keeps_its_id",
    ),
    Rule(
        "registry_keeps_its_store",
        "registry",
        "UPDATE",
        "OLD.store IS NOT NULL AND NEW.store IS DISTINCT FROM OLD.store",
        "a registry keeps the store of its first publication; restore a backup to move it",
    ),
)
