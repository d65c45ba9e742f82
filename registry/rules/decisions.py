"""Rules for approvals, for the champion and for other protected aliases."""

from registry.rules.rule import HOLD_MODEL, RECORDED, Rule

PROTECTED = (
    "({alias} = 'champion' OR EXISTS (SELECT 1 FROM protected_aliases p "
    "WHERE p.model_id = {model} AND p.alias = {alias}))"
)
"""Whether an alias needs an approved version: the champion, and those that the policy names."""

_NEW_ALIAS = PROTECTED.format(model="NEW.model_id", alias="NEW.alias")


def _person(column: str) -> str:
    """SQL that normalises a person's name, like `references.person` as far as SQL can."""
    return f"lower(trim({column}))"


DECISIONS = (
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
        f"AND e.id > NEW.evaluation_id) OR NOT {RECORDED})",
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
        lock=HOLD_MODEL,
    ),
)
