"""Gives a run its workspace: the user's checkout, or a git worktree made for its parameters.

A worktree has the files of the checkout, uncommitted changes included, and uses its DVC cache. Its
name is a hash of its content, so the same command finds the same folder again and resumes. It is
removed once its run is registered or refused; `flows/records.py` keeps the small files.
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
from flows.records import RECORDS, Run, is_locked, lock_run, write_record
from flows.settings import Settings
from tasks import params
from tasks.config import Params
from tasks.config.start import is_weights_file
from tasks.errors import InputError
from tasks.recorded import dvc_at_rest, dvc_folder
from tasks.workspace import Workspace

# Git needs an author for the snapshot commit, also where the user has set none.
_AUTHOR = ["-c", "user.name=modelmint", "-c", "user.email=modelmint@localhost"]
# Links to the cache, if the file system allows it, so that a worktree costs little disk space.
_CONFIG = '[cache]\n    dir = "{cache}"\n    type = "reflink,hardlink,symlink,copy"\n'


@contextmanager
def claim_run(settings: Settings, expected: Params, flow_run_id: str = "") -> Iterator[Run]:
    """The run with the parameters `expected`; its workspace is not removed inside the block.

    A run in a worktree leaves a record. The block sets `state` and `detail` to how it ended. Then
    the worktree of a registered or refused run is removed, by the last flow that uses it.

    Raises:
        InputError: there is no git repository to make a worktree of.
    """
    if has_params(checkout := Workspace(settings.root), expected):
        yield Run("", checkout)
        return
    with lock_worktrees(settings.runs):
        workspace = _worktree(settings, expected)
        name = workspace.root.relative_to(settings.runs).parts[0]
        run = Run(name, workspace, folder=settings.runs / RECORDS / name)
        lock = lock_run(settings.runs, run.id)
        facts = {"flow_run_id": flow_run_id, "changed": changed_params(settings, workspace)}
        write_record(run, "running", **facts)
    with lock:
        try:
            yield run
        except Exception as error:
            run.state, run.detail = "failed", str(error)
            raise
        finally:
            write_record(run, run.state)
    if run.over:
        # A failure is not an error of the run; `modelmint runs clean` can remove it later.
        with suppress(InputError, OSError), lock_worktrees(settings.runs):
            if not is_locked(settings.runs, run.id):
                remove_worktree(settings, run.id)


def resolve_paths(settings: Settings, expected: Params) -> Params:
    """The parameters for a run; in a worktree, paths that leave the project become absolute.

    A relative path would lead to another file from there.
    """
    if has_params(Workspace(settings.root), expected):
        return expected
    return _with_absolute_paths(settings.root, expected)


def _with_absolute_paths(root: Path, given: Params) -> Params:
    def resolve(path: str) -> str:
        inside = (root / path).resolve().is_relative_to(root.resolve())
        return path if inside else os.path.abspath(root / path)

    prepare = given.prepare
    source = prepare.source.model_copy(update={"path": resolve(prepare.source.path)})
    salt = prepare.salt_file and resolve(prepare.salt_file)
    prepare = prepare.model_copy(update={"source": source, "salt_file": salt})
    return given.model_copy(update={"prepare": prepare})


def remove_worktree(settings: Settings, run: str) -> None:
    """Remove the worktree of a run that no flow uses."""
    folder = settings.runs / run
    # The marker first: if we are killed below, the worktree counts as incomplete.
    _marker(settings.root, folder).unlink(missing_ok=True)
    # --force twice, because a worktree whose creation was killed stays locked.
    with suppress(InputError):  # git does not know it
        git(settings.root, "worktree", "remove", "--force", "--force", str(folder))
    if folder.exists():
        shutil.rmtree(folder)
    git(settings.root, "worktree", "prune")


def has_params(workspace: Workspace, expected: Params) -> bool:
    """Whether the workspace's params.yaml, with defaults filled in, equals `expected`."""
    try:
        return params.load(workspace.params) == expected
    except InputError:
        return False


