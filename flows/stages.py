"""A DVC stage as a Prefect task: fresh or stale, run, stream, kill, wait.

DVC alone decides what is fresh. A stale stage runs as `dvc repro` in a process group of its own,
so that it can be killed as one, and gives its memory and the GPU's back.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.stage import PipelineStage
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.states import Completed, Failed

from flows.progress import TrainingProgress
from tasks.errors import InputError
from tasks.process import FLOW_PID, die_with_parent
from tasks.recorded import forget, misrecorded, refuse_damaged, refuse_misrecorded, some
from tasks.workspace import Workspace

BUSY = re.compile(r"is busy, it is being blocked|Unable to acquire lock")
FAILED_COMMAND = re.compile(r"failed to run: .*, exited with (-?\d+)")
RESTORED = re.compile(r"is cached - skipping run|skipping run, checking out outputs")
# What DVC advises after each stage; a person reads it once, not in every log.
ADVICE = re.compile(r"To track|\s+git add|To enable auto|\s+dvc config core|Use `dvc push|$")
RAISED = re.compile(r"[\w.]+(Error|Exception|Interrupt): ")
STATUS_INPUT = 2
WAIT_S = 1.0
GRACE_S = 2.0

_running: set["subprocess.Popen[str]"] = set()
_stopping = threading.Event()
_starting = threading.Lock()


class Stopped(RuntimeError):
    """The flow ends before this stage began."""


class WorkspaceBusy(RuntimeError):
    """Another process holds the paths of this stage."""


@dataclass(frozen=True)
class StageResult:
    """How a stage ended: `how` is Fresh, Restored, Completed or Failed.

    `status` is the exit status of its command.
    """

    name: str
    how: str
    seconds: float
    status: int = 0
    message: str = ""


def pipeline(root: Path) -> dict[str, tuple[str, ...]]:
    """The stages of `dvc.yaml` in an order that can be run, each with those it needs.

    Raises:
        InputError: `dvc.yaml` cannot be read.
    """
    with _repo(root) as repo:
        graph = repo.index.graph
        needs = {
            stage.name: tuple(up.name for up in graph.successors(stage) if _runs(up, root))
            for stage in repo.index.stages
            if _runs(stage, root)
        }
    return {name: needs[name] for name in TopologicalSorter(needs).static_order()}


def why_stale(root: Path, name: str) -> Any:
    """What DVC finds changed about a stage; empty when it is fresh.

    Raises:
        WorkspaceBusy: another process holds the workspace.
    """
    try:
        with _repo(root) as repo:
            # By its file: DVC would look for a bare name in the current folder's dvc.yaml.
            found = repo.status(targets=[f"{root / 'dvc.yaml'}:{name}"])
            return next(iter(found.values()), [])
    except LockError as error:
        raise WorkspaceBusy(str(error)) from error


@contextlib.contextmanager
def stages_stop_with_this() -> Iterator[None]:
    """Whatever ends the block early ends every stage process, and those that wait to start.

    A signal reaches only the main thread; the tasks are in others.
    """
    _stopping.clear()
    try:
        yield
    except BaseException:
        with _starting:
            _stopping.set()
        for process in list(_running):
            _kill(process)
        raise


@task(
    name="stage",
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def run_stage(name: str, workspace: Workspace) -> State[StageResult]:
    """Make one stage current. Waits, for as long as it takes, for a workspace that is busy."""
    log = get_run_logger()
    started = time.monotonic()

    def result(how: str, **failure: Any) -> StageResult:
        return StageResult(name, how, time.monotonic() - started, **failure)

    def failed(status: int, message: str) -> State[StageResult]:
        return Failed(message=message, data=result("Failed", status=status, message=message))

    progress = TrainingProgress(name)
    waiting = mended = False
    while True:
        try:
            if not (why := why_stale(workspace.root, name)):
                if not mended and (wrong := misrecorded(workspace, name)):
                    mended = True
                    log.warning("%s did not read what DVC has recorded: %s", name, some(wrong))
                    forget(workspace, name)
                    continue
                if (fault := _damage(workspace, name)) and not why_stale(workspace.root, name):
                    return failed(STATUS_INPUT, fault)
                return Completed(name="Fresh", message="nothing changed", data=result("Fresh"))
            log.info("%s is stale: %s", name, _in_words(why))
            status, tail = _repro(workspace.root, name, log.info, progress)
            restored = not status and any(RESTORED.search(line) for line in tail)
            # What DVC kept of an earlier run may be misrecorded as well.
            if restored and not mended and misrecorded(workspace, name):
                continue
            break
        except WorkspaceBusy as busy:
            if not waiting:
                log.warning("%s waits: another run is using this workspace (%s)", name, busy)
            waiting = True
            if _stopping.wait(WAIT_S):
                raise Stopped(name) from busy
    progress.finish()
    if status:
        return failed(status, _killed(status) or _reason(tail))
    if fault := _damage(workspace, name):
        if misrecorded(workspace, name):
            forget(workspace, name)
        return failed(STATUS_INPUT, fault)
    how = "Restored" if restored else "Completed"
    return Completed(name=how, message=f"{name} {how.lower()}", data=result(how))


def _damage(workspace: Workspace, name: str) -> str:
    """Why what a stage left is not what DVC has recorded; empty where it is."""
    try:
        refuse_misrecorded(workspace, name)
        refuse_damaged(workspace, name)
    except InputError as error:
        return str(error)
    return ""


def _repro(
    root: Path, name: str, log: Callable[..., None], progress: TrainingProgress
) -> tuple[int, list[str]]:
    """Run `dvc repro` for one stage: the exit status of its command, and its last lines."""
    with _starting:
        if _stopping.is_set():
            raise Stopped(name)
        process = _start(root, name)
        _running.add(process)
    tail: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            tail = [*tail[-39:], line.rstrip()]
            if not ADVICE.match(line.rstrip()):
                log("%s", line.rstrip())
            progress.read(line)
        status = process.wait()
    except BaseException:
        _kill(process)
        raise
    finally:
        _running.discard(process)
    if status and any(BUSY.search(line) for line in tail):
        raise WorkspaceBusy(next(line for line in tail if BUSY.search(line)))
    command = next((m for line in tail if (m := FAILED_COMMAND.search(line))), None)
    return (int(command[1]) if command else status), tail


def _start(root: Path, name: str) -> "subprocess.Popen[str]":
    """`dvc repro` for one stage, at the head of a process group that dies with this process."""
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "-s", name],
        cwd=root,
        env={
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            FLOW_PID: str(os.getpid()),
            # The command of a stage is `python -m tasks`: this python, activated or not.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=partial(die_with_parent, os.getpid()),
    )


def _kill(process: "subprocess.Popen[str]") -> None:
    """End the whole group, gently first; one of its members may be deafer than its leader."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(GRACE_S)


