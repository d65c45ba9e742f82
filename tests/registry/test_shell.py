"""A SQLite registry enforces its rules in the `sqlite3` shell too, where foreign keys are off.

Where the shell is not installed, Python's sqlite3 module is used, whose defaults are the same.
"""

import shutil
import sqlite3
import subprocess

import pytest
from registry_helpers import Place, make_candidate, quick_folder

from registry import JobInput, Policy
from registry.integrity import verify

HEX = "f" * 64
BLOB = "(SELECT min(sha256) FROM version_artifacts WHERE version_id = 2)"
HEAD = "(SELECT last_event FROM models WHERE id = 1)"


def event(kind, version="NULL", alias="NULL", previous="NULL", payload="{}", prev=HEAD):
    return (
        "INSERT INTO events (model_id, at, actor, kind, version, alias, previous, payload, "
        f"prev_hash, hash) VALUES (1, 0, 'eve', '{kind}', {version}, {alias}, {previous}, "
        f"'{payload}', {prev}, '{HEX}')"
    )


def state(status, version, verb="UPDATE"):
    return f"{verb} version_state SET status = '{status}' WHERE version_id = {version}"


def version(model=1, number=5, params=1, parent="NULL"):
    return (
        "INSERT INTO versions (id, uid, model_id, version, digest, dataset, test_split, signature, "
        "params_id, parent_id, libraries, git_dirty, created_at, created_by) VALUES "
        f"(9, 'u', {model}, {number}, '{HEX}', 'd', 't', '{{}}', {params}, {parent}, '{{}}', 0, "
        "0, 'eve')"
    )


JOB = (
    "INSERT{} INTO jobs (id, version_id, reference, state, input_sha256, output, started_at) "
    f"VALUES ('{{}}', {{}}, 'r', 'running', '{HEX}', 'running', 0)"
)
APPROVAL = (
    "INSERT INTO approvals (version_id, evaluation_id, passed, approver, reason, at) "
    "VALUES ({}, {}, 1, 'eve', 'because', 0)"
)

INPUT = (
    f"INSERT{{}} INTO job_inputs SELECT {{}}, id, '{HEX}', 'a.csv', {{}} FROM jobs "
    "WHERE state = '{}'"
)

