"""The only module that imports DVC, so that it could be replaced; `repro.py` runs its command.

`dvc repro` and `status` run stages; `add`, `commit` and `pull` version raw data.
`tasks/recorded.py` reads DVC's files and cache without it.
"""

import logging
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException, OutputNotFoundError
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc.stage import PipelineStage

from tasks.errors import InputError
from tasks.recorded import dvc_at_rest

# DVC logs to standard output, where only the document of `--json` may appear.
logging.getLogger("dvc").setLevel(logging.WARNING)
_BUSY = re.compile(r"is busy, it is being blocked|Unable to acquire lock")
_FAILED = re.compile(r"failed to run: .*, exited with (-?\d+)")
_RESTORED = re.compile(r"is cached - skipping run|skipping run, checking out outputs")
_ADVICE = re.compile(r"To track|\s+git add|To enable auto|\s+dvc config core|Use `dvc push|$")


# The schemas of DVC (voluptuous 0.16) are compiled anew for each file, and keep their state in
# objects that all threads share: of 160 calls in four threads, two called a valid dvc.yaml invalid.
_one_thread = threading.RLock()


class WorkspaceBusy(InputError):
    """Another process uses this workspace."""


def pipeline(root: Path) -> dict[str, tuple[str, ...]]:
    """The stages of `dvc.yaml` in topological order, each with the stages that it needs.

    Raises:
        InputError: `dvc.yaml` cannot be read.
    """
    with _locked_repo(root) as repo:
        graph = repo.index.graph
        needs = {
            stage.name: tuple(up.name for up in graph.successors(stage) if _is_ours(up, root))
            for stage in repo.index.stages
            if _is_ours(stage, root)
        }
    return {name: needs[name] for name in TopologicalSorter(needs).static_order()}


def why_stale(root: Path, name: str) -> Any:
    """What DVC finds changed about a stage; empty if it is fresh.

    Raises:
        WorkspaceBusy: another DVC command had the lock for 3 s. It may take an hour, and a thread
            that waits in DVC for so long cannot be stopped.
    """
    with _repo(root, wait=False) as repo, lock_repo(repo):
        # Not by target, because DVC takes an @ in the path of dvc.yaml for the key of a matrix.
        stage = next(s for s in repo.index.stages if _is_ours(s, root) and s.name == name)
        return next(iter(stage.status().values()), [])


def stale_stages(root: Path) -> list[str]:
    """The stages that DVC finds changed.

    `why_stale` for each stage would open the repository each time, for 0.2 s.
    """
    with _locked_repo(root) as repo:
        ours = (stage for stage in repo.index.stages if _is_ours(stage, root))
        return [stage.name for stage in ours if any(stage.status().values())]


def repro_command(stage: str) -> list[str]:
    """The command that runs one stage if it is stale."""
    return [sys.executable, "-P", "-m", "flows.repro", stage]


def is_advice(line: str) -> bool:
    """Whether a line of output is one of the hints that DVC repeats after each stage."""
    return bool(_ADVICE.match(line))


def refuse_busy(lines: Sequence[str]) -> None:
    """Raises `WorkspaceBusy` if `repro` failed because another DVC command is running."""
    if line := next((line for line in lines if _BUSY.search(line)), None):
        raise WorkspaceBusy(line)


def command_status(lines: Sequence[str], status: int) -> int:
    """Exit status of the stage's command, from the output and exit status of `repro`."""
    found = next((match for line in lines if (match := _FAILED.search(line))), None)
    return int(found[1]) if found else status


def was_restored(lines: Sequence[str]) -> bool:
    """Whether `repro` took the outputs from its cache instead of running the command."""
    return any(_RESTORED.search(line) for line in lines)


