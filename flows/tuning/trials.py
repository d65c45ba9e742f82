"""One training in a worktree of its own, as a process of its own.

The worktree has the code of the checkout, the trial's params.yaml, and links to the prepared data,
but neither the test split nor the raw data: a trial cannot read what it is not chosen by.
"""

import csv
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from flows.progress import EPOCH
from flows.records import RECORDS, is_locked, lock_run
from flows.runs import add_worktree, lock_worktrees, remove_worktree
from flows.settings import Settings
from flows.stages import end_process, stage_process
from tasks.config import Params
from tasks.dataset import SPLITS
from tasks.errors import InputError
from tasks.workspace import Workspace

HIDDEN = f"{SPLITS[2]}.arrow"
"""The test split: no trial has it."""
COMMAND = [sys.executable, "-P", "-m", "tasks", "train"]

Watch = Callable[[int, float], bool]
"""Gets the epoch and its validation loss; returns whether to stop the training."""


class TrialFailed(Exception):
    """A training that ended without a result; says why."""


@dataclass(frozen=True)
class Material:
    """What all trials of a command share."""

    settings: Settings
    snapshot: str
    """The commit with the checkout's files."""
    prepared: Path
    """The prepared dataset without its test split."""
    base: Path
    """Weights to start from; empty without `train.init_from`."""
    prefix: str
    """The beginning of the names of the worktrees."""


@dataclass(frozen=True)
class Trained:
    """What a training reached on the validation split."""

    loss: float
    """The lowest validation loss; its epoch is the one whose weights were kept."""
    metric: float
    """The validation metric of that epoch."""
    epochs: int


@contextmanager
def shared_material(
    settings: Settings, snapshot: str, workspace: Workspace, prefix: str
) -> Iterator[Material]:
    """Links to the prepared data of `workspace`, so that other commands may change it meanwhile.

    Worktrees that killed commands have left are removed.
    """
    folder = settings.runs / f"{prefix}-data-{os.getpid()}"
    with _in_use(settings, folder.name):
        _remove_left(settings, prefix)
        try:
            prepared, base = folder / "prepared", folder / "base"
            _link(workspace.prepared, prepared, without=HIDDEN)
            _link(workspace.base, base)
            yield Material(settings, snapshot, prepared, base, prefix)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def run_trial(material: Material, name: str, params: Params, watch: Watch) -> Trained | None:
    """Train with `params`; None if `watch` stopped it. Its worktree is removed in any case.

    Raises:
        TrialFailed: the training failed; the message is its reason.
        Stopped: the flow has ended.
    """
    with _worktree(material, name, params) as workspace:
        tail: list[str] = []
        with stage_process(workspace.root, COMMAND) as process:
            assert process.stdout is not None
            for line in process.stdout:
                tail = [*tail[-19:], line.rstrip()]
                match = EPOCH.match(line)
                if match is None or match[3]:
                    continue
                loss = float(match[5].partition("validation loss ")[2].partition(",")[0])
                if watch(int(match[1]), loss):
                    end_process(process)
                    return None
            status = process.wait()
        if status:
            raise TrialFailed(_reason(tail, status))
        return _result(workspace.history)


@contextmanager
def _worktree(material: Material, name: str, params: Params) -> Iterator[Workspace]:
    settings = material.settings
    folder = settings.runs / f"{material.prefix}-{name}"
    with _in_use(settings, folder.name):
        try:
            with lock_worktrees(settings.runs):
                workspace = add_worktree(settings.root, folder, material.snapshot, params)
            _link(material.prepared, workspace.prepared)
            _link(material.base, workspace.base)
            yield workspace
        finally:
            with suppress(InputError, OSError), lock_worktrees(settings.runs):
                remove_worktree(settings, folder.name)


@contextmanager
def _in_use(settings: Settings, run: str) -> Iterator[None]:
    """Inside the block, `modelmint runs` shows a run as running and does not remove it."""
    with lock_run(settings.runs, run):
        try:
            yield
        finally:
            shutil.rmtree(settings.runs / RECORDS / run, ignore_errors=True)


def _remove_left(settings: Settings, prefix: str) -> None:
    with lock_worktrees(settings.runs):
        for folder in settings.runs.glob(f"{prefix}-*"):
            if not is_locked(settings.runs, folder.name):
                remove_worktree(settings, folder.name)
                shutil.rmtree(settings.runs / RECORDS / folder.name, ignore_errors=True)


def _link(source: Path, target: Path, without: str = "") -> None:
    """Make `target` a folder of hard links to the files of `source`; copies, where there are none.

    DVC replaces the files of its outputs, it does not write into them.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in sorted(source.iterdir() if source.is_dir() else ()):
        if path.name == without:
            continue
        try:
            os.link(path.resolve(), target / path.name)
        except OSError:  # another file system
            shutil.copyfile(path, target / path.name)


def _result(history: Path) -> Trained:
    with history.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = Trained(math.inf, math.nan, len(rows))
    for row in rows:
        if (loss := float(row["validation_loss"])) < found.loss:
            found = replace(found, loss=loss, metric=float(row["validation_metric"]))
    return found


def _reason(tail: list[str], status: int) -> str:
    errors = [line.removeprefix("error: ") for line in tail if line.startswith("error: ")]
    return (errors or tail[-1:] or [f"its process ended with status {status}"])[0]
