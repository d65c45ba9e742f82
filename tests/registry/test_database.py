"""The database enforces its rules: triggers, keys, schema revisions, and readable errors."""

import contextlib
import re
import shutil
import sqlite3
import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from databases import (
    create_by_all_revisions,
    execute,
    fetch,
    fill_database,
    fill_with_kept,
    new_databases,
    raw,
    schema_of,
    unguarded,
)
from registry_helpers import in_processes
from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError

from registry import schema
from registry.databases.database import (
    MIGRATIONS,
    Database,
    create,
    upgrade,
)
from registry.errors import NoRegistry, Refused, RegistryError, SchemaMismatch, Unreachable
from registry.rules import RULES
from registry.rules.rule import APPEND_ONLY, LASTING
from registry.rules.sentences import SENTENCES

NEXT = f"{int(schema.HEAD) + 1:04}"
"""The revision after the newest."""

BROKEN = f"""
import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{schema.HEAD}"


def upgrade():
    op.create_table("half", sa.Column("id", sa.Integer, primary_key=True))
    op.add_column("models", sa.Column("half", sa.Text))
    op.execute("SELECT 1 FROM nowhere")
"""


def sqlite_url(folder):
    return f"sqlite:///{folder}/registry.db"


def opened(url):
    """A new registry."""
    database = Database(url)
    database.create()
    return contextlib.closing(database)


@pytest.fixture
def full_url(database_url):
    """The URL of a registry of this schema with a row in every table.

    digits has versions 1 to 3 with ids 1 to 3: 1 has a job, 2 is champion and has a job, 3 is
    staging. words has versions with ids 4 and 5, and 5 is champion. 1, 3 and 4 are not approved.
    """
    return fill_database(database_url, filled)


def filled(url):
    fill_with_kept(url)
    upgrade(url)
    with unguarded(url) as connection:
        for row in (
            "version_tags VALUES (1, 'colour', 'red')",
            "version_data VALUES (1, 'data/raw', 'abc')",
            "version_signatures VALUES (1, 'key', '{}')",
            "jobs VALUES ('done', 1, 'digits:1', NULL, NULL, 'completed', "
            f"'{'4' * 64}', '/out/d', 7, 'CPU', '1.31', NULL, NULL, 1, 2, NULL, 0, NULL)",
            f"job_inputs VALUES (1, 'done', '{'5' * 64}', '/in/a.csv', 7)",
        ):
            connection.exec_driver_sql(f"INSERT INTO {row}")
    return url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def lasting_url(request):
    """Like full_url, shared by tests that do not change it."""
    with new_databases(request.param, request) as make:
        yield filled(make())


@pytest.fixture
def postgres_url(lasting_url):
    """The same, on PostgreSQL only."""
    if lasting_url.startswith("sqlite"):
        pytest.skip("SQLite has nothing of the kind")
    return lasting_url


# Rules, as a client finds them that knows nothing of our code


def refused(url, *statements):
    """The answer of the database to the last of these statements; all are rolled back."""
    *prepared, last = statements
    with raw(url) as connection:
        for statement in prepared:
            connection.exec_driver_sql(statement)
        with pytest.raises(DBAPIError) as caught:
            connection.exec_driver_sql(last)
        connection.get_transaction().rollback()
    return str(caught.value.orig)


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_events_cannot_be_updated_or_deleted(lasting_url, table):
    column = schema.metadata.tables[table].columns.keys()[-1]
    for verb, statement in (
        ("UPDATE", f"UPDATE {table} SET {column} = {column}"),
        ("DELETE", f"DELETE FROM {table}"),
    ):
        assert f"{table} is append-only: {verb} refused" in refused(lasting_url, statement)


