"""The registry's database: connections, transactions, schema revisions."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    MetaData,
    create_engine,
    delete,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import (
    ArgumentError,
)

from registry.databases import postgresql, sqlite
from registry.databases.sql_errors import translate_row_errors, translate_sql_errors
from registry.errors import Conflict, NoRegistry, SchemaMismatch, Unreachable
from registry.queries.identity import Identity
from registry.schema import HEAD, VERSION_TABLE, metadata, registry, revisions
from registry.values import now, to_json

DIALECTS: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql}
"""The module for each kind of database; all have the same names."""

MIGRATIONS = Path(__file__).parent.parent / "migrations"

# Alembic keeps its environment in module globals: one migration at a time in a process.
_one_migration = threading.Lock()


class Database:
    """An open registry database with the schema of this release, or an empty place for one.

    Opening and reading create nothing; `create` does.

    Raises:
        Unreachable: it cannot be opened, or is of an unsupported kind.
        SchemaMismatch: its schema is older, newer or not a registry's.
    """

    def __init__(self, url: str) -> None:
        self.shown = shown_url(url)
        """The URL for messages: without its password."""
        self._url = _whole(url)
        self._engine = _make_engine(self._url)
        self.dialect = DIALECTS[self._engine.dialect.name]
        self._found = False
        try:
            self.exists()
        except BaseException:
            self.close()
            raise

    def exists(self) -> bool:
        """Whether the registry exists now. Raises SchemaMismatch."""
        if not self._found and self.dialect.is_there(self._engine.url):
            with self._reading(self.dialect.READ) as connection:
                revision = _revision(connection, self.shown)
            if revision not in (None, HEAD):
                raise _mismatch(revision, self.shown)
            self._found = revision is not None
        return self._found

    def check_creatable(self) -> None:
        """Check that the registry could be created; creates nothing. Raises Unreachable."""
        self.dialect.check_creatable(self._engine.url)

    def create(self) -> bool:
        """Create the registry; False if it exists."""
        if self.exists():
            return False
        made = create(self._url)
        self._found = True
        return made

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and waits for no writer.

        Raises:
            NoRegistry: the registry was not created yet.
        """
        self.check_exists()
        with self._reading(self.dialect.READ) as connection:
            yield connection

    @contextmanager
    def _reading(self, options: dict[str, Any]) -> Iterator[Connection]:
        with (
            translate_sql_errors(self.shown),
            translate_row_errors(self.shown),
            self._engine.connect() as connection,
        ):
            connection = connection.execution_options(**options)
            try:
                with connection.begin():
                    yield connection
            finally:
                self.dialect.after_read(connection)

    def check_exists(self) -> None:
        """Raises NoRegistry if the registry was not created yet."""
        if not self._found and not self.exists():
            raise NoRegistry(self.shown)

    @contextmanager
    def read_locked(self) -> Iterator[Connection]:
        """`read`, while registrations and `gc` wait. For short work only.

        Raises:
            Refused, Unreachable: this user may only read, or the lock was not free within 30 s.
        """
        self.check_exists()
        with self._reading(self.dialect.READ_LOCKED) as connection:
            self.dialect.lock_against_collection(connection)
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end of the block, or is rolled back on an error.

        Raises:
            NoRegistry: the registry was not created yet.
        """
        self.check_exists()
        with (
            translate_sql_errors(self.shown),
            translate_row_errors(self.shown),
            self._engine.connect() as connection,
            connection.begin(),
        ):
            yield connection

    def close(self) -> None:
        """Close the pooled connections."""
        self._engine.dispose()


def create(url: str, *, migrations: Path = MIGRATIONS) -> bool:
    """Create a registry in an empty or missing database; False if another process has done so.

    `migrations` is the folder of Alembic's env.py.

    Raises:
        Unreachable: the database cannot be created or written.
        SchemaMismatch: it has other tables, or those of a newer release.
    """
    engine, shown = _make_engine(url, create=True), shown_url(url)
    try:
        return _migrate(engine, shown, migrations) is None
    finally:
        engine.dispose()


def upgrade(url: str, *, migrations: Path = MIGRATIONS) -> str:
    """Migrate a registry database to the schema of this release, in one transaction.

    `migrations` is the folder of Alembic's env.py. Returns the previous revision.

    Raises:
        NoRegistry: there is nothing to upgrade.
        Unreachable: the database cannot be opened or written.
        SchemaMismatch: its schema is newer than this release or not a registry's.
    """
    engine, shown = _make_engine(url), shown_url(url)
    try:
        if not DIALECTS[engine.dialect.name].is_there(engine.url):
            raise NoRegistry(shown)
        before = _migrate(engine, shown, migrations, make=False)
        assert before is not None
        return before
    finally:
        engine.dispose()


def check_empty(url: str) -> None:
    """Check that a database has no rows; empty tables of this or an older release are allowed.

    Raises:
        Conflict: it has a registry.
        Unreachable: it cannot be opened.
        SchemaMismatch: it has other tables.
    """
    engine, shown = _make_engine(url), shown_url(url)
    try:
        if not DIALECTS[engine.dialect.name].is_there(engine.url):
            return
        with translate_sql_errors(shown), engine.begin() as connection:
            _find_empty(connection, shown)
    finally:
        engine.dispose()


@contextmanager
def restore_transaction(
    url: str, revision: str, own: Identity | None = None
) -> Iterator[Connection]:
    """One transaction that fills an empty database with the rows of a backup, all or nothing.

    In the block the tables have schema `revision`; afterwards they are migrated to this release.
    Keys and CHECKs are enforced; on SQLite foreign keys are checked at the end. Triggers are
    created last: they enforce today's rules, and a champion that was promoted before its model's
    policy required four eyes would violate one. The registry gets the ids of `own`; without them it
    keeps the id from the rows and has no store yet.

    Raises:
        Conflict, Unreachable, SchemaMismatch: as for `check_empty`; or `revision` is unknown.
    """
    engine, shown = _make_engine(url, create=True), shown_url(url)
    dialect = DIALECTS[engine.dialect.name]
    try:
        with translate_sql_errors(shown), _one_migration, dialect.migrating(engine) as connection:
            dialect.drop_triggers(connection)
            # Empty tables were created by opening a registry once, maybe by another release.
            _find_empty(connection, shown).drop_all(connection)
            if revision == HEAD:
                _create_tables(connection)
            else:
                _run_alembic(connection, MIGRATIONS, shown, revision)
            if inspect(connection).has_table("registry"):  # the rows bring their own id
                connection.execute(delete(registry))
            yield connection
            dialect.reset_sequences(connection)
            if revision != HEAD:
                _run_alembic(connection, MIGRATIONS, shown)
            # The restored registry has its files in another store than the original.
            ids = {"store": None} if own is None else {"id": own.registry, "store": own.store}
            connection.execute(update(registry).values(ids))
            dialect.install_triggers(connection)
    finally:
        engine.dispose()


def _find_empty(connection: Connection, shown: str) -> MetaData:
    """The tables of a registry without rows. Raises Conflict if one has rows."""
    found = MetaData()
    if _revision(connection, shown) is not None:
        found.reflect(connection)
    made_with_the_tables = {VERSION_TABLE, "registry"}
    for one in found.sorted_tables:
        if one.name in made_with_the_tables:
            continue
        if connection.execute(select(one).limit(1)).first():
            raise Conflict(
                f"{shown} already has a registry: there are rows in its table {one.name!r}. Give "
                "an empty or a new database: set MODELMINT_DATABASE_URL."
            )
    return found


def hide_password(url: str) -> str:
    """The URL without its password, even if characters of the password are not escaped."""
    url = re.sub(r"(?<=//)([^:/@]*):.*@", r"\1:***@", url, flags=re.DOTALL)
    return re.sub(r"([?&][^=&]*password=)[^&]*", r"\1***", url, flags=re.IGNORECASE)


def _whole(url: str) -> str:
    """A URL with the absolute path of a SQLite file, since the current folder may change later."""
    with suppress(ArgumentError, ValueError):
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            return str(sqlite.absolute(parsed))
    return url


def shown_url(url: str) -> str:
    """A URL for messages: without its password, with the absolute path of a SQLite file."""
    return hide_password(_whole(url))


def _parsed(url: str) -> URL:
    try:
        found = make_url(url)
    except ValueError:  # its message may contain a part of the password
        raise ValueError("its port is not a number") from None
    if "@" in (found.host or ""):
        raise ValueError("it has two @; in a password write @ as %40, / as %2F and : as %3A")
    return found


def _make_engine(url: str, *, create: bool = False) -> Engine:
    try:
        parsed = _parsed(url)
        backend = parsed.get_backend_name()
        dialect = DIALECTS.get(backend)
        if dialect is None:
            write = "; write postgresql+psycopg://" if backend == "postgres" else ""
            raise ValueError(f"{backend} is not supported{write}")
        engine = create_engine(dialect.prepare(parsed), json_serializer=to_json)
    except (ArgumentError, ImportError, ValueError) as error:
        raise Unreachable(
            f"{hide_password(url)!r} is not a database URL that can be opened here ({error}). Set "
            "MODELMINT_DATABASE_URL to something like sqlite:////srv/modelmint/registry.db or "
            "postgresql+psycopg://user:password@host/database."
        ) from error
    if create:
        dialect.make_folder(engine.url)
    dialect.configure(engine, create=create)
    return engine


def _revision(connection: Connection, shown: str) -> str | None:
    """The schema revision that a database has; None for an empty one."""
    tables = inspect(connection).get_table_names()
    if VERSION_TABLE not in tables:
        if tables:
            raise SchemaMismatch(
                f"{shown} has tables that are not a registry's ({', '.join(tables[:5])}). Give the "
                "registry a database of its own: set MODELMINT_DATABASE_URL."
            )
        return None
    return connection.execute(select(revisions.c.version_num)).scalar_one_or_none()


def _mismatch(revision: str, shown: str) -> SchemaMismatch:
    older = revision < HEAD
    return SchemaMismatch(
        f"The registry database {shown} has schema {revision}, this release needs {HEAD}. "
        + ("Run `modelmint models upgrade`." if older else "It is newer: upgrade modelmint.")
    )


def _migrate(engine: Engine, shown: str, migrations: Path, *, make: bool = True) -> str | None:
    dialect = DIALECTS[engine.dialect.name]
    migrating = dialect.migrating(engine)
    with (
        translate_sql_errors(shown),
        translate_row_errors(shown),
        _one_migration,
        migrating as connection,
    ):
        # Read again under the lock: of several processes that start at once, one migrates.
        revision = _revision(connection, shown)
        if revision is None and not make:
            raise NoRegistry(shown)
        if revision is not None and revision > HEAD:
            raise _mismatch(revision, shown)
        # The others change nothing: the first process may already be writing.
        if revision is None and migrations == MIGRATIONS:
            _create_tables(connection)
            dialect.install_triggers(connection)
        elif revision != HEAD or migrations != MIGRATIONS:
            dialect.drop_triggers(connection)
            _run_alembic(connection, migrations, shown)
            dialect.install_triggers(connection)
    return revision


def _create_tables(connection: Connection) -> None:
    """Create the tables of this release in an empty database, without triggers.

    All revisions one after the other make the same tables, and take 0.27 CPU seconds instead of
    0.05.
    """
    metadata.create_all(connection, checkfirst=False)
    revisions.create(connection)
    connection.execute(insert(revisions).values(version_num=HEAD))
    connection.execute(insert(registry).values(id=uuid4().hex, created_at=now()))


def _run_alembic(
    connection: Connection, migrations: Path, shown: str, revision: str = "head"
) -> None:
    # Imported here: it takes 0.1 s, and only a migration needs it.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise SchemaMismatch(
            f"The registry database {shown} cannot be upgraded to schema {HEAD}: {error}. It was "
            "not changed. Restore a backup, or report this message."
        ) from error
