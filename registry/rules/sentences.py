"""Error messages for constraints and triggers."""

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
"""Messages for the constraints that users can break. SQLite names only CHECK constraints; a foreign
key gets a general message."""


def sentence_of(text: str) -> str:
    """The message for an error of the database; the error itself if there is no other message."""
    found = next((said for name, said in SENTENCES.items() if name in text), None)
    if found is None and "FOREIGN KEY" in text:
        found = "it refers to something that does not exist, or that is still referred to"
    return found or text.splitlines()[0]
