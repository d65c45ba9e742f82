"""Finds the processes of flow runs on this machine, and ties them to their runner.

The kernel is asked, not a file: a file would be out of date after a kill.
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from flows.heartbeat import send_heartbeats
from tasks.process import die_with_parent

RUNNER_PID = "MODELMINT_RUNNER_PID"
# Prefect sets it for the process of a flow run; DVC and the stages inherit it.
FLOW_RUN_ID = "PREFECT__FLOW_RUN_ID"


def be_watched(flow_run_id: str) -> None:
    """Let this process of a flow run be missed when it dies.

    If `modelmint serve` runs it, the kernel kills this process when the runner dies: without its
    runner nobody could cancel the run or report its end. If a worker runs it, it sends heartbeats.
    """
    # A command inside a flow run inherits these variables and may start a flow of its own.
    if os.environ.get(FLOW_RUN_ID) != flow_run_id:
        return
    if runner := os.environ.get(RUNNER_PID):
        die_with_parent(int(runner), signal.SIGKILL)
    else:
        send_heartbeats(flow_run_id)


def living_runs() -> set[str] | None:
    """Ids of the flow runs that have a process of this user; None on systems other than Linux.

    Child processes count: a run lives until its last stage process has ended.
    """
    if sys.platform != "linux":
        return None
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            found |= _flow_runs_of(entry)
    return found


def stop_run(flow_run_id: str) -> None:
    """Send SIGTERM to the process of a flow run of this user; its children end with it."""
    members = {p for p in Path("/proc").glob("[0-9]*") if flow_run_id in _flow_runs_of(p)}
    for process in members:
        with suppress(OSError):  # it has ended
            parent = Path("/proc", (process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent not in members:
                os.kill(int(process.name), signal.SIGTERM)


def _flow_runs_of(process: Path) -> set[str]:
    mark = f"{FLOW_RUN_ID}=".encode()
    try:
        variables = (process / "environ").read_bytes().split(b"\0")
    except OSError:  # it has ended or belongs to another user
        return set()
    return {v.removeprefix(mark).decode(errors="replace") for v in variables if v.startswith(mark)}
