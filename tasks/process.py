"""Processes: how one ends with its parent, and how one starts quickly."""

import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterator

# The process id of the flow, for the command of a stage, which is its grandchild.
FLOW_PID = "MODELMINT_FLOW_PID"

_PR_SET_PDEATHSIG = 1
# Loaded here, because between fork and exec nothing may allocate or import.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(parent: int, number: int = signal.SIGTERM) -> None:
    """Make the kernel send a signal when the process `parent` dies. Does nothing outside Linux.

    A child does not inherit this setting, so every process of a chain calls it:
    https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # the parent died before prctl was called
            os.kill(os.getpid(), number)


def die_with_flow() -> None:
    """End this process when its parent dies, and now if the flow that started it has ended."""
    die_with_parent(os.getppid())
    flow = os.environ.get(FLOW_PID)
    with contextlib.suppress(PermissionError):  # the flow lives, under another user
        try:
            if flow:
                os.kill(int(flow), 0)
        except ProcessLookupError:
            os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def paused_gc() -> Iterator[None]:
    """Pause garbage collection during large imports: their objects stay until the process ends."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