# digits has four versions: 1 was champion, 2 is champion, 3 is production (protected) and 4 is
# a candidate with an alias, canary; a running and an ended job used 2.
REFUSED = {
    # Foreign keys, each way
    "archive the champion": state("archived", 2),
    "archive the champion, or ignore it": state("archived", 2, "UPDATE OR IGNORE"),
    "archive the champion, or replace": state("archived", 2, "UPDATE OR REPLACE"),
    "archive production": state("archived", 3),
    "archive production, or ignore it": state("archived", 3, "UPDATE OR IGNORE"),
    "reject the champion": state("rejected", 2),
    "make the champion a candidate": state("candidate", 2, "UPDATE OR IGNORE"),
    "reject what a protected alias points to": state("rejected", 3),
    "archive what an alias points to": state("archived", 4),
    "make a candidate champion": "UPDATE aliases SET version = 4 WHERE alias = 'champion'",
    "make a candidate champion by its status": "UPDATE aliases SET version = 4, "
    "status = 'candidate' WHERE alias = 'champion'",
    "make a candidate champion said to be approved": "UPDATE aliases SET version = 4, "
    "status = 'approved' WHERE alias = 'champion'",
    "make a candidate production": "UPDATE aliases SET version = 4, status = 'candidate' "
    "WHERE alias = 'production'",
    "rename an alias to champion": "UPDATE OR REPLACE aliases SET alias = 'champion' "
    "WHERE alias = 'canary'",
    "give an alias another status": "UPDATE aliases SET status = 'approved' WHERE alias = 'canary'",
    "an alias to no version": "INSERT INTO aliases VALUES (1, 'new', 99, 'candidate', 1)",
    "an alias of no model": "INSERT INTO aliases VALUES (99, 'new', 1, 'approved', 1)",
    "replace the champion": "INSERT OR REPLACE INTO aliases VALUES "
    "(1, 'champion', 1, 'approved', 1)",
    "approve by no evaluation": APPROVAL.format(4, 99),
    "approve by another version's evaluation": APPROVAL.format(4, 1),
    "approve by no approval": "UPDATE version_state SET status = 'approved', approval_id = 99 "
    "WHERE version_id = 4",
    "approve by another version's approval": "UPDATE version_state SET status = 'approved', "
    "approval_id = 1 WHERE version_id = 4",
    "a status of no version": "INSERT INTO version_state VALUES (99, 1, 99, 'candidate', NULL)",
    "a status that begins approved": "INSERT INTO version_state VALUES (99, 1, 9, 'approved', 1)",
    "a status moved to another version": "UPDATE version_state SET version_id = 99 "
    "WHERE version_id = 4",
    "a version of no model": version(model=99, number=1),
    "a version of no parameters": version(params=99),
    "a version of no parent": version(parent=99),
    "a version that leaves a gap": version(number=7),
    "a version of a number that is taken": version(number=4),
    "a file of no version": f"INSERT INTO version_artifacts VALUES (99, 'x', {BLOB}, 1, 0)",
    "a file of no blob": f"INSERT INTO version_artifacts VALUES (2, 'x', '{HEX}', 1, 0)",
    "a file more": f"INSERT INTO version_artifacts VALUES (2, 'x', {BLOB}, 1, 0)",
    "a metric of no version": "INSERT INTO version_metrics VALUES (99, 'x', 1.0)",
    "a metric more": "INSERT INTO version_metrics VALUES (2, 'x', 1.0)",
    "data of no version": "INSERT INTO version_data VALUES (99, 'x', 'y')",
    "a tag of no version": "INSERT INTO version_tags VALUES (99, 'x', 'y')",
    "a tag without its event": "INSERT INTO version_tags VALUES (2, 'x', 'y')",
    "another tag without its event": "UPDATE version_tags SET value = 'blue'",
    "a tag removed without its event": "DELETE FROM version_tags",
    "a tag moved": "UPDATE OR REPLACE version_tags SET version_id = 1",
    "a signature of no version": "INSERT INTO version_signatures VALUES (99, 'x', 'y')",
    "a parameter more": "INSERT INTO param_values VALUES (1, 'x', 'y')",
    "a parameter of no document": "INSERT INTO param_values VALUES (99, 'x', 'y')",
    "an evaluation of no version": "INSERT INTO evaluations (version_id, passed, report, at, "
    "actor) VALUES (99, 1, '{}', 0, 'eve')",
    "an evaluation without its event": "INSERT INTO evaluations (version_id, passed, report, at, "
    "actor) VALUES (4, 1, '{}', 0, 'eve')",
    "a job of no version": JOB.format("", "new", 99).replace("'running', 0", "'other', 0"),
    "a job moved": "UPDATE jobs SET version_id = 1",
    "an event of no model": event("noted").replace("VALUES (1,", "VALUES (99,"),
    "an event of no version": event("noted", 99),
    "a protected alias of no model": "INSERT INTO protected_aliases VALUES (99, 'new')",
    "a blob that versions need goes": f"DELETE FROM blobs WHERE sha256 = {BLOB}",
    "a blob's key changes": f"UPDATE blobs SET sha256 = '{HEX}' WHERE sha256 = {BLOB}",
    "a blob's size changes": f"UPDATE blobs SET size = 0 WHERE sha256 = {BLOB}",
    "a blob in use is said to be purged": f"UPDATE blobs SET purged_at = 1 WHERE sha256 = {BLOB}",
    # REPLACE and IGNORE
    "replace a model by its name": "INSERT OR REPLACE INTO models (name, last_version, created_at) "
    "VALUES ('digits', 0, 0)",
    "replace a model by its id": "INSERT OR REPLACE INTO models (id, name, last_version, "
    "created_at) VALUES (1, 'other', 0, 0)",
    "replace models": "REPLACE INTO models SELECT * FROM models",
    "replace versions": "REPLACE INTO versions SELECT * FROM versions",
    "replace states": "REPLACE INTO version_state SELECT * FROM version_state",
    "replace parameters": "REPLACE INTO params SELECT * FROM params",
    "replace events": "REPLACE INTO events SELECT * FROM events",
    "replace evaluations": "REPLACE INTO evaluations SELECT * FROM evaluations",
    "replace approvals": "REPLACE INTO approvals SELECT * FROM approvals",
    "replace jobs": "REPLACE INTO jobs SELECT * FROM jobs",
    "replace a running job by its output": JOB.format(" OR REPLACE", "new", 2),
    "replace a job by its place": "INSERT OR REPLACE INTO jobs (rowid, id, version_id, reference, "
    f"state, input_sha256, output, started_at) VALUES (1, 'n', 2, 'r', 'lost', '{HEX}', 'o', 0)",
    "move a job to the place of another": "UPDATE OR REPLACE jobs SET rowid = 1 WHERE rowid = 2",
    "move a blob to the place of another": "UPDATE OR REPLACE blobs SET rowid = 1 WHERE rowid = 2",
    "replace a blob by its place": "INSERT OR REPLACE INTO blobs (rowid, sha256, size, touched) "
    f"VALUES (1, '{HEX}', 1, 0)",
    "replace a blob": f"INSERT OR REPLACE INTO blobs VALUES ({BLOB}, 1, 0, NULL)",
    "replace a blob as purged": "REPLACE INTO blobs SELECT sha256, size, touched, 1 FROM blobs",
    "replace a tag": "INSERT OR REPLACE INTO version_tags VALUES (2, 'colour', 'blue')",
    "replace a protected alias": "REPLACE INTO protected_aliases SELECT * FROM protected_aliases",
    "replace the registry": f"REPLACE INTO registry VALUES ('{'f' * 32}', NULL, 0)",
    "a model that is there, ignored": "INSERT OR IGNORE INTO models (name, last_version, "
    "created_at) VALUES ('digits', 0, 0)",
    # The registry's row
    "a second registry": f"INSERT INTO registry VALUES ('{'f' * 32}', NULL, 0)",
    "another id": f"UPDATE registry SET id = '{'f' * 32}'",
    "no id": "DELETE FROM registry",
    # Counters, heads, and events that say what is not
    "a counter without a version": "UPDATE models SET last_version = last_version + 1",
    "a model that begins with versions": "INSERT INTO models (name, last_version, created_at) "
    "VALUES ('new', 3, 0)",
    "a model deleted": "DELETE FROM models",
    "a head that is no event": f"UPDATE models SET last_event = '{HEX}'",
    "a head of before": "UPDATE models SET last_event = (SELECT hash FROM events WHERE id = 1)",
    "an event of a kind that nobody knows": event("crowned", 4),
    "an event beside the newest": event("noted", prev=f"'{'0' * 64}'"),
    "a promotion that is not": event("promoted", 4, "'champion'", 2),
    "a promotion after another version": event("promoted", 2, "'champion'", 4),
    "a rollback that is not": event("rolled back", 1, "'champion'", 2),
    "an alias said to be unset": event("unset", alias="'champion'", previous=2),
    "a registration once more": event("registered", 4),
    "a registration of no version": event("registered"),
    "an approval that is not": event("approved", 4),
    "a rejection that is not": event("rejected", 4),
    "an archiving that is not": event("archived", 4),
    "an unarchiving that is not": event("unarchived", 2),
    "a purge that is not": event("purged", 2),
    "a signature that is not": event("signed", 2, payload='{"key": "x"}'),
    # What a reader could not read
    "a payload that is a list": event("noted", 4, payload="[]"),
    "a payload that is no JSON": event("noted", 4, payload="{"),
    "a payload nested too deeply": event(
        "noted", 4, payload='{"a": ' + "[" * 3000 + "]" * 3000 + "}"
    ),
    "a payload as bytes": event("noted", 4).replace("'{}'", "CAST('{}' AS BLOB)"),
    "an event after the year 9999": event("noted", 4).replace("(1, 0,", f"(1, {10**18},"),
    "an event of no time": event("noted", 4).replace("(1, 0,", "(1, 'noon',"),
    "an actor as bytes": event("noted", 4).replace("'eve'", "x'00'"),
    "a version made in the year 33658": version().replace("0, 0, 'eve'", f"0, {10**18}, 'eve'"),
    "a version that is maybe dirty": version().replace("0, 0, 'eve'", "2, 0, 'eve'"),
    "a signature that is a list": version().replace("'t', '{}'", "'t', '[]'"),
    "a number that PostgreSQL has not": version(number=2**40),
    "a job that started at noon": JOB.format("", "new", 2).replace("0)", "'noon')"),
    "a job that ends too late": f"UPDATE jobs SET state = 'lost', finished_at = {10**18} "
    "WHERE state = 'running'",
    "a job that substituted a list": "UPDATE jobs SET state = 'lost', substituted = '[]' "
    "WHERE state = 'running'",
    "a job whose drift is a list": "UPDATE jobs SET state = 'lost', drift = '[]' "
    "WHERE state = 'running'",
    "an alias moved half a time": "UPDATE aliases SET revision = 1.5",
    "a policy of many days": "UPDATE models SET keep_days = 'many'",
    "other eyes, perhaps": "UPDATE models SET four_eyes = 'maybe'",
    # Jobs that ended
    "an ended job changes": "UPDATE jobs SET rows = 7 WHERE state = 'completed'",
    "an ended job runs": "UPDATE OR REPLACE jobs SET state = 'running' WHERE state = 'completed'",
    "an ended job with quarantined rows": "UPDATE jobs SET quarantined = 7 "
    "WHERE state = 'completed'",
    "an ended job with another drift": "UPDATE jobs SET drift = '{}' WHERE state = 'completed'",
    "a job that quarantined many": "UPDATE jobs SET quarantined = 'many' WHERE state = 'running'",
    "an input file of no job": f"INSERT INTO job_inputs VALUES (9, 'nobody', '{HEX}', 'a', 1)",
    "an input file of an ended job": INPUT.format("", 9, 1, "completed"),
    "an input file of many rows": INPUT.format("", 9, "'many'", "running"),
    "an input file replaced": INPUT.format(" OR REPLACE", 1, 1, "running"),
    "an input file of another job": "UPDATE job_inputs SET job_id = (SELECT id FROM jobs "
    "WHERE state = 'running')",
    "an input file forgotten": "DELETE FROM job_inputs",
    # Protected aliases
    "an alias of a candidate protected": "INSERT INTO protected_aliases VALUES (1, 'canary')",
    "a protected alias renamed": "UPDATE protected_aliases SET alias = 'other'",
}


