"""The database keeps its own rules: triggers, keys, schema revisions, and clear refusals."""

import shutil
import sqlite3
import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from registry_helpers import (
    database_url,
    make_candidate,
    open_registry,
    register_versions,
)
from sqlalchemy import create_engine, inspect

from registry import Registry, RegistryError, SchemaMismatch, Unreachable, schema, upgrade
from registry.database import MIGRATIONS

BROKEN = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.create_table("half", sa.Column("id", sa.Integer, primary_key=True))
    op.add_column("models", sa.Column("half", sa.Text))
    op.execute("SELECT 1 FROM nowhere")
"""


def raw(folder):
    connection = sqlite3.connect(folder / "registry.db", isolation_level=None)
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def objects(folder):
    with sqlite3.connect(folder / "registry.db") as connection:
        return connection.execute(
            "SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2"
        ).fetchall()


@pytest.mark.parametrize("table", schema.APPEND_ONLY)
def test_history_refuses_raw_updates_and_deletes(tmp_path, table):
    register_versions(tmp_path, 1)
    connection = raw(tmp_path)
    column = schema.metadata.tables[table].columns.keys()[-1]
    before = connection.execute(f"SELECT * FROM {table}").fetchall()
    assert before
    with pytest.raises(sqlite3.IntegrityError, match=f"{table} is append-only: UPDATE refused"):
        connection.execute(f"UPDATE {table} SET {column} = {column}")
    with pytest.raises(sqlite3.IntegrityError, match=f"{table} is append-only: DELETE refused"):
        connection.execute(f"DELETE FROM {table}")
    assert connection.execute(f"SELECT * FROM {table}").fetchall() == before


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("INSERT INTO aliases VALUES (1, 'champion', 999, 1)", "FOREIGN KEY"),
        ("INSERT INTO aliases VALUES (2, 'champion', 1, 1)", "FOREIGN KEY"),
        ("INSERT INTO aliases VALUES (1, 'champion', 1, 0)", "ck_aliases_revision"),
        (
            "INSERT INTO version_artifacts VALUES (1, 'x', 'abc', 1, 0)",
            "ck_version_artifacts_sha256",
        ),
        ("UPDATE models SET last_version = -1", "ck_models_last_version"),
        ("DELETE FROM models", "FOREIGN KEY"),
    ],
)
def test_the_database_itself_refuses_what_must_not_be(tmp_path, statement, says):
    register_versions(tmp_path, 1)
    with pytest.raises(sqlite3.IntegrityError, match=says):
        raw(tmp_path).execute(statement)


def test_commits_are_durable_and_keys_are_enforced_on_every_connection(tmp_path):
    with open_registry(tmp_path) as registry, registry._database.read() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in pragmas]
    assert found == ["wal", 2, 1, 30_000]


def test_a_reader_does_not_wait_for_a_writer(tmp_path):
    register_versions(tmp_path, 1)
    writer = raw(tmp_path)
    writer.execute("BEGIN IMMEDIATE")
    with open_registry(tmp_path) as registry:
        assert registry.resolve("digits:1").version.ref == "digits:1"


def test_opening_waits_for_another_first_opener(tmp_path):
    first = sqlite3.connect(tmp_path / "registry.db", isolation_level=None, check_same_thread=False)
    first.execute("BEGIN IMMEDIATE")  # for which SQLite's switch to WAL does not wait by itself
    threading.Timer(0.3, first.commit).start()
    with open_registry(tmp_path) as registry:
        assert registry.models() == []


def test_an_error_in_the_middle_of_a_transaction_leaves_nothing(tmp_path):
    with open_registry(tmp_path) as registry:
        registry.register("digits", make_candidate(tmp_path / "a", "1"), actor="ada")
        with pytest.raises(RegistryError, match="refused: NOT NULL"):
            registry.register("digits", make_candidate(tmp_path / "a", "2"), actor=None)
        registry.register("digits", make_candidate(tmp_path / "a", "3"), actor="ada")
        assert [version.version for version in registry.versions("digits")] == [2, 1]


def test_the_migrated_schema_is_the_one_in_the_code(tmp_path):
    upgrade(database_url(tmp_path))
    migrated = create_engine(database_url(tmp_path))
    declared = create_engine("sqlite://")
    schema.metadata.create_all(declared)
    with migrated.connect() as connection:
        options = {"version_table": schema.VERSION_TABLE}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, schema.metadata) == []
    for table in schema.metadata.tables:
        # What Alembic's comparison leaves out.
        for look in ("get_check_constraints", "get_unique_constraints", "get_foreign_keys"):
            facts = [getattr(inspect(engine), look)(table) for engine in (declared, migrated)]
            assert sorted(facts[0], key=str) == sorted(facts[1], key=str)


def test_the_revision_that_the_code_needs_is_the_only_head():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_an_empty_database_is_upgraded_and_again_changes_nothing(tmp_path):
    assert upgrade(database_url(tmp_path)) is None
    before = objects(tmp_path)
    assert len([kind for kind, *_ in before if kind == "trigger"]) == 8
    assert upgrade(database_url(tmp_path)) == schema.HEAD
    assert objects(tmp_path) == before


def test_an_upgrade_keeps_the_rows_and_the_triggers(tmp_path):
    register_versions(tmp_path, 1)
    working = BROKEN.replace("SELECT 1 FROM nowhere", "SELECT 1")
    upgrade(database_url(tmp_path), migrations=with_second_revision(tmp_path, working))
    with pytest.raises(SchemaMismatch, match="It is newer: upgrade modelmint"):
        open_registry(tmp_path)
    assert raw(tmp_path).execute("SELECT version FROM versions").fetchall() == [(1,)]
    assert len([kind for kind, *_ in objects(tmp_path) if kind == "trigger"]) == 8


@pytest.mark.parametrize("versions", [0, 1])
def test_a_failed_migration_leaves_the_database_as_it_was(tmp_path, versions):
    if versions:
        register_versions(tmp_path, versions)
        before = objects(tmp_path)
    else:
        before = []
    broken = with_second_revision(tmp_path, BROKEN)
    with pytest.raises(Unreachable, match="no such table: nowhere"):
        upgrade(database_url(tmp_path), migrations=broken)
    assert objects(tmp_path) == before
    with open_registry(tmp_path) as registry:
        assert len(registry.models()) == versions


@pytest.mark.parametrize(
    ("revision", "says"),
    [("0000", "Run `modelmint models upgrade`"), ("0002", "It is newer: upgrade modelmint")],
)
def test_another_schema_is_refused_with_what_to_do(tmp_path, revision, says):
    register_versions(tmp_path, 1)
    raw(tmp_path).execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '{revision}'")
    with pytest.raises(SchemaMismatch, match=f"has schema {revision}, this release needs .*{says}"):
        open_registry(tmp_path)


def test_an_upgrade_of_a_newer_or_unknown_schema_is_refused(tmp_path):
    register_versions(tmp_path, 1)
    for revision, says in (("0002", "upgrade modelmint"), ("0000", "cannot be upgraded")):
        raw(tmp_path).execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '{revision}'")
        with pytest.raises(SchemaMismatch, match=says):
            upgrade(database_url(tmp_path))


def test_a_database_of_something_else_is_left_alone(tmp_path):
    raw(tmp_path).execute("CREATE TABLE experiments (id)")
    before = objects(tmp_path)
    for attempt in (open_registry, lambda folder: upgrade(database_url(folder))):
        with pytest.raises(SchemaMismatch, match=r"tables of something else \(experiments"):
            attempt(tmp_path)
    assert objects(tmp_path) == before


def test_a_missing_folder_of_the_database_is_made(tmp_path):
    with Registry(f"sqlite:///{tmp_path}/a/b/registry.db", tmp_path / "artifacts") as registry:
        assert registry.models() == []


def test_a_folder_in_place_of_the_database_is_unreachable(tmp_path):
    with pytest.raises(Unreachable, match=r"unable to open.*MODELMINT_DATABASE_URL"):
        Registry(f"sqlite:///{tmp_path}", tmp_path / "artifacts")


def test_a_folder_that_cannot_be_made_is_unreachable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreachable, match=r"cannot be made.*MODELMINT_DATABASE_URL"):
        Registry(f"sqlite:///{tmp_path}/file/sub/registry.db", tmp_path / "artifacts")


def test_a_file_that_is_no_database_is_unreachable(tmp_path):
    (tmp_path / "registry.db").write_text("This is a text file, " * 100)
    with pytest.raises(Unreachable, match="is not a SQLite database"):
        open_registry(tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "registry.db",
        "",
        "sqlite:/registry.db",
        "postgres://ada:secret@host/db",
        "mysql+nodriver://ada:secret@host/db",
        "postgresql+psycopg2://ada:secret@127.0.0.1:1/db",
        "postgresql://ada:secret@host:port/db",
        "://ada:secret@host/db",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_a_url_that_cannot_be_opened_says_why_without_the_password(tmp_path, url):
    with pytest.raises(Unreachable, match="MODELMINT_DATABASE_URL") as caught:
        Registry(url, tmp_path / "artifacts")
    assert "secret" not in str(caught.value)


def with_second_revision(tmp_path, source):
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "0002_second.py").write_text(source)
    return folder
