"""`python -P -m flows.repro STAGE`: run one stage by `dvc repro`, if it is stale.

In a fork of the warm process (`tasks/warm.py`), if there is one: with `versioning.py` the only
module that knows DVC.
"""

import os
import sys

from tasks.warm import SOCKETS, in_fork

# What `dvc repro` imports; the warm process imports it before.
LIBRARIES = (
    "dvc.cli.parser",
    "dvc.commands.repro",
    "dvc.data_cloud",
    "dvc.lock",
    "dvc.repo.artifacts",
    "dvc.repo.datasets",
    "dvc.repo.plots",
    "dvc.repo.reproduce",
    "dvc.repo.stage",
    "dvc.rwlock",
    "dvc.scm",
    "dvc.utils.strictyaml",
)


def main(stage: str) -> int:
    """Returns the exit status of `dvc repro`, or becomes that command."""
    arguments = ["--wait-for-lock", "repro", "-s", stage]
    status = in_fork(os.environ.get(SOCKETS), "light", "dvc", arguments)
    if status is not None:
        return status
    # `-P` ignores a project's folder `dvc`.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "dvc", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
