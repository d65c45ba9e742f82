"""Empty SQLite and PostgreSQL databases for a registry; real ones, new for each test."""

import atexit
import itertools
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from registry_helpers import quick_folder
from servers import create_database, drop_database, start_postgres
from sqlalchemy import (
    Connection,
    Engine,
    MetaData,
    NullPool,
    StaticPool,
    create_engine,
    make_url,
    select,
    text,
)

from registry.databases.database import DIALECTS, MIGRATIONS, _run_alembic
from registry.schema import VERSION_TABLE

KEPT = Path(__file__).parents[1] / "data" / "registry_0001.sql"
"""Three models, five versions, promotions, refusals and jobs: a registry of revision 0001."""


@pytest.fixture(scope="session")
def postgres() -> str:
    """The URL of the session's PostgreSQL server.

    It does not wait for the disk: tests kill processes, which loses nothing, but cut no power.
    """
    unsynced = {"fsync": "off", "full_page_writes": "off", "wal_level": "minimal"}
    # autovacuum would visit each of hundreds of small databases.
    return start_postgres(**unsynced, max_wal_senders="0", autovacuum="off")


@contextmanager
def new_databases(kind: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """A function that makes an empty database and returns its URL; all are dropped at the end."""
    if kind == "sqlite":
        numbers = itertools.count()
        with quick_folder() as folder:
            yield lambda: f"sqlite:///{folder}/{next(numbers)}.db"
        return
    server, made = request.getfixturevalue("postgres"), []

    def make() -> str:
        made.append(create_database(server))
        return made[-1]

    yield make
    for url in made:
        drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def make_database(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """A function that makes an empty database and returns its URL; once for each kind."""
    with new_databases(request.param, request) as make:
        yield make


@pytest.fixture
def database_url(make_database: Callable[[], str]) -> str:
    """The URL of an empty database; the test runs once for each kind."""
    return make_database()


_filled: dict[tuple[Callable[[str], object], str], str] = {}


def fill_database(url: str, make: Callable[[str], object]) -> str:
    """Fill an empty database as `make(url)` does; calls after the first copy what that made.

    To migrate a database takes longer than most tests of it. Returns the URL.
    """
    server, _, name = url.rpartition("/")
    sqlite = url.startswith("sqlite")
    key = (make, server.partition(":")[0])
    if key not in _filled:
        make(url)
        if sqlite:
            folder = tempfile.mkdtemp(prefix="modelmint-filled-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            _filled[key] = shutil.copy(make_url(url).database, folder)
        else:
            copy = create_database(f"{server}/postgres", name)
            _filled[key] = copy.rpartition("/")[2]
    elif sqlite:
        shutil.copy(_filled[key], make_url(url).database)
    else:
        drop_database(url)
        create_database(f"{server}/postgres", _filled[key], name)
    return url


@pytest.fixture
def kept_url(database_url: str) -> str:
    """The URL of a registry of revision 0001 with rows in every table."""
    return fill_database(database_url, fill_with_kept)


def raw_engine(url: str) -> Engine:
    """An engine without the registry's code, as other clients of the database use it."""
    parsed = make_url(url)
    return create_engine(DIALECTS[parsed.get_backend_name()].prepare(parsed), poolclass=NullPool)


@contextmanager
def raw(url: str) -> Iterator[Connection]:
    """One transaction of such a client, with foreign keys enforced."""
    with raw_engine(url).connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(text("PRAGMA foreign_keys=ON"))
            connection.rollback()
        with connection.begin():
            yield connection


@contextmanager
def unguarded(url: str) -> Iterator[Connection]:
    """A transaction of the database's owner with the registry's triggers switched off."""
    with raw(url) as connection:
        triggers = []
        if connection.dialect.name == "sqlite":
            found = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
            triggers = connection.exec_driver_sql(found).all()
            for name, _ in triggers:
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        yield connection
        for _, sql in triggers:
            connection.exec_driver_sql(sql)


def execute(url: str, *statements: str) -> None:
    with raw(url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def fetch(url: str, query: str) -> list[tuple[Any, ...]]:
    with raw(url) as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def fill_with_kept(url: str) -> None:
    """Fill an empty database with the stored registry of revision 0001."""
    if url.startswith("sqlite"):
        with sqlite3.connect(make_url(url).database) as connection:
            connection.executescript(KEPT.read_text())
        return
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with kept().connect() as source, raw(url) as target:
        config.attributes["connection"] = target
        command.upgrade(config, "0001")
        old, new = MetaData(), MetaData()
        old.reflect(source)
        new.reflect(target)
        for table in new.sorted_tables:
            rows = source.execute(select(old.tables[table.name])).mappings().all()
            if table.name != VERSION_TABLE:
                target.execute(table.insert(), [dict(row) for row in rows])


def create_by_all_revisions(url: str) -> None:
    """A new registry as the first release made it, upgraded to this one."""
    with raw(url) as connection:
        _run_alembic(connection, MIGRATIONS, url)
    with raw(url) as connection:
        DIALECTS[connection.dialect.name].install_triggers(connection)


def kept() -> Engine:
    """The stored registry of revision 0001, in memory."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.connect() as connection:
        connection.connection.driver_connection.executescript(KEPT.read_text())
    return engine


def rows_of(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table."""
    found = MetaData()
    with engine.connect() as connection:
        found.reflect(connection)
        return {
            table.name: [
                dict(row)
                for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()
            ]
            for table in found.tables.values()
        }


def schema_of(url: str) -> list[tuple[Any, ...]]:
    """Columns, constraints, indexes, triggers and their functions."""
    if url.startswith("sqlite"):
        return fetch(url, "SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2")
    return fetch(url, _POSTGRESQL_SCHEMA)


_POSTGRESQL_SCHEMA = """
    SELECT 'column', table_name || '.' || column_name, concat_ws(' ', ordinal_position, data_type,
        is_nullable, column_default)
    FROM information_schema.columns WHERE table_schema = current_schema()
    UNION SELECT 'constraint', conname, conrelid::regclass || ' ' || pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
    UNION SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()
    UNION SELECT 'trigger', tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    UNION SELECT 'function', proname, pg_get_functiondef(oid)
    FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
    ORDER BY 1, 2
"""
