"""What is specific to SQLite: the database file, connections, transactions, triggers, and the
lock under which migrations run. `registry.databases.postgresql` has the same names.
"""

import os
import random
import re
import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    URL,
    BigInteger,
    Connection,
    Engine,
    event,
    literal_column,
)
from sqlalchemy.exc import SAWarning

from registry.databases import read_only
from registry.errors import RegistryError, Unreachable
from registry.rules import EFFECTS, RULES
from registry.rules import sqlite as sqlite_rules
from registry.rules import values as value_rules
from registry.rules.history import HISTORY_RULES
from registry.rules.rule import Effect, Rule

# SQLAlchemy warns about an index that it does not reflect; nothing here needs it.
warnings.filterwarnings("ignore", "Skipped unsupported reflection of expression", SAWarning)

BUSY_S = 30
"""Seconds to wait for another process's lock before giving up."""

_POLL_S = 0.001

# IMMEDIATE: a writer that began by reading would fail, not wait, when another one commits.
_BEGIN = "BEGIN IMMEDIATE"

# To the millisecond: all writers of the file are on one machine.
CLOCK = literal_column("CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)", BigInteger)
"""The database's time, in microseconds since 1970."""

READ: dict[str, Any] = {"readonly": True}
"""Options of a transaction that sees one state of the database and waits for no writer."""

READ_LOCKED: dict[str, Any] = {}
"""Options of a transaction that all writers wait for: BEGIN IMMEDIATE."""


def lock_against_collection(_connection: Connection) -> None:
    """Nothing to do: a transaction with READ_LOCKED is the only one that may write."""


def prepare(url: URL) -> URL:
    """The URL as it is. Raises Unreachable if it does not name a file."""
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise Unreachable(
            f"The registry needs a database file, and {str(url)!r} does not name one. Set "
            "MODELMINT_DATABASE_URL to something like sqlite:////srv/modelmint/registry.db: three "
            "slashes, then the absolute path, which begins with a slash, too."
        )
    return url


def absolute(url: URL) -> URL:
    """The URL with the whole path of its file."""
    path = str(url.database)
    return (
        url
        if path == ":memory:" or path.startswith("file:")
        else url.set(database=os.path.abspath(path))
    )


def is_there(url: URL) -> bool:
    """Whether the database file exists and is not empty."""
    try:
        return os.stat(str(url.database)).st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # opening it will raise the error


def check_creatable(url: URL) -> None:
    """Check that the database file could be created. Raises Unreachable."""
    folder = Path(str(url.database)).absolute().parent
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with TemporaryDirectory(prefix=".modelmint-", dir=there):
            pass
    except OSError as error:
        raise _not_creatable(folder, error) from error


def make_folder(url: URL) -> None:
    """Create the folder of the database file. Raises Unreachable."""
    folder = Path(str(url.database)).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_creatable(folder, error) from error


def _not_creatable(folder: Path, error: OSError) -> Unreachable:
    return Unreachable(
        f"The folder of the registry database, {folder}, cannot be created or written "
        f"({error.strerror}). Point MODELMINT_DATABASE_URL to a place that you may write."
    )


def configure(engine: Engine, *, create: bool = False) -> None:
    """Make connections durable and strict, and begin each transaction explicitly.

    A missing file is created only with `create`.
    """
    configure_connections(engine, create=create)
    begin_explicitly(engine)


def configure_connections(engine: Engine, *, create: bool = False) -> None:
    """Make connections durable and strict, without transactions: each statement commits."""
    event.listen(engine, "do_connect", partial(_choose_mode, create))
    event.listen(engine, "connect", _connect)


def begin_explicitly(engine: Engine) -> None:
    """Begin each transaction as a writer, unless it is `READ`."""
    event.listen(engine, "begin", _begin)


def _choose_mode(
    create: bool, _dialect: object, record: Any, where: list[Any], options: dict[str, Any]
) -> None:
    path = os.path.abspath(where[0])
    mode, as_of = ("mode=rwc", None) if create else read_only.mode(path)
    where[0], options["uri"] = f"file:{quote(path)}?{mode}", True
    record.info.update(path=path, as_of=as_of, read_only=mode.startswith("mode=ro"))


def _connect(connection: sqlite3.Connection, record: Any) -> None:
    # The driver's own transactions begin late, deferred and not for DDL; ours are explicit.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_S * 1000}")
    if not record.info["read_only"]:
        _switch_to_wal(connection)
    # FULL, not NORMAL: a committed version must survive a power cut.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    # Four times the default, since writers wait for a checkpoint. The log grows to 16 MB.
    connection.execute("PRAGMA wal_autocheckpoint=4000")


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


