"""Processes: how one ends with its parent, and how one starts quickly."""

import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterator

# How a flow tells the stage's command, two processes below it, who it is.
FLOW_PID = "MODELMINT_FLOW_PID"

_PR_SET_PDEATHSIG = 1
# Loaded here, because between fork and exec nothing may allocate or import.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(parent: int, number: int = signal.SIGTERM) -> None:
    """Ask the kernel for a signal when the process `parent` dies (Linux; elsewhere nothing).

    A fork does not inherit the request, so every process of a chain makes its own:
    https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before it was asked
            os.kill(os.getpid(), number)


def die_with_flow() -> None:
    """For the command of a stage: end with its parent, and with the flow that asked for it."""
    die_with_parent(os.getppid())
    flow = os.environ.get(FLOW_PID)
    with contextlib.suppress(PermissionError):  # alive, and somebody else's
        try:
            if flow:
                os.kill(int(flow), 0)
        except ProcessLookupError:
            os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """For big imports: what they make stays, so looking through it for garbage is time lost."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
