"""Settings: where files and databases are. They never change a result.

An empty environment variable counts as not set.
"""

import getpass
import os
from dataclasses import dataclass
from pathlib import Path

from registry import Registry, hide_password
from registry.artifacts import user_cache
from tasks.errors import InputError

BACKUP = "MODELMINT_BACKUP"
"""Names the folder of the last backup."""
UI_URL = "MODELMINT_UI_URL"
"""Names the address of `modelmint models ui`, as people reach it."""


@dataclass(frozen=True)
class Places:
    """Where a registry is, for commands that need no project. Fields as in `Settings`."""

    database_url: str
    artifacts: str | None
    """None if the place of the files is unknown."""
    cache: Path

    @classmethod
    def of_registry(
        cls,
        database_url: str | None = None,
        artifacts: str | Path | None = None,
        *,
        files: bool = False,
    ) -> "Places":
        """The given registry, else the one of the environment, else that of the current project.

        `files`: the files are needed too, not only the database.

        Raises:
            InputError: none of these names a registry.
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
                f"No registry found: {missing} is not set, and {Path.cwd()} is not in a modelmint "
                "project (neither it nor a folder above has a dvc.yaml). Change to your project's "
                "folder, or set MODELMINT_DATABASE_URL to the database and MODELMINT_ARTIFACTS to "
                "the folder or bucket of the files."
            )
        return cls(url, None if place is None else str(place), _cache())

    def open_registry(self) -> Registry:
        """The registry, as a context manager. Raises RegistryError as `Registry` does."""
        return Registry(self.database_url, self.artifacts, self.cache)


@dataclass(frozen=True)
class Settings:
    """Paths and URLs, from the environment or below the project's folder."""

    root: Path
    """The project's folder, with dvc.yaml and params.yaml."""
    database_url: str
    """MODELMINT_DATABASE_URL: SQLAlchemy URL of the registry. Default: modelmint.db in the root."""
    artifacts: str
    """MODELMINT_ARTIFACTS: folder of the registered files, or s3://BUCKET/PREFIX. Default:
    artifacts in the root."""
    cache: Path
    """MODELMINT_CACHE: local copies of files in a bucket; unused without a bucket.
    Default: modelmint in the user's cache folder, which projects share."""
    runs: Path
    """MODELMINT_RUNS: folder for the worktrees of runs. Default: runs in the root."""

    @classmethod
    def from_environment(cls) -> "Settings":
        """Settings for the project that the current folder lies in.

        Raises:
            InputError: neither the current folder nor one above has a dvc.yaml.
        """
        root = _project()
        if root is None:
            raise InputError(
                f"{Path.cwd()} is not in a modelmint project: neither it nor a folder above has a "
                "dvc.yaml. Change to your project's folder, or make one with `modelmint new DIR`."
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


def list_settings() -> dict[str, str | None]:
    """Every setting by its variable, without passwords; None if it has no value here.

    Raises:
        InputError: no registry is set and there is no project, or a variable of notifications has
            another form.
    """
    from flows.notify.channels import shown_variables  # no other command needs it

    places, root = Places.of_registry(), _project()
    return {
        "MODELMINT_DATABASE_URL": hide_password(places.database_url),
        "MODELMINT_ARTIFACTS": places.artifacts,
        "MODELMINT_CACHE": str(places.cache),
        "MODELMINT_RUNS": None if root is None else str(_runs(root)),
        BACKUP: os.environ.get(BACKUP) or None,
        UI_URL: os.environ.get(UI_URL) or None,
        **shown_variables(os.environ),
    }


def _project() -> Path | None:
    """The project of the current folder, searched upwards as git does."""
    here = Path.cwd()
    found = [p for p in (here, *here.parents) if (p / "dvc.yaml").is_file()]
    # `data/raw` of an example has a dvc.yaml too, but no params.yaml.
    return next((p for p in found if (p / "params.yaml").is_file()), next(iter(found), None))


def _own_places(root: Path) -> tuple[str, str]:
    """Default database and files of a project."""
    return f"sqlite:///{root / 'modelmint.db'}", str(root / "artifacts")


def _cache() -> Path:
    return Path(os.environ.get("MODELMINT_CACHE") or user_cache()).absolute()


def _runs(root: Path) -> Path:
    return Path(os.environ.get("MODELMINT_RUNS") or root / "runs").absolute()


def actor() -> str:
    """The user's name for the registry's history, or the user id if there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container the user may have no entry in /etc/passwd
        return str(os.getuid())
