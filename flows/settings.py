"""Settings: where things are kept. They never change what is computed.

An environment variable that is empty counts as not set.
"""

import getpass
import os
from dataclasses import dataclass
from pathlib import Path

from registry import Registry, hide_password
from registry.artifacts import user_cache
from tasks.errors import InputError


@dataclass(frozen=True)
class Places:
    """Where a registry is kept: for what needs no project. The fields are those of `Settings`."""

    database_url: str
    artifacts: str | None
    """None where nothing says where the files are."""
    cache: Path

    @classmethod
    def of_registry(
        cls,
        database_url: str | None = None,
        artifacts: str | Path | None = None,
        *,
        files: bool = False,
    ) -> "Places":
        """The registry that the environment names, or that of the project around this folder.

        What is given counts before both. `files` says that the files are needed, and not only the
        database.

        Raises:
            InputError: nothing says where it is.
        """
        root = _project()
        own = (None, None) if root is None else _own_places(root)
        url, place = database_url, artifacts
        if url is None:
            url = os.environ.get("MODELMINT_DATABASE_URL") or own[0]
        if place is None:
            place = os.environ.get("MODELMINT_ARTIFACTS") or own[1]
        if url is None or (files and place is None):
            missing = "MODELMINT_DATABASE_URL" if url is None else "MODELMINT_ARTIFACTS"
            raise InputError(
                f"Nothing says where the registry is: {missing} is not set, and {Path.cwd()} lies "
                "in no modelmint project (neither it nor a folder above holds dvc.yaml). Change "
                "into your project; or set MODELMINT_DATABASE_URL to the database and "
                "MODELMINT_ARTIFACTS to the place of the files."
            )
        return cls(url, None if place is None else str(place), _cache())

    def open_registry(self) -> Registry:
        """The registry, as a context manager. Raises RegistryError as `Registry` does."""
        return Registry(self.database_url, self.artifacts, self.cache)


@dataclass(frozen=True)
class Settings:
    """Places, from the environment or below the project's folder."""

    root: Path
    """The project's folder, with dvc.yaml and params.yaml."""
    database_url: str
    """MODELMINT_DATABASE_URL: SQLAlchemy URL of the registry. Default: modelmint.db in the root."""
    artifacts: str
    """MODELMINT_ARTIFACTS: folder of the registered files, or s3://BUCKET/PREFIX. Default:
    artifacts in the root."""
    cache: Path
    """MODELMINT_CACHE: folder from which files of a bucket are opened; unused without one.
    Default: modelmint in the user's cache folder, which projects share."""
    runs: Path
    """MODELMINT_RUNS: folder of the worktrees of runs. Default: runs in the root."""

    @classmethod
    def from_environment(cls) -> "Settings":
        """Settings for the project that the current folder lies in.

        Raises:
            InputError: no folder from here upwards holds dvc.yaml.
        """
        root = _project()
        if root is None:
            raise InputError(
                f"{Path.cwd()} lies in no modelmint project: neither it nor a folder above holds "
                "dvc.yaml. Change into your project, or make one with `modelmint new DIR`."
            )
        url, artifacts = _own_places(root)
        return cls(
            root=root,
            database_url=os.environ.get("MODELMINT_DATABASE_URL") or url,
            artifacts=os.environ.get("MODELMINT_ARTIFACTS") or artifacts,
            cache=_cache(),
            runs=_runs(root),
        )

    def open_registry(self) -> Registry:
        """The registry, as a context manager. Raises RegistryError as `Registry` does."""
        return Registry(self.database_url, self.artifacts, self.cache)


def shown() -> dict[str, str | None]:
    """Every setting by its variable, without passwords; None for what has no value here.

    Raises:
        InputError: nothing says where the registry is.
    """
    places, root = Places.of_registry(), _project()
    return {
        "MODELMINT_DATABASE_URL": hide_password(places.database_url),
        "MODELMINT_ARTIFACTS": places.artifacts,
        "MODELMINT_CACHE": str(places.cache),
        "MODELMINT_RUNS": None if root is None else str(_runs(root)),
    }


def _project() -> Path | None:
    """The project around the current folder, found upwards as git does."""
    here = Path.cwd()
    found = [p for p in (here, *here.parents) if (p / "dvc.yaml").is_file()]
    # `data/raw` may have a dvc.yaml too, which puts example data there.
    return next((p for p in found if (p / "params.yaml").is_file()), next(iter(found), None))


def _own_places(root: Path) -> tuple[str, str]:
    """Database and files of a project that has no other."""
    return f"sqlite:///{root / 'modelmint.db'}", str(root / "artifacts")


def _cache() -> Path:
    return Path(os.environ.get("MODELMINT_CACHE") or user_cache()).absolute()


def _runs(root: Path) -> Path:
    return Path(os.environ.get("MODELMINT_RUNS") or root / "runs").absolute()


def actor() -> str:
    """Who does this, for the history: the user's name, or number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in its user database
        return str(os.getuid())