after_read = read_only.after_read
"""Called after a transaction that reads."""


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get("readonly", False):
        connection.exec_driver_sql("BEGIN")
    else:
        _begin_writing(connection)


def _begin_writing(connection: Connection) -> None:
    # busy_timeout is not fair: SQLite sleeps up to 0.1 s between attempts, while the file is idle.
    # Polling about every millisecond, 8 writers wait 0.2 s (p99) for a registration; those of
    # MLflow, which relies on busy_timeout, wait 0.6 s.
    driver: Any = connection.connection.driver_connection
    deadline = time.monotonic() + BUSY_S
    driver.execute("PRAGMA busy_timeout=0")
    try:
        while not _try_to_begin(driver) and time.monotonic() < deadline:
            time.sleep(random.uniform(0, 2 * _POLL_S))
        if not driver.in_transaction:
            connection.exec_driver_sql(_BEGIN)  # raises the error for a locked database
    finally:
        driver.execute(f"PRAGMA busy_timeout={BUSY_S * 1000}")


def _try_to_begin(driver: sqlite3.Connection) -> bool:
    """False while another writer has the lock; True if it began or failed for another reason."""
    try:
        driver.execute(_BEGIN)
    except sqlite3.Error as error:
        # The lowest byte: extended codes distinguish several kinds of SQLITE_BUSY.
        return getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY
    return True


@contextmanager
def pipelined(_connection: Connection) -> Iterator[None]:
    """Does nothing: on PostgreSQL, INSERTs in the block do not wait for each other's response."""
    yield


@contextmanager
def migrating(engine: Engine) -> Iterator[Connection]:
    """One exclusive transaction for schema changes: all of them are applied, or none."""
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        # Rebuilding a referenced table fails the checks, and they can be switched off only
        # outside a transaction.
        driver.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                if broken:
                    raise RegistryError(
                        f"The migration left rows that refer to missing rows: {broken[:5]}. It was "
                        "rolled back."
                    )
        finally:
            driver.execute("PRAGMA foreign_keys=ON")


def reset_sequences(_connection: Connection) -> None:
    """Nothing to do: SQLite numbers a new row after the highest id."""


def install_triggers(connection: Connection) -> None:
    """Create the triggers of `registry.rules`."""
    for statement in trigger_ddl():
        connection.exec_driver_sql(statement)


def drop_triggers(connection: Connection) -> None:
    """Drop the triggers that `install_triggers` created."""
    names = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    for name in connection.exec_driver_sql(names).scalars().all():
        connection.exec_driver_sql(f'DROP TRIGGER "{name}"')


def trigger_ddl() -> list[str]:
    """The statements behind `install_triggers`."""
    # SQLite runs the trigger that was created last first: types, then the rules for people.
    values = (*value_rules.rules(), *value_rules.typed())
    rules = [r for r in (*sqlite_rules.rules(), *HISTORY_RULES, *RULES, *values) if not r.at_commit]
    return [*map(_rule, rules), *map(_effect, (*EFFECTS, *sqlite_rules.EFFECTS))]


def _rule(rule: Rule) -> str:
    broken = f"({rule.when}) AND ({rule.broken})" if rule.when else rule.broken
    return (
        f"CREATE TRIGGER {rule.name} BEFORE {rule.event} ON {rule.table} WHEN {_spelled(broken)} "
        f"BEGIN SELECT RAISE(ABORT, '{rule.sentence}'); END"
    )


def _effect(effect: Effect) -> str:
    return (
        f"CREATE TRIGGER {effect.name} AFTER {effect.event} ON {effect.table} "
        f"BEGIN {effect.statement}; END"
    )


def _spelled(sql: str) -> str:
    """A rule's SQL in the form that older releases of SQLite understand, too."""
    sql = re.sub(r"JSON\((\S+), (\w+)\)", r"json_extract(\1, '$.\2')", sql)
    # json_valid accepts 1,000 or 2,000 levels at most, depending on SQLite's release.
    readable = r"CASE WHEN json_valid(\1) THEN json_type(\1) <> 'object' ELSE 1 END"
    sql = re.sub(r"UNREADABLE\((\S+?)\)", readable, sql)
    return sql.replace("IS DISTINCT FROM", "IS NOT").replace("IS NOT DISTINCT FROM", "IS")