def _killed(status: int) -> str | None:
    """In words, the signal that ended a command; None where it ended by itself."""
    # A shell between us and the command says 128 + the signal.
    number = -status if status < 0 else status - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return None
    if number == signal.SIGKILL:
        return f"killed ({name}), probably out of memory"
    return f"stopped by {name}"


def _reason(tail: list[str]) -> str:
    """The line for a person: what the step said was wrong, what it raised, or what DVC said."""
    said = [line.removeprefix("error: ") for line in tail if line.startswith("error: ")]
    raised = [line for line in tail if RAISED.match(line)]
    dvc = [line.removeprefix("ERROR: ") for line in tail if line.startswith("ERROR: ")]
    found = [*said, *raised[-1:], *dvc, *tail[-1:]]
    return found[0] if found else "the stage ended without a word"


def _in_words(why: Any) -> str:
    """DVC's status entries, as `changed deps: params.yaml`."""
    parts = []
    for entry in why:
        if isinstance(entry, dict):
            parts += [f"{what}: {_some(list(paths))}" for what, paths in entry.items()]
        else:
            parts.append(str(entry))
    return "; ".join(parts)


def _some(paths: list[str], shown: int = 3) -> str:
    more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
    return ", ".join(paths[:shown]) + more


def _runs(stage: Any, root: Path) -> bool:
    """Whether a DVC stage is one of this project's pipeline.

    A `.dvc` file, which only names data, has no command; another dvc.yaml is an example's or, in
    a bigger repository, another project's.
    """
    pipeline = isinstance(stage, PipelineStage)
    return pipeline and Path(stage.path).resolve() == (root / "dvc.yaml").resolve()


@contextlib.contextmanager
def _repo(root: Path) -> Iterator[Any]:
    """The DVC repository at `root`. Raises `InputError` for what its files say wrongly."""
    try:
        with Repo(str(root), _wait_for_lock=True) as repo:
            yield repo
    except LockError:
        raise
    except DvcException as error:
        raise InputError(f"DVC: {error}") from error
