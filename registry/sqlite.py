"""Everything that is particular to SQLite: where the file lies, how connections and
transactions begin, the triggers, and the lock under which migrations run.

Another database gets a module like this one and an entry in `database.DIALECTS`.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, event

from registry.errors import RegistryError, Unreachable
from registry.schema import APPEND_ONLY

BUSY_S = 30
"""Seconds to wait for another process's lock before giving up."""


def prepare(url: URL) -> None:
    """Make the folder of the database file.

    Raises:
        Unreachable: the URL names no file, or the folder cannot be made.
    """
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise Unreachable(
            f"The registry needs a database file, and {str(url)!r} names none. Set "
            "MODELMINT_DATABASE_URL to something like sqlite:////srv/modelmint/registry.db."
        )
    folder = Path(url.database).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unreachable(
            f"The folder of the registry database, {folder}, cannot be made ({error.strerror}). "
            "Point MODELMINT_DATABASE_URL to a place you may write."
        ) from error


def configure(engine: Engine) -> None:
    """Make each connection durable and strict, and each transaction say what it is."""
    event.listen(engine, "connect", _connect)
    event.listen(engine, "begin", _begin)


def _connect(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transactions begin late, deferred and not for DDL; ours are explicit.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_S * 1000}")
    _switch_to_wal(connection)
    # FULL, not NORMAL: a committed version must survive a power cut.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # Switching a fresh file ignores busy_timeout, so processes that open it at once must retry.
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin(connection: Connection) -> None:
    # IMMEDIATE: a writer that began by reading would fail, not wait, when another one commits.
    readonly = connection.get_execution_options().get("readonly", False)
    connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")


@contextmanager
def migrating(engine: Engine) -> Iterator[Connection]:
    """One exclusive transaction to change the schema in: all of it happens or nothing.

    Triggers are no part of any revision: altering a SQLite table rebuilds it and silently
    drops them, so they go before and come back after, in their present form.
    """
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        # Rebuilding a referenced table fails the checks, and they can be switched off only
        # outside a transaction.
        driver.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                _drop_triggers(connection)
                yield connection
                for statement in trigger_ddl():
                    connection.exec_driver_sql(statement)
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                if broken:
                    raise RegistryError(f"The migration left dangling rows, undone: {broken[:5]}")
        finally:
            driver.execute("PRAGMA foreign_keys=ON")


def trigger_ddl() -> list[str]:
    """The statements that make history append-only."""
    return [
        f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: {verb} refused'); END"
        for table in APPEND_ONLY
        for verb in ("UPDATE", "DELETE")
    ]


def _drop_triggers(connection: Connection) -> None:
    names = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    for name in connection.exec_driver_sql(names).scalars().all():
        connection.exec_driver_sql(f'DROP TRIGGER "{name}"')