@pytest.fixture(scope="module")
def place():
    with quick_folder() as folder:
        made = Place(folder)
        with made.open() as registry:
            for number in (1, 2, 3, 4):
                offered = make_candidate(folder / "bundle", f"model {number}")
                registry.register("digits", offered, actor="ada")
            move = {"expect_revision": None, "actor": "ada", "reason": "better"}
            registry.set_policy("digits", Policy(protected=("production",)), actor="ada")
            for number, alias in ((1, "champion"), (2, "champion"), (3, "production")):
                registry.promote("digits", number, alias, **move)
            registry.promote("digits", 4, "canary", **move)
            registry.tag("digits", 2, "colour", "red", actor="ada")
            resolved = registry.resolve("digits")
            ended = registry.start_job(resolved, input_sha256=HEX, output="ended")
            read = [JobInput(HEX, "a.csv", 1)]
            registry.finish_job(ended, rows=1, provider="CPU", onnxruntime="1", inputs=read)
            registry.start_job(resolved, input_sha256=HEX, output="running")
        yield made


def dump(path):
    with sqlite3.connect(path) as connection:
        return list(connection.iterdump())


def in_shell(path, statement):
    """The error that SQLite prints for a statement in its own shell; empty if it succeeds."""
    if shell := shutil.which("sqlite3"):
        ran = subprocess.run([shell, path, statement], capture_output=True, text=True, check=False)
        return ran.stderr
    connection = sqlite3.connect(path)
    try:
        with connection:
            connection.execute(statement)
    except sqlite3.Error as error:
        return str(error)
    finally:
        connection.close()
    return ""