def _worktree(settings: Settings, expected: Params) -> Workspace:
    """The worktree for the parameters `expected`, made if it does not exist."""
    root = settings.root
    expected = _with_absolute_paths(root, expected)
    resolved = expected.model_dump(mode="json")
    snapshot = snapshot_of(root, *kept_out(expected))
    listing = git(root, "ls-tree", "-r", snapshot)
    content = "\n".join(line for line in listing.splitlines() if "\tdvc.lock" not in line)
    identity = hashlib.sha256((content + json.dumps(resolved, sort_keys=True)).encode())
    name = expected.train.architecture.name
    folder = settings.runs / f"{name}-{identity.hexdigest()[:10]}"
    project, marker = project_in(root, folder), _marker(root, folder)
    if not marker.exists():
        if folder.exists():
            shutil.rmtree(folder)
        add_worktree(root, folder, snapshot, expected)
        marker.parent.mkdir(exist_ok=True)
        part = marker.with_suffix(".part")
        from flows.versioning import cache_folder  # importing DVC takes 0.4 s

        part.write_text(_CONFIG.format(cache=cache_folder(root)), encoding="utf-8")
        part.replace(marker)
    return Workspace(project)


def add_worktree(root: Path, folder: Path, snapshot: str, expected: Params) -> Workspace:
    """A new worktree with these parameters, of a commit that `snapshot_of` made."""
    git(root, "worktree", "prune")
    # --force twice, because a worktree whose creation was killed stays locked.
    force = ["--force", "--force", "--detach"]
    git(root, "worktree", "add", "-q", *force, str(folder), snapshot)
    project = project_in(root, folder)
    params.write(expected.model_dump(mode="json"), project / "params.yaml")
    return Workspace(project)


def project_in(root: Path, folder: Path) -> Path:
    """The project's folder in a worktree; a sub-folder if the repository is larger."""
    return folder / git(root, "rev-parse", "--show-prefix")


def changed_params(settings: Settings, workspace: Workspace) -> dict[str, Any]:
    """The parameters of a run that differ from the checkout's; none if those have errors."""
    with suppress(InputError):
        own = _with_absolute_paths(settings.root, params.load(settings.root / "params.yaml"))
        return params.differences(params.load(workspace.params), own)
    return {}


def _marker(root: Path, folder: Path) -> Path:
    """The file that is written last into a worktree: if it exists, the worktree is complete."""
    below = os.path.relpath(dvc_folder(root), root)
    return Path(os.path.normpath(project_in(root, folder) / below / "config.local"))


def kept_out(expected: Params) -> list[str]:
    """Files of a run that git must not store: its secret, and weights, which are large."""
    start = expected.train.init_from
    weights = start if start and is_weights_file(start) else None
    return [path for path in (expected.prepare.salt_file, weights) if path]


def snapshot_of(root: Path, *left_out: str) -> str:
    """Commit the checkout, uncommitted changes included, without moving a branch or the index.

    Leaves out ignored files and `left_out`, which the user may have forgotten to ignore.
    """
    inside = [p for p in left_out if (root / p).resolve().is_relative_to(root.resolve())]
    without = [f":(exclude){path}" for path in inside]
    with tempfile.TemporaryDirectory() as scratch:
        index = {"GIT_INDEX_FILE": f"{scratch}/index"}
        parents: list[str] = []
        if head := code_of(root).commit:
            git(root, "read-tree", head, env=index)
            parents = ["-p", head]
        with dvc_at_rest(root):
            git(root, "add", "-A", "--", ".", *without, env=index)
        tree = git(root, "write-tree", env=index)
        if head and git(root, "rev-parse", f"{head}^{{tree}}") == tree:
            return head
        return git(root, *_AUTHOR, "commit-tree", tree, *parents, "-m", "modelmint: a run")


@contextmanager
def lock_worktrees(runs: Path) -> Iterator[None]:
    """Only one process at a time makes, claims or removes worktrees."""
    runs.mkdir(parents=True, exist_ok=True)
    with lock_run(runs, "", exclusive=True):
        yield
