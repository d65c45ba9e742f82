"""Which processes run the flow runs of this machine; asked of the kernel, so never out of date."""

import os
import signal
import sys
from pathlib import Path

from tasks.process import die_with_parent

RUNNER_PID = "MODELMINT_RUNNER_PID"
# Prefect gives it to the process of a flow run; dvc and the stages below inherit it.
FLOW_RUN_ID = "PREFECT__FLOW_RUN_ID"


def end_with_runner(flow_run_id: str) -> None:
    """For the process of a served flow run: die at once with the runner that started it.

    Nobody would see to it any more: neither to its cancellation nor to its end.
    """
    runner = os.environ.get(RUNNER_PID)
    # A command below a flow run inherits its variables, and may run a flow of its own.
    if runner and os.environ.get(FLOW_RUN_ID) == flow_run_id:
        die_with_parent(int(runner), signal.SIGKILL)


def living_runs() -> set[str] | None:
    """The ids of the flow runs that a process of this user runs, on Linux; elsewhere None.

    A run lives as long as any process below it, so that a stage that is slow to die counts.
    """
    if sys.platform != "linux":
        return None
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            found |= _named_in(entry)
    return found


def _named_in(process: Path) -> set[str]:
    mark = f"{FLOW_RUN_ID}=".encode()
    try:
        variables = (process / "environ").read_bytes().split(b"\0")
    except OSError:  # it ended meanwhile, or is somebody else's
        return set()
    return {v.removeprefix(mark).decode(errors="replace") for v in variables if v.startswith(mark)}