@pytest.mark.parametrize("table", LASTING)
def test_permanent_rows_cannot_be_deleted(lasting_url, table):
    said = refused(lasting_url, f"DELETE FROM {table}")
    assert f"{table} keeps every row: DELETE refused" in said


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_insert_or_replace_cannot_change_history(lasting_url, table):
    if lasting_url.startswith("postgresql"):
        pytest.skip("PostgreSQL has no REPLACE: ON CONFLICT updates, and that is refused")
    # SQLite removes the row that is in the way without asking the triggers of DELETE.
    assert refused(lasting_url, f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")


def test_truncate_is_refused_on_every_postgresql_table(postgres_url):
    for table in (*APPEND_ONLY, *LASTING):
        said = refused(postgres_url, f"TRUNCATE {table} CASCADE")
        assert "a table of the registry is never emptied" in said


def new_version(number, uid="u", **changes):
    """The statement that inserts a version of digits."""
    row = {
        "uid": f"'{uid}'",
        "model_id": 1,
        "version": number,
        "digest": f"'{'d' * 64}'",
        "dataset": "'d'",
        "test_split": "'t'",
        "git_dirty": "false",
        "created_at": 0,
        "created_by": "'ada'",
        "params_id": 1,
        **dict.fromkeys(("signature", "libraries"), "'{}'"),
        **changes,
    }
    return f"INSERT INTO versions ({', '.join(row)}) VALUES ({', '.join(map(str, row.values()))})"


def new_approval(version, evaluation, passed="true", approver="ada"):
    return (
        "INSERT INTO approvals (version_id, evaluation_id, passed, approver, reason, at) "
        f"VALUES ({version}, {evaluation}, {passed}, '{approver}', 'good', 0)"
    )


NEWEST = "(SELECT last_event FROM models WHERE id = 3)"


def new_event(number, prev_hash=NEWEST, version="NULL", kind="noted"):
    return (
        "INSERT INTO events (model_id, at, actor, kind, version, payload, prev_hash, hash) "
        f"VALUES (3, 0, 'ada', '{kind}', {version}, '{{}}', {prev_hash}, '{number:064}')"
    )


def new_job(version):
    return (
        "INSERT INTO jobs (id, version_id, reference, state, input_sha256, output, started_at) "
        f"VALUES ('j', {version}, 'r', 'running', '{'1' * 64}', 'o', 0)"
    )


def new_input(job):
    return (
        "INSERT INTO job_inputs (job_id, sha256, path, rows) "
        f"VALUES ('{job}', '{'5' * 64}', '/in/b.csv', 7)"
    )


STATE = "UPDATE version_state SET status = '{}' WHERE version_id = {}"
UID_3 = "(SELECT uid FROM versions WHERE id = 3)"
ARCHIVE_3 = ("DELETE FROM aliases WHERE alias = 'staging'", STATE.format("archived", 3))
APPROVE_3 = (
    new_approval(3, 3),
    # A sequence of PostgreSQL does not go back with its transaction: the id is not always 3.
    "UPDATE version_state SET status = 'approved', approval_id = (SELECT max(id) FROM approvals) "
    "WHERE version_id = 3",
)
CHAMPION = "UPDATE aliases SET {} WHERE model_id = 1 AND alias = 'champion'"

REFUSED = {
    "a version's number leaves a gap": ([new_version(5)], "numbered without a gap"),
    "a version's number is taken": ([new_version(3)], "unique.*model_id|already has a row"),
    "a version without a number": ([new_version(0)], "ck_versions_version"),
    "the same bytes from the same data": (
        [new_version(4), new_version(5, "v")],
        "unique.*digest|already has a row",
    ),
    "one request makes two versions": (
        [
            new_version(4, request_id="'r'"),
            new_version(5, "v", request_id="'r'", dataset="'other'"),
        ],
        "unique.*request_id|already has a row",
    ),
    "a parent that is archived": (
        [*ARCHIVE_3, new_version(4, parent_id=3, parent_uid=UID_3)],
        "the version to start from is archived",
    ),
    "a parent that does not exist": ([new_version(4, parent_id=99)], "foreign key"),
    "a parent under another uid": (
        [new_version(4, parent_id=1, parent_uid=UID_3)],
        "names the version that it started from by its uid",
    ),
    "a model is renamed": (["UPDATE models SET name = 'x'"], "a model keeps its name"),
    "a model's counter goes back": (
        ["UPDATE models SET last_version = last_version - 1"],
        "its counter goes up by one",
    ),
    "a model's counter skips one": (
        ["UPDATE models SET last_version = last_version + 2"],
        "its counter goes up by one",
    ),
    "a model keeps no version": (["UPDATE models SET keep_last = 0"], "ck_models_keep_last"),
    "a file that no blob knows": (
        [
            new_version(4, id=9),
            f"INSERT INTO version_artifacts VALUES (9, 'x', '{'9' * 64}', 1, false)",
        ],
        "foreign key",
    ),
    "a blob that a version needs goes": (["DELETE FROM blobs"], "foreign key"),
    "a blob of no SHA-256": (
        ["INSERT INTO blobs (sha256, size, touched) VALUES ('abc', 1, 0)"],
        "ck_blobs_sha256",
    ),
    "an alias points to nothing": (
        ["INSERT INTO aliases VALUES (1, 'new', 99, 'candidate', 1)"],
        "foreign key",
    ),
    "an alias points to another model's": (
        ["INSERT INTO aliases VALUES (2, 'new', 3, 'candidate', 1)"],
        "foreign key",
    ),
    "an alias without a revision": (
        ["INSERT INTO aliases VALUES (1, 'new', 1, 'candidate', 0)"],
        "ck_aliases_revision",
    ),
    "an alias with another status than its version": (
        ["INSERT INTO aliases VALUES (1, 'new', 1, 'approved', 1)"],
        "foreign key",
    ),
    "a champion that nobody approved": (
        [CHAMPION.format("version = 3, status = 'candidate'")],
        "ck_aliases_champion",
    ),
    "a champion said to be approved": ([CHAMPION.format("version = 3")], "foreign key"),
    "the champion is rejected": ([STATE.format("rejected", 2)], "ck_aliases_champion"),
    "a version with an alias is archived": ([STATE.format("archived", 3)], "ck_aliases_archived"),
    "a version with a job is archived": ([STATE.format("archived", 1)], "cannot be archived"),
    "a parent is archived": (
        [ARCHIVE_3[0], new_version(4, parent_id=3, parent_uid=UID_3), ARCHIVE_3[1]],
        "cannot be archived",
    ),
    "an archived version gets a job": ([*ARCHIVE_3, new_job(3)], "predicts nothing"),
    "a status that is none": ([STATE.format("good", 1)], "ck_version_state_status"),
    "approved by nothing": ([STATE.format("approved", 1)], "ck_version_state_approved"),
    "approved by another version's approval": (
        ["UPDATE version_state SET status = 'approved', approval_id = 1 WHERE version_id = 3"],
        "foreign key",
    ),
    "an approval that says it did not pass": ([new_approval(3, 3, "false")], "ck_approvals_passed"),
    "an approval by another version's evaluation": ([new_approval(3, 1)], "foreign key"),
    "an approval by an evaluation that did not pass": (
        [
            new_version(4, id=9),
            "INSERT INTO evaluations VALUES (9, 9, false, '{}', 0, 'ada')",
            new_approval(9, 9),
        ],
        "foreign key",
    ),
    "one's own champion under four eyes": (
        ["UPDATE models SET four_eyes = true", *APPROVE_3, CHAMPION.format("version = 3")],
        "somebody other than its trainer",
    ),
    "one's own first champion under four eyes": (
        [
            "UPDATE models SET four_eyes = true",
            *APPROVE_3,
            "DELETE FROM aliases WHERE alias = 'champion'",
            "INSERT INTO aliases VALUES (1, 'champion', 3, 'approved', 1)",
        ],
        "somebody other than its trainer",
    ),
    "a second history": (
        [new_event(1), new_event(2, f"'{schema.NO_EVENT}'")],
        "names the newest event of its model",
    ),
    "an event of a version that is not there": (
        [new_event(1, version=9)],
        "foreign key",
    ),
    "an event of a kind that nobody knows": ([new_event(1, kind="kind")], "of a known kind"),
    "an event whose hash is none": (
        [new_event(1).replace("0" * 63 + "1", "x" * 64)],
        "has a SHA-256 hash",
    ),
    "a job in no known state": ([new_job(1).replace("running", "lazy")], "ck_jobs_state"),
    "an input file of an ended job": ([new_input("done")], "right before it completes"),
    "an input file of no job": ([new_input("nobody")], "right before|foreign key"),
    "an input file without a SHA-256": (
        [new_job(1), new_input("j").replace("5" * 64, "5")],
        "ck_job_inputs_sha256",
    ),
    "an input file of fewer rows than none": (
        [new_job(1), new_input("j").replace("7)", "-7)")],
        "ck_job_inputs_rows",
    ),
    "fewer quarantined rows than none": (
        [new_job(1), "UPDATE jobs SET quarantined = -1 WHERE id = 'j'"],
        "ck_jobs_quarantined",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_database_refuses_statements_that_break_a_rule(lasting_url, what):
    statements, says = REFUSED[what]
    assert re.search(says, refused(lasting_url, *statements), re.IGNORECASE)


def test_database_accepts_a_four_eyes_approval_by_somebody_else(full_url):
    execute(
        full_url,
        "UPDATE models SET four_eyes = true",
        new_approval(3, 3, approver="bo"),
        APPROVE_3[1],
        CHAMPION.format("version = 3"),
    )
    champion = "SELECT version FROM aliases WHERE model_id = 1 AND alias = 'champion'"
    assert fetch(full_url, champion) == [(3,)]


def test_database_checks_four_eyes_against_the_current_approval(lasting_url):
    said = refused(
        lasting_url,
        "UPDATE models SET four_eyes = true",
        new_approval(3, 3, approver="bo"),  # then the version was rejected
        *APPROVE_3,
        CHAMPION.format("version = 3"),
    )
    assert "somebody other than its trainer" in said


def test_an_alias_follows_the_status_of_its_version(full_url):
    execute(full_url, STATE.format("rejected", 3))
    assert fetch(full_url, "SELECT status FROM aliases WHERE alias = 'staging'") == [("rejected",)]


def test_every_rule_is_a_trigger_of_the_database(database_url):
    create(database_url)
    triggers = [name for kind, name, _ in schema_of(database_url) if kind == "trigger"]
    assert {rule.name for rule in RULES} <= set(triggers)


def test_each_rule_sentence_names_an_existing_constraint(database_url):
    create(database_url)
    definitions = " ".join(map(str, schema_of(database_url)))
    assert [name for name in SENTENCES if name not in definitions] == []


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (STATE.format("rejected", 2), "the champion must be an approved version"),
        (STATE.format("archived", 3), "move or unset the alias first"),
        (STATE.format("archived", 1), "a version that a batch job .* cannot be archived"),
        (new_approval(3, 3, "false"), "only a version with a passed evaluation"),
        ("DELETE FROM models", "models keeps every row: DELETE refused"),
    ],
)
def test_refusal_has_a_readable_message(lasting_url, statement, says):
    told = pytest.raises(Refused, match=f"keeps its rules: .*{says}")
    with opened(lasting_url) as database, told, database.write() as connection:
        connection.exec_driver_sql(statement)


# Transactions


def test_commits_are_durable_and_keys_are_enforced_on_every_connection(tmp_path):
    with opened(sqlite_url(tmp_path)) as database, database.read() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in pragmas]
    assert found == ["wal", 2, 1, 30_000]


