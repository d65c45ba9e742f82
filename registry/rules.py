"""What the database refuses whoever asks, beyond the constraints in `registry.schema`.

A rule is a condition under which a change is broken, in SQL that SQLite and PostgreSQL both
understand; each becomes a trigger. They are no part of any revision: the runner of migrations
drops them before, since altering a SQLite table loses its triggers, and installs these after. So a
change here needs a new revision, if only an empty one.
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
    """SQL over NEW and OLD."""
    sentence: str
    lock: str = ""
    """A query whose rows PostgreSQL must hold still while the condition is looked at. SQLite has
    one writer at a time and needs none."""


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

LASTING = ("registry", "models", "version_state", "jobs")
"""Rows of these may change but are never deleted."""


def _refuse(table: str, event: str) -> Rule:
    what = "is append-only" if table in APPEND_ONLY else "keeps every row"
    name = f"{table}_refuses_{event.lower()}"
    return Rule(name, table, event, "true", f"{table} {what}: {event} refused")


_ARCHIVED_PARENT = (
    "SELECT 1 FROM version_state s WHERE s.version_id = NEW.{column} AND s.status = 'archived'"
)

RULES: tuple[Rule, ...] = (
    *(_refuse(table, event) for table in APPEND_ONLY for event in ("UPDATE", "DELETE")),
    *(_refuse(table, "DELETE") for table in LASTING),
    Rule(
        "registry_has_one_id",
        "registry",
        "INSERT",
        "EXISTS (SELECT 1 FROM registry)",
        "a registry has one id",
    ),
    Rule(
        "registry_keeps_its_ids",
        "registry",
        "UPDATE",
        "NEW.id <> OLD.id OR NEW.store IS NULL OR NEW.store <> OLD.store",
        "a registry keeps its id, and its files their place",
    ),
    Rule(
        "versions_are_gapless",
        "versions",
        "INSERT",
        "NEW.version > 1 AND NOT EXISTS (SELECT 1 FROM versions v "
        "WHERE v.model_id = NEW.model_id AND v.version = NEW.version - 1)",
        "versions are numbered without a gap: the number before this one does not exist",
    ),
    Rule(
        "models_keep_name_and_count",
        "models",
        "UPDATE",
        "NEW.id <> OLD.id OR NEW.name <> OLD.name OR NEW.last_version < OLD.last_version "
        "OR NEW.last_version > OLD.last_version + 1",
        "a model keeps its name, and its counter goes up by one",
    ),
    Rule(
        "versions_have_a_living_parent",
        "versions",
        "INSERT",
        f"EXISTS ({_ARCHIVED_PARENT.format(column='parent_id')})",
        "the version to start from is archived; unarchive it first",
        lock="SELECT 1 FROM version_state s WHERE s.version_id = NEW.parent_id FOR SHARE",
    ),
    Rule(
        "jobs_use_a_living_version",
        "jobs",
        "INSERT",
        f"EXISTS ({_ARCHIVED_PARENT.format(column='version_id')})",
        "an archived version predicts nothing; unarchive it first",
        lock="SELECT 1 FROM version_state s WHERE s.version_id = NEW.version_id FOR SHARE",
    ),
    Rule(
        "version_state_keeps_its_version",
        "version_state",
        "UPDATE",
        "NEW.version_id <> OLD.version_id OR NEW.model_id <> OLD.model_id "
        "OR NEW.version <> OLD.version",
        "a status stays with its version",
    ),
    Rule(
        "jobs_keep_their_version",
        "jobs",
        "UPDATE",
        "NEW.id <> OLD.id OR NEW.version_id <> OLD.version_id",
        "a batch job stays with its version",
    ),
    Rule(
        "version_state_keeps_what_is_used",
        "version_state",
        "UPDATE",
        "NEW.status = 'archived' AND OLD.status <> 'archived' AND ("
        "EXISTS (SELECT 1 FROM jobs j WHERE j.version_id = NEW.version_id) OR "
        "EXISTS (SELECT 1 FROM versions v WHERE v.parent_id = NEW.version_id))",
        "a version that a batch job or another version was made with cannot be archived",
    ),
    *(
        Rule(
            f"aliases_need_other_eyes_on_{event.lower()}",
            "aliases",
            event,
            "NEW.alias = 'champion' AND EXISTS (SELECT 1 FROM models m "
            "WHERE m.id = NEW.model_id AND m.four_eyes) AND NOT EXISTS ("
            "SELECT 1 FROM versions v JOIN version_state s ON s.version_id = v.id "
            "JOIN approvals a ON a.id = s.approval_id WHERE v.model_id = NEW.model_id "
            "AND v.version = NEW.version AND a.approver <> v.created_by)",
            "the champion of this model needs an approval by somebody other than its trainer",
        )
        for event in ("INSERT", "UPDATE")
    ),
)

SENTENCES = {
    "ck_aliases_archived": "a version that an alias points to cannot be archived; "
    "move or unset the alias first",
    "ck_aliases_champion": "the champion must be an approved version",
    "ck_version_state_approved": "a version is approved only by an approval of its own",
    "ck_version_state_status": "a version is candidate, approved, rejected or archived",
    "ck_models_keep_last": "retention keeps at least one version, or has no such rule",
    "ck_models_keep_days": "retention keeps versions for 0 days or more, or has no such rule",
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
