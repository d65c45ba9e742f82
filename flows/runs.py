"""Where a run works: the user's own checkout, or a git worktree made for its parameters.

A worktree holds the checkout as it stands, uncommitted changes included, beside the shared DVC
cache. It is named after its content, so the same command finds the same folder again, and resumes.
Once its run is registered or refused it is removed; `flows/records.py` keeps what is small.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flows.git import code_of, git
from flows.records import RECORDS, Run, held, lock, write_record
from flows.settings import Settings
from tasks import params
from tasks.config import Params
from tasks.errors import InputError
from tasks.workspace import Workspace

# Git needs an author; a snapshot belongs to nobody and to no branch.
_AUTHOR = ["-c", "user.name=modelmint", "-c", "user.email=modelmint@localhost"]
# Data is shared with the cache, not copied, wherever the file system can.
_CONFIG = '[cache]\n    dir = "{cache}"\n    type = "reflink,hardlink,symlink,copy"\n'


@contextmanager
def occupied(settings: Settings, expected: Params, flow_run_id: str = "") -> Iterator[Run]:
    """The run with the parameters `expected`; its workspace is not removed while the block lasts.

    A run in a worktree leaves a record. The block says in `state` and `detail` how it ended; after
    it the worktree of a run that was registered or refused is removed, unless another flow is in
    it: then that one removes it.

    Raises:
        InputError: there is no git repository to make a worktree of.
    """
    if holds(own := Workspace(settings.root), expected):
        yield Run("", own)
        return
    with one_at_a_time(settings.runs):
        workspace = _worktree(settings, expected)
        name = workspace.root.relative_to(settings.runs).parts[0]
        run = Run(name, workspace, folder=settings.runs / RECORDS / name)
        holding = lock(settings.runs, run.id)
        facts = {"flow_run_id": flow_run_id, "changed": changed(settings, workspace)}
        write_record(run, "running", **facts)
    with holding:
        try:
            yield run
        except Exception as error:
            run.state, run.detail = "failed", str(error)
            raise
        finally:
            write_record(run, run.state)
    if run.over:
        # What cannot be removed now stays listed; the run itself ended well.
        with suppress(InputError, OSError), one_at_a_time(settings.runs):
            if not held(settings.runs, run.id):
                remove(settings, run.id)


def usable(settings: Settings, expected: Params) -> Params:
    """The parameters as their run needs them: in a worktree, paths out of the project are absolute.

    Relative ones would lead somewhere else from there, to an older copy perhaps.
    """
    if holds(Workspace(settings.root), expected):
        return expected
    return _absolute(settings.root, expected)


def _absolute(root: Path, given: Params) -> Params:
    def place(path: str) -> str:
        inside = (root / path).resolve().is_relative_to(root.resolve())
        return path if inside else os.path.abspath(root / path)

    prepare = given.prepare
    source = prepare.source.model_copy(update={"path": place(prepare.source.path)})
    salt = prepare.salt_file and place(prepare.salt_file)
    prepare = prepare.model_copy(update={"source": source, "salt_file": salt})
    return given.model_copy(update={"prepare": prepare})


def remove(settings: Settings, run: str) -> None:
    """Remove a run's worktree; nobody may be in it. Killed halfway, it counts as not made."""
    folder = settings.runs / run
    _marker(settings.root, folder).unlink(missing_ok=True)
    # Twice --force: a worktree whose making was killed is registered, and locked.
    with suppress(InputError):  # git does not know it (any more)
        git(settings.root, "worktree", "remove", "--force", "--force", str(folder))
    if folder.exists():
        shutil.rmtree(folder)
    git(settings.root, "worktree", "prune")


def holds(workspace: Workspace, expected: Params) -> bool:
    """Whether the workspace's params.yaml says what `expected` says, defaults included."""
    try:
        return params.load(workspace.params) == expected
    except InputError:
        return False


def _worktree(settings: Settings, expected: Params) -> Workspace:
    """The worktree for the parameters `expected`, made if need be."""
    root = settings.root
    expected = _absolute(root, expected)
    resolved = expected.model_dump(mode="json")
    snapshot = _snapshot(root, expected.prepare.salt_file)
    listing = git(root, "ls-tree", "-r", snapshot)
    content = "\n".join(line for line in listing.splitlines() if "\tdvc.lock" not in line)
    identity = hashlib.sha256((content + json.dumps(resolved, sort_keys=True)).encode())
    name = expected.train.architecture.name
    folder = settings.runs / f"{name}-{identity.hexdigest()[:10]}"
    project, marker = project_in(root, folder), _marker(root, folder)
    if not marker.exists():
        if folder.exists():
            shutil.rmtree(folder)
        git(root, "worktree", "prune")
        # Twice --force: a worktree whose making was killed is registered, and locked.
        force = ["--force", "--force", "--detach"]
        git(root, "worktree", "add", "-q", *force, str(folder), snapshot)
        params.write(resolved, project / "params.yaml")
        marker.parent.mkdir(exist_ok=True)
        part = marker.with_suffix(".part")
        from flows.versioning import cache_folder  # importing DVC takes 0.4 s

        part.write_text(_CONFIG.format(cache=cache_folder(root)), encoding="utf-8")
        part.replace(marker)
    return Workspace(project)


def project_in(root: Path, folder: Path) -> Path:
    """The project in a worktree: a part of it, where the repository holds more than the project."""
    return folder / git(root, "rev-parse", "--show-prefix")


def changed(settings: Settings, workspace: Workspace) -> dict[str, Any]:
    """The parameters of a run that differ from the checkout's, by name; none if that has errors."""
    with suppress(InputError):
        own = _absolute(settings.root, params.load(settings.root / "params.yaml"))
        return params.differences(params.load(workspace.params), own)
    return {}


def _marker(root: Path, folder: Path) -> Path:
    """What is written last into a worktree: where it lies, the worktree is whole."""
    below = os.path.relpath(_dvc_folder(root), root)
    return Path(os.path.normpath(project_in(root, folder) / below / "config.local"))


def _snapshot(root: Path, secret: str | None) -> str:
    """A commit of the checkout as it stands; moves no branch or index.

    Without files that git ignores, and without `secret`, which it may not know to ignore.
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


def _dvc_folder(root: Path) -> Path:
    """The .dvc of the project, which one above may lend it."""
    found = next((p for p in (root, *root.parents) if (p / ".dvc").is_dir()), root)
    return found / ".dvc"


@contextmanager
def one_at_a_time(runs: Path) -> Iterator[None]:
    """One process at a time makes, takes or removes a worktree."""
    runs.mkdir(parents=True, exist_ok=True)
    with lock(runs, "", exclusive=True):
        yield
