"""On PostgreSQL no role gains the rights of another role through rows that it may write.

Each statement is sent to a real server as each role, with deferred constraints, and rolled back.
Then attacks are committed where the server allows it, and ordinary work must still succeed.
"""

import pytest
from databases import execute, fetch, raw, raw_engine
from registry_roles import candidate, registry_with_roles
from sqlalchemy.exc import DBAPIError

from registry import Refused
from registry.integrity import verify
from registry.upkeep import gc, purge


@pytest.fixture(scope="module")
def place(postgres, tmp_path_factory):
    """digits:1 is champion, 2 and 3 are candidates."""
    with registry_with_roles(postgres, tmp_path_factory.mktemp("registry")) as made:
        yield made


HEX = "f" * 64
CHAMPIONS_FILE = "(SELECT min(sha256) FROM version_artifacts WHERE version_id = 1)"


def event(kind, version="NULL", alias="NULL", previous="NULL", payload="{}", actor="eve", model=1):
    return (
        "INSERT INTO events (model_id, at, actor, kind, version, alias, previous, payload, "
        f"prev_hash, hash) SELECT id, 0, '{actor}', '{kind}', {version}, {alias}, {previous}, "
        f"'{payload}', last_event, md5(random()::text) || md5(random()::text) FROM models "
        f"WHERE id = {model}"
    )


def evaluation(version, passed="true", actor="eve"):
    return (
        "INSERT INTO evaluations (version_id, passed, report, at, actor) "
        f"VALUES ({version}, {passed}, '{{}}', 0, '{actor}')"
    )


def new_version(number, columns="", values=""):
    return (
        "INSERT INTO versions (uid, model_id, version, digest, dataset, test_split, signature, "
        f"params_id, libraries, git_dirty, created_at, created_by{columns}) VALUES ('u', 1, "
        f"{number}, '{HEX}', 'd', 't', '{{}}', 1, '{{}}', false, 0, 'eve'{values})"
    )


ID = "(SELECT id FROM versions WHERE uid = 'u')"
METRIC = f"INSERT INTO version_metrics VALUES ({ID}, 'x', '{{}}')"
STATE = f"INSERT INTO version_state VALUES ({ID}, 1, 4, 'candidate', NULL)"
WHOLE = [new_version(4), evaluation(ID), event("registered", 4)]
APPROVAL = (
    "INSERT INTO approvals (version_id, evaluation_id, passed, approver, reason, at) "
    "SELECT version_id, id, true, '{by}', 'good', 0 FROM evaluations WHERE version_id = 2 "
    "ORDER BY id DESC LIMIT 1"
)
APPROVED = (
    "UPDATE version_state SET status = 'approved', approval_id = (SELECT max(id) FROM approvals) "
    "WHERE version_id = 2"
)
APPROVE = [APPROVAL.format(by="eve"), APPROVED]
CROWN = "UPDATE aliases SET version = 2, status = 'approved', revision = 2 WHERE alias = 'champion'"
TAG = "INSERT INTO version_tags VALUES (1, 'x', 'y')"
TAGGED = event("tagged", 1, payload='{"key": "x", "value": "y"}')
UNTAG = "DELETE FROM version_tags WHERE version_id = 1 AND key = 'colour'"
UNTAGGED = event("tagged", 1, payload='{"key": "colour", "value": null}')
POLICY = "UPDATE models SET four_eyes = true WHERE id = 1"
SIGN = "INSERT INTO version_signatures VALUES (1, 'k', '{}')"
SIGNED = event("signed", 1, payload='{"key": "k", "document": "d"}')
JOB = "UPDATE jobs SET {}"
NEW_JOB = (
    "INSERT INTO jobs (id, version_id, reference, state, input_sha256, output, started_at) "
    f"VALUES ('j', 1, 'r', 'running', '{HEX}', 'o', 0)"
)
NEW_INPUT = f"INSERT INTO job_inputs (job_id, sha256, path, rows) VALUES ('j', '{HEX}', 'a', 1)"
BLOB = f"INSERT INTO blobs (sha256, size, touched{{}}) VALUES ('{HEX}', 1, 0{{}})"

