"""Lists the runs that had a worktree, with the disk space they use, and removes them."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.records import RECORDS, is_locked, read_record
from flows.runs import changed_params, lock_worktrees, project_in, remove_worktree
from flows.settings import Settings
from tasks.errors import InputError
from tasks.workspace import Workspace


@dataclass(frozen=True)
class RunSummary:
    """A run as `modelmint runs list` shows it.

    `state` is running, registered, refused, looked, failed or stopped; `detail` is the version or
    the reason. `changed` has the parameters that differed from the checkout's when the run started.
    `size` counts the bytes that removing it frees, so without files linked to the DVC cache.
    `folder` is its worktree, or empty if that was removed.
    """

    id: str
    state: str
    detail: str
    changed: dict[str, Any]
    started: datetime
    size: int
    flow_run_id: str
    folder: str


def list_runs(settings: Settings) -> list[RunSummary]:
    """Every run with a worktree or a record, newest first."""
    if not settings.runs.is_dir():
        return []
    records = settings.runs / RECORDS
    names = {p.name for p in settings.runs.iterdir() if p.is_dir() and p != records}
    names |= {p.name for p in records.iterdir() if p.is_dir()} if records.is_dir() else set()
    found = [_summary(settings, name) for name in names]
    return sorted(found, key=lambda run: run.started, reverse=True)


def clean_runs(
    settings: Settings,
    names: Sequence[str],
    dry_run: bool = False,
    before: datetime | None = None,
) -> list[RunSummary]:
    """Remove the worktree and record of runs, by default of all that no flow is using.

    `before`: only of runs that started before that time.

    Returns the removed runs. A stopped or failed training cannot be resumed afterwards. Registered
    versions and the DVC cache stay.

    Raises:
        InputError: a run does not exist or is in use; none is removed.
    """
    runs = {run.id: run for run in list_runs(settings)}
    if unknown := [name for name in names if name not in runs]:
        raise InputError(
            f"there is no run {', '.join(unknown)}; `modelmint runs list` shows the existing ones"
        )
    removed = []
    with lock_worktrees(settings.runs):
        chosen = [runs[name] for name in dict.fromkeys(names)] if names else list(runs.values())
        busy = {run.id for run in chosen if _in_use(settings, run.id)}
        if names and busy:
            raise InputError(
                f"{', '.join(sorted(busy))} is running; stop it first, or wait until it ends"
            )
        for run in chosen:
            if run.id in busy or (before is not None and run.started >= before):
                continue
            if not dry_run:
                remove_worktree(settings, run.id)
                shutil.rmtree(settings.runs / RECORDS / run.id, ignore_errors=True)
            removed.append(run)
    return removed


def _summary(settings: Settings, name: str) -> RunSummary:
    worktree, folder = settings.runs / name, settings.runs / RECORDS / name
    record = read_record(folder)
    state = record.get("state", "stopped")
    if _in_use(settings, name):
        state = "running"
    elif state == "running":  # killed before it could record its end
        state = "stopped"
    began = record.get("started")
    existing = worktree if worktree.exists() else folder
    when = datetime.fromisoformat(began) if began else _modified(existing)
    differing = record.get("changed")
    if differing is None:
        differing = changed_params(settings, Workspace(project_in(settings.root, worktree)))
    return RunSummary(
        id=name,
        state=state,
        detail=record.get("detail", ""),
        changed=differing,
        started=when,
        size=_size(worktree) + _size(folder),
        flow_run_id=record.get("flow_run_id", ""),
        folder=str(worktree) if worktree.exists() else "",
    )


def _in_use(settings: Settings, name: str) -> bool:
    return (settings.runs / RECORDS / name).is_dir() and is_locked(settings.runs, name)


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _size(folder: Path) -> int:
    """Bytes on disk of the files without a second hard link, such as one in the DVC cache."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # the run may be deleting files
            stat = path.lstat()
            size += stat.st_blocks * 512 if stat.st_nlink == 1 else 0
    return size
