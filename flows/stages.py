"""Runs a DVC stage as a Prefect task.

DVC alone decides whether a stage is fresh. A stale one runs as `dvc repro` in its own process
group, so that it can be killed as a whole and frees its memory, the GPU's included.
"""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.states import Completed, Failed

from flows import versioning
from flows.progress import TrainingProgress
from flows.versioning import WorkspaceBusy, why_stale
from flows.warm import stage_environment
from tasks import fingerprint
from tasks.errors import InputError
from tasks.process import FLOW_PID, die_with_parent
from tasks.recorded import (
    misrecorded,
    refuse_damaged,
    refuse_misrecorded,
    remove_record,
)
from tasks.words import some
from tasks.workspace import Workspace

RAISED = re.compile(r"[\w.]+(Error|Exception|Interrupt): ")
STATUS_INPUT = 2  # of `python -m tasks`
WAIT_S = 1.0
GRACE_S = 2.0

_running: set["subprocess.Popen[str]"] = set()
_stopping = threading.Event()
_starting = threading.Lock()


class Stopped(RuntimeError):
    """The flow ended before this stage started."""


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


@contextlib.contextmanager
def stages_stop_with_this() -> Iterator[None]:
    """If the block raises, end every stage process and those that wait to start.

    Needed because a signal reaches only the main thread, and the tasks run in others.
    """
    _stopping.clear()
    try:
        yield
    except BaseException:
        with _starting:
            _stopping.set()
        for process in list(_running):
            end_process(process)
        raise


@task(
    name="stage",
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def run_stage(name: str, workspace: Workspace) -> State[StageResult]:
    """Run one stage if it is stale. Waits without a limit while another run uses the workspace."""
    log = get_run_logger()
    started = time.monotonic()

    def result(how: str, **failure: Any) -> StageResult:
        return StageResult(name, how, time.monotonic() - started, **failure)

    def failed(status: int, message: str) -> State[StageResult]:
        return Failed(message=message, data=result("Failed", status=status, message=message))

    progress = TrainingProgress(name)
    waiting = repaired = False
    while True:
        try:
            if not (why := why_stale(workspace.root, name)):
                if not repaired and (wrong := misrecorded(workspace, name)):
                    repaired = True
                    log.warning(
                        "%s read something else than DVC recorded: %s", name, some(wrong, 3)
                    )
                    remove_record(workspace, name)
                    continue
                if (fault := _damage(workspace, name)) and not why_stale(workspace.root, name):
                    return failed(STATUS_INPUT, fault)
                return Completed(name="Fresh", message="nothing changed", data=result("Fresh"))
            log.info("%s", _in_words(name, why))
            status, tail = _repro(workspace.root, name, log.info, progress)
            restored = not status and versioning.was_restored(tail)
            # The outputs of an earlier run in DVC's cache may be misrecorded as well.
            if restored and not repaired and misrecorded(workspace, name):
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
        return failed(status, _describe_signal(status) or _reason(tail))
    if fault := _damage(workspace, name):
        if misrecorded(workspace, name):
            remove_record(workspace, name)
        return failed(STATUS_INPUT, fault)
    how = "Restored" if restored else "Completed"
    return Completed(name=how, message=f"{name} {how.lower()}", data=result(how))


def _damage(workspace: Workspace, name: str) -> str:
    """Why the outputs of a stage do not match DVC's record; empty if they do."""
    try:
        refuse_misrecorded(workspace, name)
        refuse_damaged(workspace, name)
    except InputError as error:
        return str(error)
    return ""


def _repro(
    root: Path, name: str, log: Callable[..., None], progress: TrainingProgress
) -> tuple[int, list[str]]:
    """Run `dvc repro` for one stage. Returns the status of its command and its last 40 lines."""
    tail: list[str] = []
    with stage_process(root, versioning.repro_command(name)) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail = [*tail[-39:], line.rstrip()]
            if not versioning.is_advice(line.rstrip()):
                log("%s", line.rstrip())
            progress.read(line)
        status = process.wait()
    if status:
        versioning.refuse_busy(tail)
    return versioning.command_status(tail, status), tail


@contextlib.contextmanager
def stage_process(root: Path, command: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """The process of a stage; it is ended if the block or the flow raises.

    Raises:
        Stopped: the flow has ended.
    """
    with _starting:
        if _stopping.is_set():
            raise Stopped(" ".join(command))
        process = _start(root, command)
        _running.add(process)
    try:
        yield process
    except BaseException:
        end_process(process)
        raise
    finally:
        _running.discard(process)


def _start(root: Path, command: list[str]) -> "subprocess.Popen[str]":
    """Start a command in a new process group that dies with this process."""
    return subprocess.Popen(
        command,
        cwd=root,
        env={**stage_environment(), FLOW_PID: str(os.getpid())},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=partial(die_with_parent, os.getpid()),
    )


def end_process(process: "subprocess.Popen[str]") -> None:
    """End the whole process group: SIGTERM, then SIGKILL for processes that ignored it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(GRACE_S)


def _describe_signal(status: int) -> str | None:
    """The signal that ended a command, in words; None if it ended by itself."""
    # A shell between us and the command returns 128 + the signal's number.
    number = -status if status < 0 else status - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return None
    if number == signal.SIGKILL:
        return f"killed ({name}), probably out of memory"
    return f"stopped by {name}"


def _reason(tail: list[str]) -> str:
    """The most useful line: the step's error message, its exception, or DVC's error."""
    errors = [line.removeprefix("error: ") for line in tail if line.startswith("error: ")]
    raised = [line for line in tail if RAISED.match(line)]
    dvc = [line.removeprefix("ERROR: ") for line in tail if line.startswith("ERROR: ")]
    found = [*errors, *raised[-1:], *dvc, *tail[-1:]]
    return found[0] if found else "the stage printed nothing"


def _in_words(name: str, why: Any) -> str:
    """DVC's status entries, as `train is stale: changed deps: params.yaml`."""
    parts = []
    for entry in why:
        # Every stage depends on it; DVC calls it new where dvc.lock has no entry of the stage.
        if isinstance(entry, dict) and entry.get("changed deps", {}).get(fingerprint.FILE) == "new":
            return f"{name} has not run yet"
        if isinstance(entry, dict):
            parts += [f"{what}: {some(paths, 3)}" for what, paths in entry.items()]
        else:
            parts.append(str(entry))
    return f"{name} is stale: {'; '.join(parts)}"