# What each writes -> who may: w(riter), p(romoter), o(wner); a reader never.
TABLE = {
    # Whole changes, as the registry makes them
    "register": (WHOLE, "wo"),
    "tag": ([TAGGED, TAG], "wo"),
    "untag": ([UNTAGGED, UNTAG], "wo"),
    "evaluate": ([event("evaluated", 2), evaluation(2)], "wo"),
    "note": ([event("noted", 2)], "wpo"),
    "refuse": ([event("refused")], "wo"),
    "sign": ([SIGN, SIGNED], "wpo"),
    "announce a file": ([BLOB.format("", "")], "wo"),
    "take back that a file was purged": (["UPDATE blobs SET purged_at = NULL"], "wo"),
    "start a job": ([NEW_JOB], "wo"),
    "end a job": ([NEW_JOB, "UPDATE jobs SET state = 'completed' WHERE id = 'j'"], "wo"),
    "end a job with its input files": (
        [
            NEW_JOB,
            NEW_INPUT,
            "UPDATE jobs SET state = 'completed', rows = 1, quarantined = 0 WHERE id = 'j'",
        ],
        "wo",
    ),
    "approve": ([*APPROVE, event("approved", 2)], "po"),
    "promote": (
        [*APPROVE, event("approved", 2), CROWN, event("promoted", 2, "'champion'", 1)],
        "po",
    ),
    "reject": (
        ["UPDATE version_state SET status = 'rejected' WHERE version_id = 3", event("rejected", 3)],
        "po",
    ),
    "archive": (
        ["UPDATE version_state SET status = 'archived' WHERE version_id = 3", event("archived", 3)],
        "po",
    ),
    "unset": (
        ["DELETE FROM aliases WHERE model_id = 1", event("unset", "NULL", "'champion'", 1)],
        "po",
    ),
    "set a policy": ([POLICY, event("policy")], "po"),
    "protect an alias": (["INSERT INTO protected_aliases VALUES (1, 'production')"], "po"),
    # Events of what did not happen
    "a promotion without a move": ([event("promoted", 2, "'champion'", 1)], ""),
    "a promotion of what is champion": ([event("promoted", 1, "'champion'", 1)], "po"),
    "a promotion after another": (
        [CROWN.replace("2, status", "1, status"), event("promoted", 1, "'champion'", 2)],
        "",
    ),
    "a rollback without a move": ([event("rolled back", 2, "'champion'", 1)], ""),
    "an alias unset that is set": ([event("unset", "NULL", "'champion'", 1)], ""),
    "an approval without its row": ([event("approved", 2)], ""),
    "an approval by another": ([*APPROVE, event("approved", 2, actor="bo")], ""),
    "a rejection without its status": ([event("rejected", 2)], ""),
    "an archiving without its status": ([event("archived", 2)], ""),
    "an unarchiving of a candidate": ([event("unarchived", 2)], "po"),
    "a purge": ([event("purged", 2)], ""),
    "an evaluation without its row": ([event("evaluated", 2)], ""),
    "a tag without its row": ([TAGGED], ""),
    "a signature without its row": ([SIGNED], ""),
    "a registration again": ([event("registered", 2)], ""),
    "a registration of no version": ([event("registered", 4)], ""),
    "an event of an unknown kind": ([event("crowned", 2)], ""),
    "an event beside the newest": (
        [event("noted", 2).replace("last_event,", f"'{'0' * 64}',")],
        "",
    ),
    "an event of no hash": ([event("noted", 2).replace("md5(random()::text) ||", "'x' ||")], ""),
    # What a reader could not read
    "a metric that is no number": ([new_version(4), METRIC.format("NaN")], ""),
    "a metric without end": ([new_version(4), METRIC.format("-Infinity")], ""),
    "a payload that is a list": ([event("noted", 2, payload="[]")], ""),
    "a payload nested too deeply": (
        [event("noted", 2, payload='{"a": ' + "[" * 3000 + "]" * 3000 + "}")],
        "",
    ),
    "a payload nested deeply": (
        [event("noted", 2, payload='{"a": ' + "[" * 150 + "]" * 150 + "}")],
        "wpo",
    ),
    "a signature that is a list": ([new_version(4).replace("'{}', 1", "'[]', 1")], ""),
    "a report that is a text": (
        [event("evaluated", 2), evaluation(2).replace("'{}'", """'"yes"'""")],
        "",
    ),
    "an event after the year 9999": ([event("noted", 2).replace("id, 0,", f"id, {10**18},")], ""),
    "an event before 1970": ([event("noted", 2).replace("id, 0,", "id, -1,")], ""),
    "a version made after the year 9999": (
        [new_version(4).replace("0, 'eve'", f"{10**18}, 'eve'")],
        "",
    ),
    "a job that never ends": (
        [NEW_JOB, f"UPDATE jobs SET state = 'failed', finished_at = {10**18} WHERE id = 'j'"],
        "",
    ),
    "a job that substituted a list": (
        [NEW_JOB, "UPDATE jobs SET state = 'failed', substituted = '[]' WHERE id = 'j'"],
        "",
    ),
    "a job whose drift is a number": (
        [NEW_JOB, "UPDATE jobs SET state = 'failed', drift = '1' WHERE id = 'j'"],
        "",
    ),
    # Rows without what belongs to them
    "a counter alone": (["UPDATE models SET last_version = last_version + 1"], ""),
    "a head alone": ([f"UPDATE models SET last_event = '{HEX}'"], ""),
    "a model that begins at 7": (
        ["INSERT INTO models (name, last_version, created_at) VALUES ('new', 7, 0)"],
        "",
    ),
    "a version that leaves a gap": ([new_version(5)], ""),
    "a version without an evaluation": ([new_version(4), event("registered", 4)], ""),
    "a status twice": ([new_version(4), STATE], ""),
    "a version that begins approved": (
        [new_version(4), STATE.replace("'candidate', NULL", "'approved', 1")],
        "",
    ),
    "a tag without its event": ([TAG], ""),
    "a tag removed without its event": ([UNTAG], ""),
    "another tag than its event": ([TAGGED, TAG.replace("'y'", "'z'")], ""),
    "an evaluation without its event": ([evaluation(2)], ""),
    "two evaluations for one event": (
        [event("evaluated", 2), evaluation(2), evaluation(2)],
        "",
    ),
    "a metric more": (["INSERT INTO version_metrics VALUES (2, 'x', 1.0)"], ""),
    "a file more": (
        [f"INSERT INTO version_artifacts VALUES (2, 'x', {CHAMPIONS_FILE}, 1, true)"],
        "",
    ),
    "a parameter more": (["INSERT INTO param_values VALUES (1, 'x', 'y')"], ""),
    "an approval of a failed evaluation": (
        [event("evaluated", 2), evaluation(2, "false"), APPROVAL.format(by="eve")],
        "",
    ),
    "the champion of a candidate": (
        ["UPDATE aliases SET version = 2, status = 'candidate' WHERE alias = 'champion'"],
        "",
    ),
    "a file in use marked as purged": (
        [f"UPDATE blobs SET purged_at = 1 WHERE sha256 = {CHAMPIONS_FILE}"],
        "",
    ),
    "every file marked as purged": (["UPDATE blobs SET purged_at = 1"], ""),
    "a file announced as purged": ([BLOB.format(", purged_at", ", 1")], ""),
    "an ended job as running": ([JOB.format("state = 'running'")], ""),
    "an ended job with rows": ([JOB.format("rows = 7")], ""),
    "an ended job with quarantined rows": ([JOB.format("quarantined = 7")], ""),
    "an ended job with another drift": ([JOB.format("drift = '{}'")], ""),
    "an input file of no job": ([NEW_INPUT], ""),
    "an input file of an ended job": (
        [NEW_JOB, "UPDATE jobs SET state = 'completed' WHERE id = 'j'", NEW_INPUT],
        "",
    ),
    "an input file of another job": (
        [NEW_JOB, NEW_INPUT, "UPDATE job_inputs SET job_id = (SELECT min(id) FROM jobs)"],
        "",
    ),
    "another id": ([f"UPDATE registry SET id = '{HEX[:32]}'"], ""),
    "a second registry": ([f"INSERT INTO registry VALUES ('{HEX[:32]}', NULL, 0)"], ""),
}
LOGINS = {"r": "rita", "w": "walt", "p": "petra", "o": "keeper"}


