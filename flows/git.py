"""Runs git commands in the project's repository, also when a git hook of another one called us."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tasks.errors import InputError


@dataclass(frozen=True)
class Code:
    """The commit of the checkout, None before the first one, and whether files differ from it."""

    commit: str | None
    dirty: bool


def git(root: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """The output of a git command.

    Raises:
        InputError: `root` is not in a git repository, git is not installed, or the command failed.
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
    """The commit of the checkout, and whether files other than `dvc.lock` differ from it."""
    changed = git(root, "status", "--porcelain", "--", ".", ":!dvc.lock")
    try:
        return Code(git(root, "rev-parse", "--verify", "-q", "HEAD"), bool(changed))
    except InputError:  # nothing was committed yet
        return Code(None, True)


def differs(root: Path, commit: str, paths: list[str]) -> bool:
    """Whether one of these files of the checkout differs from a commit's or is untracked."""
    changed = git(root, "diff", "--name-only", commit, "--", *paths)
    return bool(changed or git(root, "ls-files", "-o", "--exclude-standard", "--", *paths))


def forget_the_callers_repository() -> None:
    """Remove the variables that name the caller's repository or index from the environment.

    A git hook sets them. They would direct every git command, ours, DVC's and those of child
    processes, to the index of the commit in progress.
    """
    for name in _repository_variables():
        os.environ.pop(name, None)


def _environment() -> dict[str, str]:
    """This process's environment without the variables of the caller's repository."""
    mine = _repository_variables()
    return {name: value for name, value in os.environ.items() if name not in mine}


def _repository_variables() -> frozenset[str]:
    """The variables that belong to one repository, according to git; none if no GIT_* is set."""
    if not any(name.startswith("GIT_") for name in os.environ):
        return frozenset()
    return _local_variables()


@cache
def _local_variables() -> frozenset[str]:
    # Run without GIT_* variables: git fails if one is wrong.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "rev-parse", "--local-env-vars"]
    try:
        done = subprocess.run(command, env=plain, capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return frozenset()
    return frozenset(done.stdout.decode().split())
