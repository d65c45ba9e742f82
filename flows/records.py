"""Records of the runs that had a worktree, and the locks of those that are in use.

`runs/records/ID/` has `run.json` and copies of params.yaml, dvc.lock, metrics and history. They
outlive the worktree, whose data and networks are in the DVC cache and, after registration, in the
registry. A flow locks its run while it lives.
"""

import fcntl
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from tasks.recorded import dvc_at_rest
from tasks.workspace import Workspace

FORMAT = 1
RECORDS = "records"
RECORD = "run.json"
OVER = ("registered", "refused", "looked")


@dataclass
class Run:
    """A run while its flow lives. `id` is empty for a run in the checkout itself.

    The flow sets `state` to registered, refused, looked or failed, and `detail` to the version or
    the reason.
    """

    id: str
    workspace: Workspace
    folder: Path | None = None
    """Folder of its record."""
    state: str = "stopped"
    detail: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing is left to resume."""
        return bool(self.id) and self.state in OVER


def write_record(run: Run, state: str, **facts: Any) -> None:
    """Update the record of a run with `facts`, atomically."""
    assert run.folder is not None
    run.folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    started = {"started": now} if state == "running" else {"ended": now}
    before = {} if state == "running" else read_record(run.folder)
    document = {
        **before,
        "format": FORMAT,
        "id": run.id,
        "state": state,
        "detail": run.detail,
        **started,
        **facts,
    }
    with dvc_at_rest(run.workspace.root):
        for path in _small_files(run.workspace):
            if path.is_file():
                shutil.copyfile(path, run.folder / path.name)
    part = run.folder / f"{RECORD}.part"
    part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    part.replace(run.folder / RECORD)


def read_record(folder: Path) -> Mapping[str, Any]:
    """The record in a folder; empty if it is missing or cannot be read."""
    try:
        document = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def lock_run(runs: Path, run: str, exclusive: bool = False) -> IO[str]:
    """Wait for the lock of a run, or of all runs if `run` is empty. Closing the file unlocks it.

    Not exclusive, because several flows with the same parameters share one run.
    """
    file = _lock_file(runs, run).open("w")
    fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
    return file


def is_locked(runs: Path, run: str) -> bool:
    """Whether a live flow uses this run."""
    with _lock_file(runs, run).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _lock_file(runs: Path, run: str) -> Path:
    path = runs / RECORDS / run / "lock" if run else runs / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _small_files(workspace: Workspace) -> tuple[Path, ...]:
    lock_file = workspace.root / "dvc.lock"
    return (workspace.params, lock_file, workspace.history, workspace.metrics)