@pytest.mark.parametrize("what", TABLE)
@pytest.mark.parametrize("who", LOGINS)
def test_grants_match_the_table_of_roles(who, what, place):
    statements, allowed = TABLE[what]
    with raw_engine(place.url(LOGINS[who])).connect() as connection:
        said, code = "", "42501"
        try:
            for statement in (*statements, "SET CONSTRAINTS ALL IMMEDIATE"):
                connection.exec_driver_sql(statement)
        except DBAPIError as error:
            said, code = str(error.orig), error.orig.sqlstate
        connection.rollback()
    assert (said == "") == (who in allowed), said
    # Not allowed, or against a rule: anything else is a mistake of the test.
    assert code == "42501" or code.startswith("23"), said


# The attacks end to end: refused, and what honest people do next comes out right


def attack(place, login, *statements):
    with pytest.raises(DBAPIError):
        execute(place.url(login), *statements)


@pytest.fixture
def raced(place, request):
    """Name and id of a model: versions 1 and 2 were champion, and walt has registered 3."""
    name = f"raced-{abs(hash(request.node.name)) % 10**8}"
    with place.open("walt") as registry:
        for number in (1, 2, 3):
            registry.register(name, candidate(place, f"{name} {number}"), actor="walt")
    with place.open("petra") as registry:
        for number in (1, 2):
            registry.promote(name, number, expect_revision=number - 1, actor="petra", reason="r")
    ((model,),) = fetch(place.dba, f"SELECT id FROM models WHERE name = '{name}'")
    return name, model