def track_raw_data(root: Path, path: Path) -> str:
    """Put raw data under DVC or record its changes. Returns "added", "recorded" or "current".

    Raises:
        InputError: DVC failed.
    """
    with _locked_repo(root) as repo:
        try:
            (out,) = repo.find_outs_by_path(str(path))
        except OutputNotFoundError:
            repo.add(str(path))
            return "added"
        # A .dvc file, or the stage that writes the data of an example.
        owner = str(out.stage.addressing)
        if not repo.status(targets=[owner]):
            return "current"
        repo.commit(owner, force=True)
        return "recorded"


def data_hash(root: Path, path: Path) -> str:
    """DVC's hash of raw data as it is now, as `dvc.lock` has it; of a folder, it ends in `.dir`.

    DVC remembers the hashes of files that were not written since.

    Raises:
        InputError: the data is missing, or DVC does not track it.
    """
    with _locked_repo(root) as repo:
        try:
            (out,) = repo.find_outs_by_path(str(path))
        except OutputNotFoundError as error:
            raise InputError(f"{path} is not under DVC; `modelmint train` puts it there") from error
        if not path.exists():
            raise InputError(f"{path} is missing; `dvc pull` or `modelmint train` fetches it")
        return str(out.get_hash().value)


def pull_data(root: Path, tracker: Path) -> str:
    """Fetch data from the DVC cache or remote. Returns the reason for a failure, or nothing."""
    try:
        with _repo(root) as repo:
            repo.pull(targets=[str(tracker)])
    except WorkspaceBusy:
        raise
    except InputError as error:
        return str(error)
    return ""


def cache_folder(root: Path) -> str:
    """The root folder of the cache, above both of its layouts and the run cache."""
    with _repo(root) as repo:
        return str(repo.cache.legacy.path)


def default_remote(root: Path) -> str | None:
    """The URL or folder of DVC's default remote; None if none is set."""
    with _repo(root) as repo:
        name = repo.config["core"].get("remote")
        url = repo.config["remote"].get(name, {}).get("url") if name else None
        return None if url is None else str(url)


def reach_remote(root: Path) -> str:
    """Ask DVC's default remote whether it is there. Returns why it cannot be used, or nothing.

    A bucket must exist; the folder in it may be missing, because the first `dvc push` makes it.
    """
    with _repo(root) as repo:
        try:
            remote = repo.cloud.get_remote()
            top = remote.path.partition("/")[0] or "/"
            return "" if remote.fs.exists(top) else f"there is no {top}"
        except Exception as error:  # each kind of remote has errors of its own
            return str(error)


def init_repository(root: Path) -> None:
    """Make a git repository a DVC repository, with DVC's telemetry switched off."""
    try:
        with Repo.init(str(root)) as repo, repo.config.edit("repo") as config:
            config["core"] = {"analytics": False, "check_update": False, "autostage": False}
    except DvcException as error:
        raise InputError(f"DVC: {error}") from error


def _is_ours(stage: Any, root: Path) -> bool:
    """Whether a DVC stage belongs to this project's dvc.yaml.

    A `.dvc` file has no command. Another dvc.yaml belongs to an example or, in a larger repository,
    to another project.
    """
    pipeline = isinstance(stage, PipelineStage)
    return pipeline and Path(stage.path).resolve() == (root / "dvc.yaml").resolve()


@contextmanager
def _locked_repo(root: Path) -> Iterator[Any]:
    """The DVC repository, for reading its stages: another DVC command writes them in place.

    DVC itself reads them inside of its lock only. Waits without a limit.
    """
    with dvc_at_rest(root):  # which says that it waits; DVC does so on a terminal alone
        pass
    with _repo(root) as repo, lock_repo(repo):
        yield repo


@contextmanager
def _repo(root: Path, wait: bool = True) -> Iterator[Any]:
    """The DVC repository at `root`, for one thread at a time.

    Raises `WorkspaceBusy`; `InputError` for any other error.
    """
    try:
        with _one_thread, Repo(str(root), _wait_for_lock=wait) as repo:
            repo.scm_context.quiet = True  # no advice about git on standard output
            yield repo
    except LockError as error:
        raise WorkspaceBusy(str(error)) from error
    except DvcException as error:
        raise InputError(f"DVC: {error}") from error
