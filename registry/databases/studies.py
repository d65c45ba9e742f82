"""Where the studies of `modelmint tune` are: tables of Optuna beside those of the registry.

On SQLite they are in the registry's file, on PostgreSQL in the same database in a schema of their
own. Optuna makes and migrates them; nothing of the registry refers to them, and a backup of the
registry leaves them out.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, CreateEnginePlugin, Engine, event, make_url, text
from sqlalchemy.dialects import plugins

from registry.databases import postgresql, sqlite
from registry.databases.database import DIALECTS, _make_engine, _whole, shown_url
from registry.databases.sql_errors import translate_sql_errors

SCHEMA = "optuna"
"""On PostgreSQL. Optuna's `alembic_version` is also the name of MLflow's and of many others."""
_PLUGIN = "modelmint_studies"
_LOCK = 7_316_408_255_213_904_120  # an arbitrary constant


class OurConnections(CreateEnginePlugin):
    """Gives Optuna's engine the connections of the registry.

    Its own would begin transactions on SQLite with a read, and fail at once with "database is
    locked" if another process writes before they do; and two workers could take the same trial.
    """

    def update_url(self, url: URL) -> URL:
        """Called by SQLAlchemy: the URL says nothing about this plugin."""
        return url

    def engine_created(self, engine: Engine) -> None:
        """Called by SQLAlchemy, before anything connects."""
        if engine.dialect.name == "sqlite":
            sqlite.configure_connections(engine)
        else:
            postgresql.configure(engine)
            event.listen(engine, "connect", _enter_schema)


def begin_explicitly(engine: Engine) -> None:
    """Give Optuna's engine transactions, once it has made its tables.

    While it does, it opens a second connection inside the transaction of the first one.
    """
    if engine.dialect.name == "sqlite":
        sqlite.begin_explicitly(engine)


def _enter_schema(driver: Any, _record: object) -> None:
    driver.autocommit = True
    driver.execute(f"SET search_path TO {SCHEMA}")
    driver.autocommit = False


plugins.register(_PLUGIN, __name__, OurConnections.__name__)


def options(database_url: str) -> tuple[str, dict[str, Any]]:
    """The URL and the options with which Optuna opens the registry's database."""
    url = make_url(_whole(database_url))
    prepared = DIALECTS[url.get_backend_name()].prepare(url)
    return prepared.render_as_string(hide_password=False), {"plugins": [_PLUGIN]}


@contextmanager
def one_at_a_time(database_url: str) -> Iterator[None]:
    """While Optuna makes its tables, or looks for them: two processes would make the same.

    Raises:
        Refused: this user may not create the schema.
        Unreachable: the database cannot be opened.
    """
    if not database_url.startswith("postgresql"):
        folder = os.open(Path(str(make_url(_whole(database_url)).database)).parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
        return
    engine = _make_engine(database_url)
    try:
        with translate_sql_errors(shown_url(database_url)), engine.connect() as connection:
            # Of the session, not of a transaction: the schema must be committed before the block.
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
            if not _has_schema(connection):
                connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
            connection.commit()
            yield
    finally:
        engine.dispose()  # which ends the session, and with it the lock


def _has_schema(connection: Connection) -> bool:
    query = text("SELECT 1 FROM information_schema.schemata WHERE schema_name = :name")
    return connection.execute(query, {"name": SCHEMA}).first() is not None


def grants(connection: Connection, role: str) -> list[str]:
    """Statements that let `role` work on studies; none before the first `modelmint tune`."""
    if not _has_schema(connection):
        return []
    here = f"SCHEMA {SCHEMA}"
    return [
        f"GRANT USAGE ON {here} TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN {here} TO {role}",
        f"GRANT USAGE ON ALL SEQUENCES IN {here} TO {role}",
    ]