def test_rollback_does_not_follow_a_forged_promotion(place, raced):
    name, model = raced
    for kind, previous in (("promoted", 2), ("rolled back", 2), ("promoted", "NULL")):
        attack(place, "walt", event(kind, 3, "'champion'", previous, model=model))
    with place.open("petra") as registry:
        assert registry.rollback(name, actor="petra", reason="worse").version == 1
        assert verify(registry, name).problems == []


def test_forged_version_counter_does_not_block_registration(place, raced):
    name, model = raced
    attack(place, "walt", f"UPDATE models SET last_version = 4 WHERE id = {model}")
    attack(place, "walt", event("registered", 4, model=model))
    with place.open("walt") as registry:
        made = registry.register(name, candidate(place, f"{name} next"), actor="walt").version
        assert made.version == 4
        assert verify(registry, name).problems == []


def test_version_without_an_event_is_never_approved(place, raced):
    name, model = raced
    half = new_version(4).replace("'u', 1,", f"'half-{model}', {model},")
    own = f"(SELECT id FROM versions WHERE uid = 'half-{model}')"
    execute(place.url("walt"), half, evaluation(own))
    with place.open("walt") as registry:
        made = registry.register(name, candidate(place, f"{name} next"), actor="walt").version
        assert made.version == 5
    with place.open("petra") as registry, pytest.raises(Refused, match="that the history knows"):
        registry.promote(name, 4, expect_revision=None, actor="petra", reason="why not")


def test_event_without_its_change_does_not_block_others(place, raced):
    name, model = raced
    execute(place.url("walt"), event("noted", 3, model=model))
    with place.open("petra") as registry:
        assert registry.rollback(name, actor="petra", reason="worse").version == 1


def test_writer_cannot_mark_files_as_purged(place, raced):
    name, _ = raced
    attack(place, "walt", "UPDATE blobs SET purged_at = 1")
    attack(place, "petra", "UPDATE blobs SET purged_at = 1")
    with place.open("keeper") as registry:
        files = registry.open(registry.resolve(name).version)
        # Even where somebody has switched the rules off.
        with raw(place.dba) as connection:
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
            connection.exec_driver_sql("UPDATE blobs SET purged_at = 1")
        gc(registry, dry_run=False, grace_s=0)
        assert all(path.exists() for path in files.values())
        execute(place.url("keeper"), "UPDATE blobs SET purged_at = NULL")
        assert verify(registry, name).problems == []


def test_only_the_owner_purges_archived_versions(place, raced):
    name, _ = raced
    with place.open("petra") as registry:
        registry.archive(name, 3, actor="petra", reason="old")
        with pytest.raises(Refused, match="permission denied"):
            purge(registry, actor="petra", dry_run=False)
    with place.open("walt") as registry, pytest.raises(Refused, match="permission denied"):
        purge(registry, actor="walt", dry_run=False)
    with place.open("keeper") as registry:
        assert len(purge(registry, actor="keeper", dry_run=False)) == 1
        assert registry.history(name)[0].kind == "purged"
        assert verify(registry, name).problems == []


def test_rights_follow_set_role(place):
    for role, kind in (("writer", "policy"), ("promoter", "refused"), ("reader", "noted")):
        with pytest.raises(DBAPIError, match="permission denied"):
            execute(place.dba, f"SET ROLE modelmint_{role}", event(kind))
