"""The registry and its models in Python, for notebooks.

    import modelmint

    registry = modelmint.registry()
    model = registry.load("digits@champion")
    model.predict(frame)

`import modelmint` is quick: ONNX Runtime and Arrow are imported with the first model, pandas for
the first DataFrame, torch and Prefect never. `docs/python.md` shows everything.
"""

import os
from pathlib import Path

import registry as registries
from flows.settings import Places
from modelmint import arguments
from modelmint.errors import FailedEvaluation, MissingPackage, Substituted
from modelmint.interface import Registry
from registry import (
    Conflict,
    Corrupt,
    InvalidCandidate,
    InvalidQuery,
    InvalidReference,
    NoRegistry,
    NotFound,
    Refused,
    RegistryError,
    SchemaMismatch,
    Unreachable,
)
from tasks.errors import InputError

__all__ = [
    "Conflict",
    "Corrupt",
    "FailedEvaluation",
    "InputError",
    "InvalidCandidate",
    "InvalidQuery",
    "InvalidReference",
    "MissingPackage",
    "NoRegistry",
    "NotFound",
    "Refused",
    "Registry",
    "RegistryError",
    "SchemaMismatch",
    "Substituted",
    "Unreachable",
    "registry",
]


def registry(
    database_url: str | None = None,
    artifacts: str | Path | None = None,
    *,
    cache: str | Path | None = None,
) -> Registry:
    """Open the registry of the project that the current folder is in, or another one.

    Defaults are those of the command line: MODELMINT_DATABASE_URL, MODELMINT_ARTIFACTS and
    MODELMINT_CACHE, then paths in the project. Close it with `close()` or a `with` block; a
    notebook may leave it open.

        >>> import modelmint
        >>> registry = modelmint.registry()
        >>> registry.models()[0].name
        'pets'

    Args:
        database_url: SQLAlchemy URL, as in sqlite:////data/registry.db.
        artifacts: Folder of the registered files, or s3://BUCKET/PREFIX.
        cache: Folder for local copies of files in a bucket.

    Raises:
        InputError: an argument is missing, and the current folder is not in a project.
        RegistryError: the registry cannot be opened.
    """
    if not isinstance(database_url, str | None):
        raise InputError(f"database_url is {database_url!r}. Give text, as in sqlite:////srv/r.db")
    if artifacts is not None:
        arguments.path("artifacts", artifacts)
    if database_url is None or artifacts is None:
        places = Places.of_registry(database_url, artifacts, files=True)
        database_url, artifacts = places.database_url, places.artifacts
    if cache is None:
        cache = os.environ.get("MODELMINT_CACHE") or None
    opened = registries.Registry(database_url, artifacts, cache)
    return Registry(opened, database_url, str(artifacts))
