"""What is specific to PostgreSQL: connections, transactions, triggers, rights, and the lock under
which migrations run. `registry.databases.sqlite` has the same names.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from select import POLLIN, poll
from typing import Any

from sqlalchemy import URL, BigInteger, Connection, Engine, event, literal_column
from sqlalchemy.exc import DBAPIError, DisconnectionError

from registry import extras
from registry.rules import EFFECTS, RULES
from registry.rules import values as value_rules
from registry.rules.history import HISTORY_RULES, NEEDS, OWNS
from registry.rules.rule import Effect, Rule
from registry.schema import IS_RUNNING, jobs, metadata

# An arbitrary constant: the advisory lock that a migration takes.
_MIGRATION_LOCK = 7_316_408_255_213_904_119

CLOCK = literal_column(
    "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)", BigInteger
)
"""The server's time, in microseconds since 1970, so that writers on many machines agree."""

READ: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
"""Options of a transaction that sees one state of the database."""

READ_LOCKED: dict[str, Any] = {"isolation_level": "REPEATABLE READ"}
"""Options of a transaction that registrations and `gc` wait for."""


def lock_against_collection(connection: Connection) -> None:
    """Wait up to 30 s for registrations and `gc` to end; then the snapshot is taken."""
    connection.exec_driver_sql("SET LOCAL lock_timeout = '30s'")
    connection.exec_driver_sql("LOCK TABLE blobs IN SHARE MODE")


def prepare(url: URL) -> URL:
    """The URL with the driver that the extra installs: psycopg 3."""
    extras.load("psycopg", "postgres", "A registry in PostgreSQL")
    (index,) = (index for index in jobs.indexes if index.name == "ix_jobs_running")
    index.dialect_options["postgresql"]["where"] = IS_RUNNING
    bare = url.drivername == "postgresql"
    return url.set(drivername="postgresql+psycopg") if bare else url


def is_there(_url: URL) -> bool:
    """True: connecting to the database shows whether it exists."""
    return True


def check_creatable(_url: URL) -> None:
    """Nothing to do: whether tables can be created shows when they are."""


def make_folder(_url: URL) -> None:
    """Nothing to do: a database is created by the administrator of its server."""


def configure(engine: Engine, *, create: bool = False) -> None:
    """PostgreSQL's defaults are durable and strict already; only compiled plans are turned off."""
    event.listen(engine, "connect", _without_jit)
    event.listen(engine, "checkout", partial(_check_alive, engine))


def _without_jit(driver: Any, _record: object) -> None:
    # PostgreSQL compiles a plan that it expects to be expensive. For a search in 100,000 versions
    # compiling took 340 ms and the search itself 9 ms. A SET, not an option of the connection:
    # connection poolers refuse options.
    driver.autocommit = True
    driver.execute("SET jit = off")
    driver.autocommit = False


def _check_alive(engine: Engine, driver: Any, _record: object, _proxy: object) -> None:
    # A server that closed a connection has sent something on it. SQLAlchemy's pre-ping would add a
    # round trip to every transaction; checking whether data has arrived adds none.
    arrived = poll()
    arrived.register(driver.pgconn.socket, POLLIN)
    if arrived.poll(0):
        try:
            engine.dialect.do_ping(driver)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error


def after_read(_connection: Connection) -> None:
    """Nothing to do after a transaction that reads."""


@contextmanager
def pipelined(connection: Connection) -> Iterator[None]:
    """INSERTs in the block do not wait for each other; none may return rows.

    A registration has seven INSERTs; each would wait 0.4 ms or more for the server's response. An
    error is raised at the end of the block at the latest.
    https://www.psycopg.org/psycopg3/docs/advanced/pipeline.html
    """
    import psycopg  # here: it takes 0.1 s, and SQLite registries do not need it

    driver: Any = connection.connection.driver_connection
    try:
        with driver.pipeline():
            yield
    except psycopg.Error as error:
        raise DBAPIError.instance(None, None, error, psycopg.Error) from error


@contextmanager
def migrating(engine: Engine) -> Iterator[Connection]:
    """One transaction for schema changes, one process at a time: all are applied, or none."""
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        yield connection


def reset_sequences(connection: Connection) -> None:
    """Set each sequence to the highest id: rows that were inserted with an id did not use it."""
    counted = (
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = current_schema() AND starts_with(column_default, 'nextval(')"
    )
    for table, column in connection.exec_driver_sql(counted).all():
        # Without rows, max is NULL and setval does nothing.
        connection.exec_driver_sql(
            f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), max({column})) "
            f"FROM {table}"
        )


def install_triggers(connection: Connection) -> None:
    """Create the triggers of `registry.rules`."""
    # The trigger functions keep this search path. Otherwise a user could create a temporary table
    # that hides the table which a rule reads.
    connection.exec_driver_sql(
        "SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true)"
    )
    for statement in trigger_ddl():
        connection.exec_driver_sql(statement)


