"""Where a run works: the user's own checkout, or a git worktree made for its parameters.

A worktree holds the checkout as it stands, uncommitted changes included, beside the shared DVC
cache. It is named after its content, so the same command finds the same folder again, and resumes.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.settings import Settings
from tasks import params
from tasks.config import Params
from tasks.errors import InputError
from tasks.workspace import Workspace

# Git wants an author; a snapshot is nobody's work, and stays on no branch.
_AUTHOR = ["-c", "user.name=modelmint", "-c", "user.email=modelmint@localhost"]


@dataclass(frozen=True)
class Code:
    """What git knows of the code that runs: commit None where nothing was committed yet."""

    commit: str | None
    dirty: bool


def git(root: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """The output of a git command.

    Raises:
        InputError: `root` is no git repository, git is not installed, or it failed; says why.
    """
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env={**os.environ, **(env or {})},
            check=True,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError as error:
        raise InputError("git is not installed, and DVC needs it; install git") from error
    except subprocess.CalledProcessError as error:
        if "not a git repository" in error.stderr:
            raise InputError(f"{root} is no git repository; clone the project with git") from error
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


def plan(settings: Settings, wanted: Params) -> Workspace:
    """The workspace for a run with the parameters `wanted`: the checkout if it holds them.

    A worktree's params.yaml holds them all, those that the user left to their defaults included.

    Raises:
        InputError: there is no git repository to make a worktree of.
    """
    own = Workspace(settings.root)
    if holds(own, wanted):
        return own
    resolved = wanted.model_dump(mode="json")
    settings.runs.mkdir(parents=True, exist_ok=True)
    with _lock(settings.runs / ".lock"):
        snapshot = _snapshot(settings.root, wanted.prepare.salt_file)
        listing = git(settings.root, "ls-tree", "-r", snapshot)
        content = "\n".join(line for line in listing.splitlines() if "\tdvc.lock" not in line)
        identity = hashlib.sha256((content + json.dumps(resolved, sort_keys=True)).encode())
        name = wanted.train.architecture.name
        folder = settings.runs / f"{name}-{identity.hexdigest()[:10]}"
        # Written last: where it lies, the worktree is whole.
        marker = folder / ".dvc/config.local"
        if not marker.exists():
            if folder.exists():
                shutil.rmtree(folder)
            git(settings.root, "worktree", "prune")
            # Twice --force: a worktree whose making was killed is registered, and locked.
            force = ["--force", "--force", "--detach"]
            git(settings.root, "worktree", "add", "-q", *force, str(folder), snapshot)
            params.write(resolved, folder / "params.yaml")
            part = marker.with_suffix(".part")
            part.write_text(f"[cache]\n    dir = {_cache(settings.root)}\n", encoding="utf-8")
            part.replace(marker)
    return Workspace(folder)


def holds(workspace: Workspace, wanted: Params) -> bool:
    """Whether the workspace's params.yaml says what `wanted` says.

    A section left to its defaults does not: DVC tracks only what stands there.
    """
    try:
        whole = params.read(workspace.params).keys() >= Params.model_fields.keys()
        return whole and params.load(workspace.params) == wanted
    except InputError:
        return False


def _snapshot(root: Path, secret: str | None) -> str:
    """A commit of the checkout as it stands; moves no branch or index.

    Without files that git ignores, and without `secret`, which it may not have been told of.
    """
    inside = secret and (root / secret).resolve().is_relative_to(root.resolve())
    without = [f":(exclude){secret}"] if inside else []
    with tempfile.TemporaryDirectory() as scratch:
        index = {"GIT_INDEX_FILE": f"{scratch}/index"}
        parents: list[str] = []
        if head := code_of(root).commit:
            git(root, "read-tree", head, env=index)
            parents = ["-p", head]
        git(root, "add", "-A", "--", ".", *without, env=index)
        tree = git(root, "write-tree", env=index)
        if head and git(root, "rev-parse", f"{head}^{{tree}}") == tree:
            return head
        return git(root, *_AUTHOR, "commit-tree", tree, *parents, "-m", "modelmint: a run")


def _cache(root: Path) -> str:
    from dvc.repo import Repo  # 0.4 s, and only a new worktree needs it

    with Repo(str(root)) as repo:
        return str(repo.cache.legacy.path)  # above both of its layouts and the run cache


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
