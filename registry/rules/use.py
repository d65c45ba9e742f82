"""Rules for the use of versions as parents, by jobs and by aliases; not of archived versions."""

from registry.rules.rule import Rule, unchanging_rule

_ARCHIVED_PARENT = (
    "SELECT 1 FROM version_state s WHERE s.version_id = NEW.{column} AND s.status = 'archived'"
)

USE = (
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
    unchanging_rule(
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
        "job_inputs_come_before_the_end",
        "job_inputs",
        "INSERT",
        "NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = NEW.job_id AND j.state = 'running')",
        "the input files of a batch job are recorded right before it completes, not later",
        lock="SELECT 1 FROM jobs j WHERE j.id = NEW.job_id FOR NO KEY UPDATE",
    ),
    Rule(
        "version_state_keeps_what_is_used",
        "version_state",
        "UPDATE",
        "NEW.status = 'archived' AND OLD.status <> 'archived' AND ("
        "EXISTS (SELECT 1 FROM jobs j WHERE j.version_id = NEW.version_id "
        "AND j.state IN ('running', 'completed')) OR "
        "EXISTS (SELECT 1 FROM versions v WHERE v.parent_id = NEW.version_id) OR "
        # A version that was imported before its parent has only the uid of the parent.
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