@pytest.mark.parametrize("what", REFUSED)
def test_sqlite_shell_is_refused(what, place):
    path = place.folder / "registry.db"
    before = dump(path)
    said = in_shell(path, REFUSED[what])
    assert dump(path) == before
    assert " " in said.strip(), "a sentence"
    assert not any(raw in said for raw in ("no such", "has no column", "syntax error")), said


NEW = version().replace("INSERT", "BEGIN; INSERT") + "; "


@pytest.mark.parametrize("value", ["9e999", "-9e999", "'high'", "x'00'"])
def test_a_metric_is_a_finite_number(place, value):
    new = f"{NEW} INSERT INTO version_metrics VALUES (9, 'f1', {value}); COMMIT"
    connection = sqlite3.connect(place.folder / "registry.db")
    with pytest.raises(sqlite3.IntegrityError, match=r"finite|of the type"):
        connection.executescript(new)
    connection.close()


def test_inserted_version_gets_a_status(place):
    connection = sqlite3.connect(place.folder / "registry.db")
    connection.executescript(NEW)
    states = connection.execute("SELECT * FROM version_state WHERE version_id = 9").fetchall()
    connection.close()
    assert states == [(9, 1, 5, "candidate", None)]


def test_registry_verifies_after_all_shell_attempts(place):
    for statement in REFUSED.values():
        in_shell(place.folder / "registry.db", statement)
    with place.open() as registry:
        assert verify(registry).problems == []
        by = {"actor": "ada", "reason": "worse"}
        assert registry.rollback("digits", **by).version == 1
        offered = make_candidate(place.folder / "bundle", "model 5")
        assert registry.register("digits", offered, actor="ada").version.version == 5
        assert verify(registry).problems == []


def test_status_change_in_the_sqlite_shell_updates_aliases(tmp_path):
    made = Place(tmp_path)
    with made.open() as registry:
        registry.register("digits", make_candidate(tmp_path / "bundle"), actor="ada")
        asked = {"expect_revision": 0, "actor": "ada", "reason": "to look at"}
        registry.promote("digits", 1, "canary", **asked)
    assert in_shell(tmp_path / "registry.db", state("rejected", 1)) == ""
    with sqlite3.connect(tmp_path / "registry.db") as connection:
        assert connection.execute("SELECT status FROM aliases").fetchall() == [("rejected",)]


def test_store_id_is_set_once(tmp_path):
    with Place(tmp_path).open() as registry:
        registry.create()
    path = tmp_path / "registry.db"
    assert in_shell(path, "UPDATE registry SET store = 'here'") == ""
    assert "keeps the store" in in_shell(path, "UPDATE registry SET store = 'there'")
    assert "keeps the store" in in_shell(path, "UPDATE registry SET store = NULL")
