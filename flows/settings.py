"""Settings: where things are kept. They never change what is computed."""

import getpass
import os
from dataclasses import dataclass
from pathlib import Path

from registry import Registry
from registry.artifacts import user_cache
from tasks.errors import InputError


@dataclass(frozen=True)
class Settings:
    """Places, from the environment or below the project's folder."""

    root: Path
    """The checkout: the folder that holds dvc.yaml."""
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
        here = Path.cwd()
        root = next((p for p in (here, *here.parents) if (p / "dvc.yaml").is_file()), None)
        if root is None:
            raise InputError(
                f"{here} lies in no modelmint project: neither it nor a folder above holds "
                "dvc.yaml. Change into your clone and try again."
            )
        return cls(
            root=root,
            database_url=os.environ.get(
                "MODELMINT_DATABASE_URL", f"sqlite:///{root / 'modelmint.db'}"
            ),
            artifacts=os.environ.get("MODELMINT_ARTIFACTS", str(root / "artifacts")),
            cache=Path(os.environ.get("MODELMINT_CACHE", user_cache())).absolute(),
            runs=Path(os.environ.get("MODELMINT_RUNS", root / "runs")).absolute(),
        )

    def open_registry(self) -> Registry:
        """The registry, as a context manager. Raises RegistryError as `Registry` does."""
        return Registry(self.database_url, self.artifacts, self.cache)


def actor() -> str:
    """Who does this, for the history: the user's name, or number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in its user database
        return str(os.getuid())