def test_a_reader_does_not_wait_for_a_writer(full_url):
    with opened(full_url) as database, database.write() as writer:
        writer.exec_driver_sql("DELETE FROM aliases")
        with database.read() as reader:
            assert reader.exec_driver_sql("SELECT count(*) FROM aliases").scalar_one() == 4


def test_read_transaction_sees_one_state(full_url):
    count = "SELECT count(*) FROM aliases"
    with opened(full_url) as database, database.read() as reader:
        assert reader.exec_driver_sql(count).scalar_one() == 4
        execute(full_url, "DELETE FROM aliases")
        assert reader.exec_driver_sql(count).scalar_one() == 4


def test_postgresql_read_transaction_is_read_only(postgres_url):
    told = pytest.raises(RegistryError, match="read-only")
    with opened(postgres_url) as database, told, database.read() as connection:
        connection.exec_driver_sql("DELETE FROM aliases")


def test_postgresql_compiles_no_plan(postgres_url):
    with opened(postgres_url) as database, database.read() as connection:
        assert connection.exec_driver_sql("SHOW jit").scalar_one() == "off"


def test_error_in_a_transaction_rolls_it_back(full_url):
    def delete_and_fail():
        with database.write() as connection:
            connection.exec_driver_sql("DELETE FROM aliases")
            connection.exec_driver_sql("INSERT INTO version_tags VALUES (1, 'a', NULL)")

    with opened(full_url) as database, pytest.raises(Refused, match=r"(?i)not.null"):
        delete_and_fail()
    assert fetch(full_url, "SELECT count(*) FROM aliases") == [(4,)]


