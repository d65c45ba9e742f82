"""DVC: the only module that imports it or runs its command, so that it could be replaced.

`dvc repro` and `status` run stages; `add`, `commit` and `pull` keep raw data. The formats
of its files and the layout of its cache are read without it, in `tasks/recorded.py`.
"""

import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException, OutputNotFoundError
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.stage import PipelineStage

from tasks.errors import InputError

# It logs to standard output, which belongs to `--json`.
logging.getLogger("dvc").setLevel(logging.WARNING)
_BUSY = re.compile(r"is busy, it is being blocked|Unable to acquire lock")
_FAILED = re.compile(r"failed to run: .*, exited with (-?\d+)")
_RESTORED = re.compile(r"is cached - skipping run|skipping run, checking out outputs")
_ADVICE = re.compile(r"To track|\s+git add|To enable auto|\s+dvc config core|Use `dvc push|$")


class WorkspaceBusy(InputError):
    """Another process uses this workspace."""


def pipeline(root: Path) -> dict[str, tuple[str, ...]]:
    """The stages of `dvc.yaml` in an order that can be run, each with those it needs.

    Raises:
        InputError: `dvc.yaml` cannot be read.
    """
    with _repo(root) as repo:
        graph = repo.index.graph
        needs = {
            stage.name: tuple(up.name for up in graph.successors(stage) if _is_ours(up, root))
            for stage in repo.index.stages
            if _is_ours(stage, root)
        }
    return {name: needs[name] for name in TopologicalSorter(needs).static_order()}


def why_stale(root: Path, name: str) -> Any:
    """What DVC finds changed about a stage; empty when it is fresh. Raises `WorkspaceBusy`."""
    with _repo(root) as repo:
        # Not by a target: DVC reads an @ in the path of dvc.yaml as the key of a matrix.
        stage = next(s for s in repo.index.stages if _is_ours(s, root) and s.name == name)
        with repo.lock:
            return next(iter(stage.status().values()), [])


def repro_command(stage: str) -> list[str]:
    """The command that runs one stage if it is stale. `-P`: not a folder `dvc` of the project."""
    return [sys.executable, "-P", "-m", "dvc", "--wait-for-lock", "repro", "-s", stage]


def is_advice(line: str) -> bool:
    """Whether DVC printed a line after each stage that a person needs to read only once."""
    return bool(_ADVICE.match(line))


def refuse_busy(lines: Sequence[str]) -> None:
    """Raises `WorkspaceBusy` if the output of a failed `repro` says that another one is running."""
    if line := next((line for line in lines if _BUSY.search(line)), None):
        raise WorkspaceBusy(line)


def command_status(lines: Sequence[str], status: int) -> int:
    """Exit status of the stage's own command, from the output and exit status of `repro`."""
    found = next((match for line in lines if (match := _FAILED.search(line))), None)
    return int(found[1]) if found else status


def was_restored(lines: Sequence[str]) -> bool:
    """Whether `repro` took the outputs from its cache instead of running the command."""
    return any(_RESTORED.search(line) for line in lines)


def keep_raw_data(root: Path, path: Path) -> str:
    """Put raw data under DVC, or record its present content: "added", "recorded" or "current".

    Raises:
        InputError: DVC cannot do it.
    """
    with _repo(root) as repo:
        try:
            (out,) = repo.find_outs_by_path(str(path))
        except OutputNotFoundError:
            repo.add(str(path))
            return "added"
        # A .dvc file or, of an example, a stage.
        owner = str(out.stage.addressing)
        if not repo.status(targets=[owner]):
            return "current"
        repo.commit(owner, force=True)
        return "recorded"


def pull(root: Path, tracker: Path) -> str:
    """Bring data from the DVC cache or remote; the reason if it did not come, or nothing."""
    try:
        with _repo(root) as repo:
            repo.pull(targets=[str(tracker)])
    except WorkspaceBusy:
        raise
    except InputError as error:
        return str(error)
    return ""


def cache_folder(root: Path) -> str:
    """The folder of the cache: above both of its layouts and the run cache."""
    with _repo(root) as repo:
        return str(repo.cache.legacy.path)


def init(root: Path) -> None:
    """Make a git repository a DVC repository, with DVC's calls home switched off."""
    try:
        with Repo.init(str(root)) as repo, repo.config.edit("repo") as config:
            config["core"] = {"analytics": False, "check_update": False, "autostage": False}
    except DvcException as error:
        raise InputError(f"DVC: {error}") from error


def _is_ours(stage: Any, root: Path) -> bool:
    """Whether a DVC stage is one of this project's pipeline.

    A `.dvc` file, which only names data, has no command; another dvc.yaml is an example's or, in
    a bigger repository, another project's.
    """
    pipeline = isinstance(stage, PipelineStage)
    return pipeline and Path(stage.path).resolve() == (root / "dvc.yaml").resolve()


@contextmanager
def _repo(root: Path) -> Iterator[Any]:
    """The DVC repository at `root`. Raises `WorkspaceBusy`; `InputError` for any other error."""
    try:
        with Repo(str(root), _wait_for_lock=True) as repo:
            repo.scm_context.quiet = True  # no advice about git on standard output
            yield repo
    except LockError as error:
        raise WorkspaceBusy(str(error)) from error
    except DvcException as error:
        raise InputError(f"DVC: {error}") from error
