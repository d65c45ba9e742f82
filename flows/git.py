"""git: one command at a time, of the repository that the project lies in, whoever called us."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tasks.errors import InputError


@dataclass(frozen=True)
class Code:
    """What git knows of the code that runs: commit None where nothing was committed yet."""

    commit: str | None
    dirty: bool


def git(root: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """The output of a git command.

    Raises:
        InputError: `root` is not in a git repository, git is not installed, or it failed; says why.
    """
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env={**_environment(), **(env or {})},
            check=True,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError as error:
        raise InputError("git is not installed, and DVC needs it; install git") from error
    except subprocess.CalledProcessError as error:
        if "not a git repository" in error.stderr:
            raise InputError(
                f"{root} is not in a git repository; run `git init` and commit the project"
            ) from error
        raise InputError(f"git {arguments[0]} failed: {error.stderr.strip()}") from error
    return done.stdout.strip()


def code_of(root: Path) -> Code:
    """The commit that the checkout is at, and whether its code or parameters differ from it.

    `dvc.lock` does not count: a run writes it.
    """
    changed = git(root, "status", "--porcelain", "--", ".", ":!dvc.lock")
    try:
        return Code(git(root, "rev-parse", "--verify", "-q", "HEAD"), bool(changed))
    except InputError:  # nothing was committed yet
        return Code(None, True)


def differs(root: Path, commit: str, paths: list[str]) -> bool:
    """Whether one of these files of the checkout is not what it is in a commit, or is new."""
    changed = git(root, "diff", "--name-only", commit, "--", *paths)
    return bool(changed or git(root, "ls-files", "-o", "--exclude-standard", "--", *paths))


def forget_the_callers_repository() -> None:
    """Remove from this process's environment what names the repository or index of its caller.

    A git hook hands them to whatever it starts. There they would send every git command, ours and
    DVC's, and those of all child processes, to the index of the commit that is being made.
    """
    for name in _of_a_repository():
        os.environ.pop(name, None)


def _environment() -> dict[str, str]:
    """This process's environment, for a git command that belongs to no caller."""
    return {name: value for name, value in os.environ.items() if name not in _of_a_repository()}


def _of_a_repository() -> frozenset[str]:
    """The variables that git itself says belong to one repository; none where git is not used."""
    if not any(name.startswith("GIT_") for name in os.environ):
        return frozenset()
    return _local_variables()


@cache
def _local_variables() -> frozenset[str]:
    # Asked without any of them: git fails where one is wrong.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "rev-parse", "--local-env-vars"]
    try:
        done = subprocess.run(command, env=plain, capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return frozenset()
    return frozenset(done.stdout.decode().split())
