"""What is kept of a run that had a worktree: who is in it, how it ended, and its small files.

`runs/records/ID/` holds `run.json` and copies of params.yaml, dvc.lock, metrics and history. They
outlive the worktree, whose data and networks are in the DVC cache and, if all went well, in the
registry. A lock that a flow holds while it lives says whether a worktree is in use.
"""

import fcntl
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from tasks.workspace import Workspace

FORMAT = 1
RECORDS = "records"
RECORD = "run.json"
OVER = ("registered", "refused", "looked")


@dataclass
class Run:
    """A run while its flow lives. `id` is empty for a run in the checkout itself.

    The flow sets `state` to registered, refused or failed, and `detail` to the version or reason.
    """

    id: str
    workspace: Workspace
    folder: Path | None = None
    """Where its record lies."""
    state: str = "stopped"
    detail: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing is left to resume."""
        return bool(self.id) and self.state in OVER


def write_record(run: Run, state: str, **facts: Any) -> None:
    """Add to the record of a run; `facts` replace those of before. Appears whole or not at all."""
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
    for path in _small(run.workspace):
        if path.is_file():
            shutil.copyfile(path, run.folder / path.name)
    part = run.folder / f"{RECORD}.part"
    part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    part.replace(run.folder / RECORD)


def read_record(folder: Path) -> Mapping[str, Any]:
    """The record in a folder; empty where there is none that can be read."""
    try:
        document = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def lock(runs: Path, run: str, exclusive: bool = False) -> IO[str]:
    """Wait for the lock of a run, or that of all of them for an empty name; closing frees it.

    A flow shares its run's lock with others of the same parameters.
    """
    file = _lock_file(runs, run).open("w")
    fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
    return file


def held(runs: Path, run: str) -> bool:
    """Whether a flow that lives holds the lock of this run."""
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


def _small(workspace: Workspace) -> tuple[Path, ...]:
    lock_file = workspace.root / "dvc.lock"
    return (workspace.params, lock_file, workspace.history, workspace.metrics)
