"""The runs that had a worktree: which there are, what they hold of the disk, and their removal."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.records import RECORDS, held, read_record
from flows.runs import changed, one_at_a_time, project_in, remove
from flows.settings import Settings
from tasks.errors import InputError
from tasks.workspace import Workspace


@dataclass(frozen=True)
class RunSummary:
    """A run as `modelmint runs list` shows it.

    `state` is running, registered, refused, looked, failed or stopped; `detail` the version or the
    reason. `changed` are the parameters that differed from the checkout's when it began. `size`
    counts the bytes that its removal frees: what is linked to the DVC cache is not among them.
    `folder` is its worktree, or empty where that was removed.
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
    """Every run with a worktree or a record, the newest first."""
    if not settings.runs.is_dir():
        return []
    records = settings.runs / RECORDS
    names = {p.name for p in settings.runs.iterdir() if p.is_dir() and p != records}
    names |= {p.name for p in records.iterdir() if p.is_dir()} if records.is_dir() else set()
    found = [_summary(settings, name) for name in names]
    return sorted(found, key=lambda run: run.started, reverse=True)


def clean(settings: Settings, names: Sequence[str], dry_run: bool = False) -> list[RunSummary]:
    """Remove runs, worktree and record; without names all that no flow is using. Those removed.

    A training that was stopped or failed cannot be resumed afterwards; what was registered, and
    the DVC cache, stay as they are.

    Raises:
        InputError: there is no such run, or a flow is using it; then none is removed.
    """
    runs = {run.id: run for run in list_runs(settings)}
    if unknown := [name for name in names if name not in runs]:
        raise InputError(
            f"there is no run {', '.join(unknown)}; `modelmint runs list` shows which there are"
        )
    removed = []
    with one_at_a_time(settings.runs):
        chosen = [runs[name] for name in dict.fromkeys(names)] if names else list(runs.values())
        busy = {run.id for run in chosen if _in_use(settings, run.id)}
        if names and busy:
            raise InputError(
                f"{', '.join(sorted(busy))} is running; stop it first, or wait for its end"
            )
        for run in chosen:
            if run.id in busy:
                continue
            if not dry_run:
                remove(settings, run.id)
                shutil.rmtree(settings.runs / RECORDS / run.id, ignore_errors=True)
            removed.append(run)
    return removed


def _summary(settings: Settings, name: str) -> RunSummary:
    worktree, folder = settings.runs / name, settings.runs / RECORDS / name
    record = read_record(folder)
    state = record.get("state", "stopped")
    if _in_use(settings, name):
        state = "running"
    elif state == "running":  # it was killed before it could say how it ended
        state = "stopped"
    began = record.get("started")
    place = worktree if worktree.exists() else folder
    when = datetime.fromisoformat(began) if began else _modified(place)
    differing = record.get("changed")
    if differing is None:
        differing = changed(settings, Workspace(project_in(settings.root, worktree)))
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
    return (settings.runs / RECORDS / name).is_dir() and held(settings.runs, name)


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _size(folder: Path) -> int:
    """Bytes on disk of the files that have no other name, such as one in the DVC cache."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # the run goes on meanwhile
            stat = path.lstat()
            size += stat.st_blocks * 512 if stat.st_nlink == 1 else 0
    return size
