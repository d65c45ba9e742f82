"""The registry's database: opening, transactions, schema revisions.

SQL errors are explained here and nowhere else: callers of the package see RegistryErrors.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, column, create_engine, inspect, make_url, select, table
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    ProgrammingError,
    SQLAlchemyError,
)

from registry import sqlite
from registry.errors import RegistryError, SchemaMismatch, Unreachable
from registry.schema import HEAD, VERSION_TABLE

DIALECTS = {"sqlite": sqlite}
"""Databases that this release can keep a registry in."""

MIGRATIONS = Path(__file__).parent / "migrations"

# Alembic keeps the environment it runs in module globals, so one migration a process at a time.
_one_migration = threading.Lock()


class Database:
    """An open registry database of the right schema; an empty one is set up first.

    Raises:
        Unreachable: it cannot be opened, or is of an unsupported kind.
        SchemaMismatch: its schema is older, newer or not a registry's.
    """

    def __init__(self, url: str) -> None:
        self.shown = hide_password(url)
        """The URL for messages: without its password."""
        self._engine = _make_engine(url)
        try:
            with self.read() as connection:
                revision = _revision(connection, self.shown)
            if revision is None:
                _migrate(self._engine, self.shown, MIGRATIONS)
            elif revision != HEAD:
                raise _mismatch(revision, self.shown)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and waits for no writer."""
        with explained(self.shown), self._engine.connect() as connection:
            connection = connection.execution_options(readonly=True)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end of the block, or undoes it all on an error."""
        with explained(self.shown), self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close the pooled connections."""
        self._engine.dispose()


def upgrade(url: str, *, migrations: Path = MIGRATIONS) -> str | None:
    """Bring a registry database to the schema of this release, all or nothing.

    `migrations` is the folder of Alembic's env.py. Returns the revision that the database had
    before, None if it was empty.

    Raises:
        Unreachable: the database cannot be opened or written.
        SchemaMismatch: its schema is newer than this release or not a registry's.
    """
    engine, shown = _make_engine(url), hide_password(url)
    try:
        return _migrate(engine, shown, migrations)
    finally:
        engine.dispose()


def hide_password(url: str) -> str:
    """The URL as messages may show it."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return re.sub(r"//[^/@]*@", "//***@", url)


@contextmanager
def explained(shown: str) -> Iterator[None]:
    """Turn SQLAlchemy's errors inside the block into the registry's."""
    try:
        yield
    except (IntegrityError, ProgrammingError) as error:
        raise RegistryError(f"The registry database {shown} refused: {error.orig}.") from error
    except DBAPIError as error:
        symptom = _symptom(str(error.orig), shown)
        raise Unreachable(f"{symptom} See MODELMINT_DATABASE_URL.") from error
    except SQLAlchemyError as error:
        raise RegistryError(f"The registry database {shown} failed: {error}.") from error


def _symptom(text: str, shown: str) -> str:
    if "locked" in text:
        return (
            f"The registry database {shown} stayed locked by another process for "
            f"{sqlite.BUSY_S} s. Try again, or end the process that holds it."
        )
    if "not a database" in text:
        return f"The file behind {shown} is not a SQLite database."
    return f"The registry database {shown} cannot be used: {text}. May you read and write it?"


def _make_engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        dialect = DIALECTS.get(parsed.get_backend_name())
        if dialect is not None:
            dialect.prepare(parsed)
        # allow_nan=False: NaN is no JSON, and a reader elsewhere would trip over it.
        engine = create_engine(parsed, json_serializer=_to_json)
    except (ArgumentError, ImportError, ValueError) as error:
        raise Unreachable(
            f"{hide_password(url)!r} is not a database URL that can be opened here ({error}). This "
            "release keeps the registry in SQLite: set MODELMINT_DATABASE_URL to something like "
            "sqlite:////srv/modelmint/registry.db."
        ) from error
    if dialect is not None:
        dialect.configure(engine)
    return engine


def _to_json(value: object) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def _revision(connection: Connection, shown: str) -> str | None:
    """The schema revision that a database has; None for an empty one."""
    tables = inspect(connection).get_table_names()
    if VERSION_TABLE not in tables:
        if tables:
            raise SchemaMismatch(
                f"{shown} already holds tables of something else ({', '.join(tables[:5])}). Give "
                "the registry a database of its own: set MODELMINT_DATABASE_URL."
            )
        return None
    versions = table(VERSION_TABLE, column("version_num"))
    return connection.execute(select(versions.c.version_num)).scalar_one_or_none()


def _mismatch(revision: str, shown: str) -> SchemaMismatch:
    older = revision < HEAD
    return SchemaMismatch(
        f"The registry database {shown} has schema {revision}, this release needs {HEAD}. "
        + ("Run `modelmint models upgrade`." if older else "It is newer: upgrade modelmint.")
    )


def _migrate(engine: Engine, shown: str, migrations: Path) -> str | None:
    dialect = DIALECTS.get(engine.dialect.name)
    if dialect is None:
        raise Unreachable(
            f"{shown} is a {engine.dialect.name} database; this release keeps the registry in "
            f"{', '.join(DIALECTS)} only. Set MODELMINT_DATABASE_URL accordingly."
        )
    with explained(shown), _one_migration, dialect.migrating(engine) as connection:
        # Looked up again under the lock: of several first starters, one does the work.
        revision = _revision(connection, shown)
        if revision is not None and revision > HEAD:
            raise _mismatch(revision, shown)
        _run_alembic(connection, migrations, shown)
    return revision


def _run_alembic(connection: Connection, migrations: Path, shown: str) -> None:
    # Imported here: it takes a tenth of a second that only a migration should pay.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SchemaMismatch(
            f"The registry database {shown} cannot be upgraded to schema {HEAD}: {error}. It was "
            "left as it was; restore a backup or ask with this message."
        ) from error