def drop_triggers(connection: Connection) -> None:
    """Drop the triggers that `install_triggers` created."""
    ours = (
        "SELECT p.oid::regprocedure FROM pg_proc p WHERE starts_with(p.proname, 'rule_') "
        "AND p.pronamespace = current_schema()::regnamespace "
        "AND p.prorettype = 'trigger'::regtype"
    )
    for function in connection.exec_driver_sql(ours).scalars().all():
        connection.exec_driver_sql(f"DROP FUNCTION {function} CASCADE")


def trigger_ddl() -> list[str]:
    """The statements behind `install_triggers`."""
    rules = (*RULES, *HISTORY_RULES, *value_rules.rules())
    return [
        *(statement for rule in rules for statement in _rule(rule)),
        *(statement for effect in EFFECTS for statement in _effect(effect)),
        *_rights(),
        *_refuse_truncate(),
    ]


def _rule(rule: Rule) -> list[str]:
    lock = f"PERFORM {rule.lock.removeprefix('SELECT ')}; " if rule.lock else ""
    row = "OLD" if rule.event == "DELETE" else "NEW"
    broken = re.sub(r"JSON\((\S+), (\w+)\)", r"(\1 ->> '\2')", rule.broken)
    deep = f"jsonb_path_exists(CAST(\\1 AS jsonb), '$.**{{{value_rules.LEVELS}}}')"
    readable = f"(json_typeof(\\1) <> 'object' OR {deep})"
    broken = re.sub(r"UNREADABLE\((\S+?)\)", readable, broken)
    check = f"IF {broken} THEN {_raise(rule.sentence)} END IF;"
    when = f"WHEN ({rule.when}) " if rule.when else ""
    function = _function(rule.name, f"{lock}{check} RETURN {row};")
    on = f"{rule.event} ON {rule.table}"
    if rule.at_commit:
        on = f"AFTER {on} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW {when}"
        trigger = _trigger(rule.name, on).replace("TRIGGER", "CONSTRAINT TRIGGER", 1)
        return [function, trigger]
    return [function, _trigger(rule.name, f"BEFORE {on} FOR EACH ROW {when}")]


def _effect(effect: Effect) -> list[str]:
    return [
        _function(effect.name, f"{effect.statement}; RETURN NULL;"),
        _trigger(effect.name, f"AFTER {effect.event} ON {effect.table} FOR EACH ROW "),
    ]


def _rights() -> list[str]:
    """A role may write an event only if its grants allow the change that the event records.

    The functions run with the rights of the caller, since these are what they check.
    """
    cases = " ".join(f"WHEN NEW.kind IN ({kinds}) THEN {may}" for kinds, may in NEEDS.items())
    event = _deny("'permission denied for an event of kind ' || NEW.kind")
    purge = _deny("'permission denied to mark a file as purged'")
    return [
        _function(
            "events_need_a_right",
            f"IF NOT (CASE {cases} ELSE {OWNS} END) THEN {event} END IF; RETURN NEW;",
            security="INVOKER",
        ),
        _trigger("events_need_a_right", "BEFORE INSERT ON events FOR EACH ROW "),
        _function(
            "blobs_are_purged_by_the_owner",
            f"IF NOT {OWNS} THEN {purge} END IF; RETURN NEW;",
            security="INVOKER",
        ),
        _trigger(
            "blobs_are_purged_by_the_owner",
            "BEFORE UPDATE ON blobs FOR EACH ROW "
            "WHEN (NEW.purged_at IS NOT NULL AND NEW.purged_at IS DISTINCT FROM OLD.purged_at) ",
        ),
    ]


def _refuse_truncate() -> list[str]:
    """TRUNCATE does not fire row triggers, so it has its own."""
    function = "refuses_truncate"
    return [
        _function(function, _raise("a table of the registry is never emptied")),
        *(
            _trigger(f"{table}_{function}", f"BEFORE TRUNCATE ON {table} ", function)
            for table in metadata.tables
        ),
    ]


def _function(name: str, body: str, *, security: str = "DEFINER") -> str:
    # SECURITY DEFINER: a role that may only insert can still pass rules that read other tables.
    return (
        f"CREATE FUNCTION rule_{name}() RETURNS trigger LANGUAGE plpgsql SECURITY {security} "
        f"SET search_path FROM CURRENT AS $$ BEGIN {body} END $$"
    )


def _trigger(name: str, on: str, function: str | None = None) -> str:
    return f"CREATE TRIGGER {name} {on}EXECUTE FUNCTION rule_{function or name}()"


def _raise(sentence: str) -> str:
    return f"RAISE EXCEPTION '{sentence}' USING ERRCODE = 'integrity_constraint_violation';"


def _deny(message: str) -> str:
    return f"RAISE EXCEPTION USING MESSAGE = {message}, ERRCODE = 'insufficient_privilege';"