def test_refused_statement_rolls_back_the_transaction(full_url):
    def delete_and_edit():
        with database.write() as connection:
            connection.exec_driver_sql("DELETE FROM aliases")
            connection.exec_driver_sql("UPDATE events SET actor = 'eve'")
            connection.exec_driver_sql("DELETE FROM version_tags")

    with opened(full_url) as database:
        with pytest.raises(Refused, match="events is append-only"):
            delete_and_edit()
        with database.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM aliases").scalar_one() == 4


def test_sqlite_writer_waits_for_the_lock_and_times_out_with_a_message(tmp_path, monkeypatch):
    with opened(sqlite_url(tmp_path)) as database:
        other = sqlite3.connect(
            tmp_path / "registry.db", isolation_level=None, check_same_thread=False
        )
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.execute, ["COMMIT"])
        release.start()
        with database.write() as connection:
            assert not release.is_alive() or not other.in_transaction
            connection.exec_driver_sql("DELETE FROM aliases")
        release.join()
        monkeypatch.setattr("registry.databases.sqlite.BUSY_S", 0.2)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unreachable, match=r"stayed locked by another process for 0\.2 s"):
            database.write().__enter__()
        other.execute("ROLLBACK")
        other.close()
        with database.write() as connection:  # other waiting is SQLite's own
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 200


