"""Opening an MLflow registry without changing it, and translating MLflow's errors.

MLflow's client creates its tables in an empty database, and upgrades an older one, whose server
then refuses to start. So the client gets a copy of a SQLite database, and other databases only if
they have the schema of the installed MLflow.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from registry.databases.database import hide_password
from registry.errors import NotFound, Unreachable

_SQL = ("postgresql", "mysql", "mssql")


def safe_uri(mlflow: Any, uri: str, folder: Path) -> str:
    """The URI to give to MLflow's client; for a SQLite database, that of a copy in the folder.

    Raises:
        Unreachable: there is no MLflow registry, or not one of the installed release.
    """
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme == "sqlite":
        return _copy(mlflow, uri, folder / "mlflow.db")
    if scheme in _SQL:
        found, known = _schema(uri, uri), _migrations(mlflow).get_current_head()
        if found != known:
            why = f"it has schema {found}, and MLflow {mlflow.__version__} would upgrade it"
            raise unreachable(uri, f"{why} to {known}; install the MLflow that it is used with")
    return uri


@contextmanager
def translate_mlflow_errors(mlflow: Any, uri: str) -> Iterator[None]:
    """Turn MLflow's errors inside the block into NotFound and Unreachable."""
    try:
        yield
    except mlflow.exceptions.MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFound(without_password(uri, error)) from error
        raise unreachable(uri, error) from error


def unreachable(uri: str, why: object) -> Unreachable:
    """The error for an MLflow registry that cannot be read."""
    return Unreachable(
        f"The MLflow registry {hide_password(uri)} cannot be read: {without_password(uri, why)}. "
        "Give the MLFLOW_TRACKING_URI of that registry, as in sqlite:////srv/mlflow.db or an "
        "http:// URL."
    )


def without_password(uri: str, why: object) -> str:
    """The message of an error of MLflow, which may contain the URI, without the URI's password."""
    return str(why).replace(uri.rstrip("/"), hide_password(uri).rstrip("/"))


def _copy(mlflow: Any, uri: str, copy: Path) -> str:
    """The URI of a copy of a SQLite database, upgraded to the schema of the installed MLflow."""
    original = Path(make_url(uri).database or "")
    if not original.is_file():
        raise unreachable(uri, f"there is no file {original}")
    read_only = f"{original.absolute().as_uri()}?mode=ro"
    try:
        with (
            closing(sqlite3.connect(read_only, uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except sqlite3.Error as error:
        raise unreachable(uri, error) from error
    copied = f"sqlite:///{copy}"
    migrations = _migrations(mlflow)
    if _schema(copied, uri) != migrations.get_current_head():
        config = Config()
        config.set_main_option("script_location", migrations.dir.replace("%", "%%"))
        try:
            with _engine(copied).begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "heads")
        except (CommandError, SQLAlchemyError) as error:
            raise unreachable(uri, f"MLflow {mlflow.__version__}: {error}") from error
    return copied


def _schema(uri: str, shown: str) -> str:
    """The revision of an MLflow database."""
    try:
        with _engine(uri).connect() as connection:
            connection.execute(text("SELECT 1 FROM registered_models")).first()
            revision = connection.execute(text("SELECT version_num FROM alembic_version"))
            return str(revision.scalar_one())
    except (SQLAlchemyError, ImportError) as error:
        raise unreachable(shown, f"it is not an MLflow registry ({error})") from error


def _migrations(mlflow: Any) -> ScriptDirectory:
    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))


def _engine(uri: str) -> Engine:
    return create_engine(uri, poolclass=NullPool)
