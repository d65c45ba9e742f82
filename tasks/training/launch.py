"""Starts the further processes of a training on one machine, and watches them."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tasks.config import Train
from tasks.errors import ProcessLost
from tasks.process import die_with_parent

# Where the processes of one machine meet; torchrun has a server for it (`env://`).
MEETING = "MODELMINT_TRAINING"
GRACE_S = 5.0
# Exit statuses of `python -m tasks`.
STATUS_LOST, STATUS_INPUT = 1, 2


@contextmanager
def started(size: int, meeting: str, params: Train, paths: Mapping[str, Path]) -> Iterator[None]:
    """The further processes of this machine, until the block and they have ended."""
    given = {name: str(path) for name, path in paths.items()}
    command = [sys.executable, "-P", "-m", "tasks.training", params.model_dump_json()]
    # Nobody else needs to reach them.
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    whose = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), MEETING: meeting}
    further = [
        subprocess.Popen(
            [*command, json.dumps(given)],
            env={**os.environ, **whose, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),
        )
        for rank in range(1, size)
    ]
    stopping = threading.Event()
    for rank, process in enumerate(further, 1):
        watch = threading.Thread(
            target=_watch, args=(rank, process, further, stopping), daemon=True
        )
        watch.start()
    try:
        yield
        for process in further:
            process.wait()
    except ProcessLost:
        stopping.wait(GRACE_S)  # `_watch` knows which process it was, and ends this one
        raise
    finally:
        stopping.set()
        _end(further)


def _watch(
    rank: int,
    process: "subprocess.Popen[bytes]",
    further: list["subprocess.Popen[bytes]"],
    stopping: threading.Event,
) -> None:
    """Wait for a process. If it fails, end this one: it may wait for the other in a library."""
    status = process.wait()
    if not status or stopping.is_set():
        return
    if status == STATUS_INPUT and stopping.wait(GRACE_S):
        return  # wrong input for all processes: this one has said so
    _end(further)
    how = f"ended with status {status}"
    if status < 0:
        how = f"was ended by {signal.Signals(-status).name}"
        how += ", probably out of memory" if status == -signal.SIGKILL else ""
    error = ProcessLost(f"process {rank} (of 0 to {len(further)}) {how}")
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(STATUS_LOST)


def _end(further: list["subprocess.Popen[bytes]"]) -> None:
    for process in further:
        process.kill()
    for process in further:
        process.wait()