def test_opening_waits_for_another_process_that_creates(tmp_path):
    first = sqlite3.connect(tmp_path / "registry.db", isolation_level=None, check_same_thread=False)
    first.execute("BEGIN IMMEDIATE")  # for which SQLite's switch to WAL does not wait by itself
    threading.Timer(0.3, first.commit).start()
    with opened(sqlite_url(tmp_path)):
        assert fetch(sqlite_url(tmp_path), "SELECT * FROM models") == []


def test_concurrent_first_opens_all_succeed(database_url):
    assert in_processes(8, open_and_write, database_url) == ["written"] * 8
    assert fetch(database_url, "SELECT count(*) FROM models") == [(80,)]


def open_and_write(index, url):
    with opened(url) as database:
        for number in range(10):
            with database.write() as connection:
                name = f"m{index}-{number}"
                connection.exec_driver_sql(
                    f"INSERT INTO models (name, last_version, created_at) VALUES ('{name}', 0, 0)"
                )
                connection.exec_driver_sql("SELECT * FROM events").all()
    return "written"


# Revisions


def test_all_revisions_make_the_tables_and_triggers_of_a_new_registry(make_database):
    new, migrated = make_database(), make_database()
    create(new)
    create_by_all_revisions(migrated)
    options = {
        "version_table": schema.VERSION_TABLE,
        "compare_type": True,
        "compare_server_default": True,
    }
    with raw(migrated) as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, schema.metadata) == []
    # Alembic's comparison leaves some of it out.
    assert facts_of(migrated) == facts_of(new)
    assert triggers_of(migrated) == triggers_of(new)
    for url in (new, migrated):
        assert fetch(url, "SELECT version_num FROM registry_alembic_version") == [(schema.HEAD,)]
        ((found, store),) = fetch(url, "SELECT id, store FROM registry")
        assert re.fullmatch("[0-9a-f]{32}", found)
        assert store is None


def facts_of(url):
    """A description of each table as text; columns in their order."""
    tables = [*schema.metadata.tables, schema.VERSION_TABLE]
    with raw(url) as connection:
        look = inspect(connection)
        columns = look.get_multi_columns(filter_names=tables)
        parts = [
            look.get_multi_pk_constraint(filter_names=tables),
            look.get_multi_check_constraints(filter_names=tables),
            look.get_multi_unique_constraints(filter_names=tables),
            look.get_multi_foreign_keys(filter_names=tables),
            look.get_multi_indexes(filter_names=tables),
        ]
        sorted_parts = [
            {table: sorted(map(in_words, found)) for table, found in part.items()}
            for part in parts[1:]
        ]
        return {table: str(found) for table, found in columns.items()}, parts[0], sorted_parts


def in_words(found):
    """A fact as text; without this, the condition of an index would print as a memory address."""
    options = {name: str(value) for name, value in found.get("dialect_options", {}).items()}
    return str({**found, "dialect_options": options})


def test_code_needs_the_only_alembic_head():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_create_runs_once_and_upgrade_changes_nothing(database_url):
    assert create(database_url)
    before = schema_of(database_url)
    assert not create(database_url)
    assert upgrade(database_url) == schema.HEAD
    assert schema_of(database_url) == before


def test_an_empty_database_is_not_upgraded(database_url):
    with pytest.raises(NoRegistry, match="MODELMINT_DATABASE_URL"):
        upgrade(database_url)
    assert schema_of(database_url) == []


def test_an_upgrade_keeps_the_rows_and_the_triggers(tmp_path, full_url):
    before = triggers_of(full_url)
    working = BROKEN.replace("SELECT 1 FROM nowhere", "SELECT 1")
    upgrade(full_url, migrations=with_next_revision(tmp_path, working))
    with pytest.raises(SchemaMismatch, match="It is newer: upgrade modelmint"):
        Database(full_url)
    assert fetch(full_url, "SELECT count(*) FROM versions") == [(5,)]
    assert triggers_of(full_url) == before


