"""What the database refuses whoever asks, beyond the constraints in `registry.schema`.

A rule is a condition under which a change is broken, in SQL that SQLite and PostgreSQL both
understand; each becomes a trigger. They are no part of any revision: the runner of migrations
drops them before, since altering a SQLite table loses its triggers, and installs these after. So a
change here needs a new revision, if only an empty one. The rules of the history are in
`history_rules`, those of single values in `value_rules`, and what SQLite's clients can leave off
(foreign keys) in `sqlite_rules`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """Refuse `event` on `table` where `broken` holds; `sentence` says why, to a person."""

    name: str
    table: str
    event: str
    """INSERT, UPDATE or DELETE."""
    broken: str
    """SQL over NEW and OLD. JSON(column, key) is the text of a key of a document;
    UNREADABLE(column) that it is no object, or nested too deeply."""
    sentence: str
    lock: str = ""
    """A query whose rows PostgreSQL must hold still while the condition is looked at. SQLite has
    one writer at a time and needs none."""
    when: str = ""
    """Where to look at the condition at all: over NEW and OLD, without a query."""
    at_commit: bool = False
    """Look when the transaction ends: what follows an event is not there before. PostgreSQL only;
    SQLite cannot, and leaves it to `verify`."""


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
)
"""History: no row of these is ever changed or deleted."""

LASTING = ("models", "version_state", "jobs", "registry")
"""Rows of these may change but are never deleted."""


def _refuse(table: str, event: str) -> Rule:
    what = "is append-only" if table in APPEND_ONLY else "keeps every row"
    name = f"{table}_refuses_{event.lower()}"
    return Rule(name, table, event, "true", f"{table} {what}: {event} refused")


def _keep(table: str, *columns: str, sentence: str, name: str = "") -> Rule:
    """These columns of a row never change."""
    changed = " OR ".join(f"NEW.{column} IS DISTINCT FROM OLD.{column}" for column in columns)
    return Rule(name or f"{table}_keeps_its_key", table, "UPDATE", changed, sentence)


_ARCHIVED_PARENT = (
    "SELECT 1 FROM version_state s WHERE s.version_id = NEW.{column} AND s.status = 'archived'"
)
_HOLD_MODEL = "SELECT 1 FROM models m WHERE m.id = NEW.model_id FOR NO KEY UPDATE"
_RECORDED = (
    "EXISTS (SELECT 1 FROM versions v JOIN events e ON e.model_id = v.model_id "
    "AND e.version = v.version WHERE v.id = NEW.version_id "
    "AND e.kind IN ('registered', 'imported'))"
)
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
PROTECTED = (
    "({alias} = 'champion' OR EXISTS (SELECT 1 FROM protected_aliases p "
    "WHERE p.model_id = {model} AND p.alias = {alias}))"
)
"""Whether an alias points only to approved versions: the champion, and what the policy names."""

_NEW_ALIAS = PROTECTED.format(model="NEW.model_id", alias="NEW.alias")


def _person(column: str) -> str:
    """Who it is, however the name was typed: as `references.person`, as far as SQL can."""
    return f"lower(trim({column}))"


# Keys, and what a row begins as

_ROWS = (
    Rule(
        "versions_are_gapless",
        "versions",
        "INSERT",
        "NEW.version > 1 + (SELECT m.last_version FROM models m WHERE m.id = NEW.model_id)",
        "versions are numbered without a gap: the number before this one does not exist",
        lock=_HOLD_MODEL,
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
            _RECORDED,
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
            ("" if event == "DELETE" else f"{_RECORDED} AND ")
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
        f"(CASE WHEN {_RECORDED} THEN ({_EVALUATIONS_IN_HISTORY}) ELSE 1 END)",
        "an evaluation is added right after the event that records it",
    ),
    _keep(
        "version_tags",
        "version_id",
        "key",
        sentence="a tag stays with its version and keeps its key",
    ),
    _keep(
        "version_state",
        "version_id",
        "model_id",
        "version",
        sentence="a status stays with its version",
        name="version_state_keeps_its_version",
    ),
    _keep(
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
    _keep("blobs", "sha256", "size", sentence="a file keeps its content: other bytes are another"),
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
    _keep(
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

# What versions are used for

_USE = (
    Rule(
        "versions_have_a_living_parent",
        "versions",
        "INSERT",
        f"EXISTS ({_ARCHIVED_PARENT.format(column='parent_id')})",
        "the version to start from is archived; unarchive it first",
        lock="SELECT 1 FROM version_state s WHERE s.version_id = NEW.parent_id FOR SHARE",
    ),
    Rule(
        "versions_name_their_parent_by_its_uid",
        "versions",
        "INSERT",
        "EXISTS (SELECT 1 FROM versions p WHERE p.id = NEW.parent_id "
        "AND (NEW.parent_uid IS NULL OR p.uid <> NEW.parent_uid))",
        "a version names the version that it started from by its uid, too",
    ),
    Rule(
        "jobs_use_a_living_version",
        "jobs",
        "INSERT",
        f"EXISTS ({_ARCHIVED_PARENT.format(column='version_id')})",
        "an archived version predicts nothing; unarchive it first",
        lock="SELECT 1 FROM version_state s WHERE s.version_id = NEW.version_id FOR SHARE",
    ),
    _keep(
        "jobs",
        *("id", "version_id", "reference", "alias", "alias_revision", "input_sha256"),
        *("output", "flow_run_id", "started_at"),
        sentence="a batch job stays with its version, its input and its output",
        name="jobs_keep_their_version",
    ),
    Rule(
        "jobs_end_once",
        "jobs",
        "UPDATE",
        "OLD.state <> 'running'",
        "a batch job that has ended stays as it ended",
    ),
    Rule(
        "version_state_keeps_what_is_used",
        "version_state",
        "UPDATE",
        "NEW.status = 'archived' AND OLD.status <> 'archived' AND ("
        "EXISTS (SELECT 1 FROM jobs j WHERE j.version_id = NEW.version_id "
        "AND j.state IN ('running', 'completed')) OR "
        "EXISTS (SELECT 1 FROM versions v WHERE v.parent_id = NEW.version_id) OR "
        # Those that came before their parent name it by its uid alone.
        "EXISTS (SELECT 1 FROM versions v JOIN versions p ON p.uid = v.parent_uid "
        "WHERE p.id = NEW.version_id))",
        "a version that a batch job or another version was made with cannot be archived",
    ),
    Rule(
        "version_state_keeps_purged_versions_archived",
        "version_state",
        "UPDATE",
        "EXISTS (SELECT 1 FROM version_artifacts a JOIN blobs b ON b.sha256 = a.sha256 "
        "WHERE a.version_id = NEW.version_id AND b.purged_at IS NOT NULL)",
        "the files of this version were purged; register the same files again first",
        when="OLD.status = 'archived' AND NEW.status <> 'archived'",
    ),
)

# Who may be champion, or hold another protected alias

_DECISIONS = (
    Rule(
        "approvals_need_a_passed_evaluation",
        "approvals",
        "INSERT",
        "true",
        "only a version with a passed evaluation can be approved (ck_approvals_passed)",
        when="NOT NEW.passed",
    ),
    Rule(
        "approvals_need_the_newest_evaluation",
        "approvals",
        "INSERT",
        "EXISTS (SELECT 1 FROM evaluations e WHERE e.id = NEW.evaluation_id "
        "AND e.version_id = NEW.version_id AND e.passed) AND (EXISTS ("
        "SELECT 1 FROM evaluations e WHERE e.version_id = NEW.version_id "
        f"AND e.id > NEW.evaluation_id) OR NOT {_RECORDED})",
        "an approval needs the newest evaluation of a version that the history knows",
    ),
    *(
        rule
        for event in ("INSERT", "UPDATE")
        for rule in (
            Rule(
                f"aliases_hold_no_archived_version_on_{event.lower()}",
                "aliases",
                event,
                "true",
                "a version that an alias points to cannot be archived; "
                "move or unset the alias first (ck_aliases_archived)",
                when="NEW.status = 'archived'",
            ),
            Rule(
                f"aliases_make_only_approved_champion_on_{event.lower()}",
                "aliases",
                event,
                "true",
                "the champion must be an approved version (ck_aliases_champion)",
                when="NEW.alias = 'champion' AND NEW.status IN ('candidate', 'rejected')",
            ),
            Rule(
                f"aliases_under_protection_need_approval_on_{event.lower()}",
                "aliases",
                event,
                _NEW_ALIAS,
                "the policy of this model protects that alias: as the champion, it must be an "
                "approved version",
                lock="SELECT 1 FROM models m WHERE m.id = NEW.model_id FOR SHARE",
                when="NEW.alias <> 'champion' AND NEW.status <> 'approved'",
            ),
            Rule(
                f"aliases_need_other_eyes_on_{event.lower()}",
                "aliases",
                event,
                f"{_NEW_ALIAS} AND EXISTS (SELECT 1 FROM models m "
                "WHERE m.id = NEW.model_id AND m.four_eyes) AND NOT EXISTS ("
                "SELECT 1 FROM versions v JOIN version_state s ON s.version_id = v.id "
                "JOIN approvals a ON a.id = s.approval_id WHERE v.model_id = NEW.model_id "
                "AND v.version = NEW.version "
                f"AND {_person('a.approver')} <> {_person('v.created_by')})",
                "the champion of this model, and any protected alias, needs an approval by "
                "somebody other than its trainer",
            ),
        )
    ),
    Rule(
        "version_state_keeps_other_eyes",
        "version_state",
        "UPDATE",
        "EXISTS (SELECT 1 FROM aliases l WHERE l.model_id = NEW.model_id "
        "AND l.version = NEW.version AND "
        f"{PROTECTED.format(model='l.model_id', alias='l.alias')}) "
        "AND EXISTS (SELECT 1 FROM models m WHERE m.id = NEW.model_id AND m.four_eyes) "
        "AND EXISTS (SELECT 1 FROM approvals a JOIN versions v ON v.id = a.version_id "
        f"WHERE a.id = NEW.approval_id AND {_person('a.approver')} = {_person('v.created_by')})",
        "the version that holds a protected alias keeps an approval by somebody other than its "
        "trainer",
        when="NEW.status = 'approved' AND NEW.approval_id IS DISTINCT FROM OLD.approval_id",
    ),
    Rule(
        "protected_aliases_are_approved",
        "protected_aliases",
        "INSERT",
        "NEW.alias IN ('champion', 'challenger') OR EXISTS (SELECT 1 FROM aliases a "
        "WHERE a.model_id = NEW.model_id AND a.alias = NEW.alias AND a.status <> 'approved')",
        "an alias that points to a version that is not approved cannot become protected, nor can "
        "the challenger; the champion always is",
        lock=_HOLD_MODEL,
    ),
)

RULES: tuple[Rule, ...] = (
    *(_refuse(table, event) for table in APPEND_ONLY for event in ("UPDATE", "DELETE")),
    *(_refuse(table, "DELETE") for table in LASTING),
    *_ROWS,
    *_USE,
    *_DECISIONS,
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

SENTENCES = {
    "ck_aliases_archived": "a version that an alias points to cannot be archived; "
    "move or unset the alias first",
    "ck_aliases_champion": "the champion must be an approved version",
    "ck_version_state_approved": "a version is approved only by an approval of its own",
    "ck_version_state_status": "a version is candidate, approved, rejected or archived",
    "ck_models_keep_last": "retention keeps at least one version, or has no such rule",
    "ck_models_keep_days": "retention keeps versions for 0 days or more, or has no such rule",
    "ck_models_keep_holders": "retention keeps 0 or more of those who held an alias before",
    "ck_approvals_passed": "only a version with a passed evaluation can be approved",
    "fk_approvals_evaluation_id_version_id_passed_evaluations": "an approval needs a passed "
    "evaluation of the same version",
}
"""For constraints whose breach a person may see: what they stand for. SQLite names those of
CHECK only; a foreign key is explained by its kind."""


def sentence_of(text: str) -> str:
    """The message of a refusal by the database, in words where we have some."""
    found = next((said for name, said in SENTENCES.items() if name in text), None)
    if found is None and "FOREIGN KEY" in text:
        found = "it refers to something that does not exist, or that is still referred to"
    return found or text.splitlines()[0]