def triggers_of(url):
    return [found for found in schema_of(url) if found[0] in ("trigger", "function")]


@pytest.mark.parametrize("begins", ["empty", "kept", "full"])
def test_a_failed_migration_leaves_the_database_as_it_was(tmp_path, database_url, begins):
    if begins != "empty":
        fill_with_kept(database_url)
    if begins == "full":
        upgrade(database_url)
    before = schema_of(database_url)
    broken = with_next_revision(tmp_path, BROKEN)
    change = create if begins == "empty" else upgrade
    with pytest.raises(RegistryError, match=r'no such table: nowhere|"nowhere" does not exist'):
        change(database_url, migrations=broken)
    assert schema_of(database_url) == before
    if begins != "empty":
        assert fetch(database_url, "SELECT count(*) FROM versions") == [(5,)]
    change(database_url)


@pytest.mark.parametrize(
    ("revision", "says"),
    [("0000", "Run `modelmint models upgrade`"), (NEXT, "It is newer: upgrade modelmint")],
)
def test_other_schema_revision_is_refused_with_a_remedy(full_url, revision, says):
    execute(full_url, f"UPDATE {schema.VERSION_TABLE} SET version_num = '{revision}'")
    with pytest.raises(SchemaMismatch, match=f"has schema {revision}, this release needs .*{says}"):
        Database(full_url)


@pytest.mark.parametrize(
    ("revision", "says"), [("0000", "cannot be upgraded"), (NEXT, "upgrade modelmint")]
)
def test_an_upgrade_of_a_newer_or_unknown_schema_is_refused(full_url, revision, says):
    execute(full_url, f"UPDATE {schema.VERSION_TABLE} SET version_num = '{revision}'")
    before = schema_of(full_url)
    with pytest.raises(SchemaMismatch, match=says):
        upgrade(full_url)
    assert schema_of(full_url) == before


def test_database_with_other_tables_is_refused(database_url):
    execute(database_url, "CREATE TABLE experiments (id INTEGER)")
    before = schema_of(database_url)
    for attempt in (Database, upgrade):
        with pytest.raises(SchemaMismatch, match=r"tables that are not a registry.s \(experiments"):
            attempt(database_url)
    assert schema_of(database_url) == before


# Databases that cannot be opened


def test_missing_database_folder_is_created(tmp_path):
    url = f"sqlite:///{tmp_path}/a/b/registry.db"
    with opened(url):
        assert fetch(url, "SELECT * FROM models") == []


def test_folder_as_database_is_unreachable(tmp_path):
    with pytest.raises(Unreachable, match=r"unable to open.*MODELMINT_DATABASE_URL"):
        Database(f"sqlite:///{tmp_path}")


def test_database_folder_that_cannot_be_created_is_unreachable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreachable, match=r"cannot be created.*MODELMINT_DATABASE_URL"):
        opened(f"sqlite:///{tmp_path}/file/sub/registry.db")


def test_file_that_is_not_a_database_is_unreachable(tmp_path):
    (tmp_path / "registry.db").write_text("This is a text file, " * 100)
    with pytest.raises(Unreachable, match="is not a SQLite database"):
        Database(sqlite_url(tmp_path))


@pytest.mark.parametrize(
    "url",
    [
        "registry.db",
        "",
        "sqlite:/registry.db",
        "postgres://ada:secret@host/db",
        "mysql+nodriver://ada:secret@host/db",
        "postgresql+psycopg2://ada:secret@127.0.0.1:1/db",
        "postgresql://ada:secret@127.0.0.1:1/db",
        "postgresql://ada:secret@host:port/db",
        "://ada:secret@host/db",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_unopenable_url_error_hides_the_password(url):
    with pytest.raises(Unreachable, match="MODELMINT_DATABASE_URL") as caught:
        Database(url)
    assert "secret" not in str(caught.value)


def with_next_revision(tmp_path, source):
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / f"{NEXT}_next.py").write_text(source)
    return folder


def test_each_write_transaction_is_synced_to_disk(make_database):
    url = make_database()
    asked = {"sqlite": "PRAGMA synchronous", "postgresql": "SHOW synchronous_commit"}
    with opened(url) as database:
        kind = url.partition(":")[0].partition("+")[0]
        with database.write() as c:
            level = str(c.exec_driver_sql(asked[kind]).scalar_one())
    assert level == {"sqlite": "2", "postgresql": "on"}[kind]
