"""Starts the warm process (`tasks/warm.py`), in which the stages of a flow find torch imported."""

import atexit
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from signal import SIGKILL
from typing import Any

from flows import repro
from tasks import fingerprint, recorded
from tasks.errors import InputError
from tasks.process import die_with_parent
from tasks.warm import SOCKETS


class _Warm:
    """The warm process of this process, if it runs."""

    process: "subprocess.Popen[bytes] | None" = None


_warm = _Warm()
# Open files of its two sockets, which have no names any more: nothing is left if this process is
# killed, and only processes that may trace it, those of its user, can connect through /proc.
_sockets: list[int] = []


@contextmanager
def warm_process(root: Path) -> Iterator[None]:
    """Inside the block, the stages of a project use a warm process, if any of them looks stale."""
    start_if_stale(root)
    try:
        yield
    finally:
        stop()


def start_if_stale(root: Path) -> None:
    """Start the warm process, if a stage of the project looks stale."""
    if looks_stale(root):
        start()


def start() -> None:
    """Start the warm process, unless it runs already. It dies with the thread that calls this.

    Does nothing outside Linux, where a fork cannot use the libraries.
    """
    if sys.platform != "linux" or _warm.process:
        return
    try:
        with _listen() as light, _listen() as torch:
            _warm.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tasks.warm", *repro.LIBRARIES],
                env=stage_environment(),
                stdin=light.fileno(),
                stdout=torch.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C must not end it before the stages
                preexec_fn=partial(die_with_parent, os.getpid(), SIGKILL),
            )
    except OSError:  # a full disk, a path longer than 107 bytes, too many processes
        stop()
        return
    atexit.register(stop)  # ends it if the flow does not begin


def _listen() -> socket.socket:
    """A socket that exists from now on: who connects during the imports waits for their end."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with tempfile.TemporaryDirectory(prefix="modelmint-") as folder:  # only for this user
            listening.bind(f"{folder}/socket")
            listening.listen()
            _sockets.append(os.open(f"{folder}/socket", os.O_PATH))
    except OSError:
        listening.close()
        raise
    return listening


def stop() -> None:
    """End the warm process and free its memory. Stages that run are not affected."""
    if _warm.process:
        _warm.process.kill()
        _warm.process.wait()
        _warm.process = None
    while _sockets:
        os.close(_sockets.pop())


def stage_environment() -> dict[str, str]:
    """The variables for the command of a stage."""
    return {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        # `python` in a stage's command must be ours, also if no environment is activated.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **({SOCKETS: _paths()} if _warm.process else {}),
    }


def _paths() -> str:
    return os.pathsep.join(f"/proc/{os.getpid()}/fd/{number}" for number in _sockets)


def looks_stale(root: Path) -> bool:
    """Whether a stage looks stale. A guess in 20 ms, because DVC itself takes 1 s to import."""
    # Whatever is wrong with `dvc.lock` or `dvc.yaml`: a later check reports it.
    with suppress(InputError, OSError, ValueError, TypeError, KeyError, AttributeError):
        lock, params = recorded.locked_stages(root), recorded.yaml_mapping(root / "params.yaml")
        return any(
            name not in lock or _differs(root, name, entry, lock[name], params)
            for name, entry in recorded.stages_of(root).items()
        )
    return False


def _differs(root: Path, name: str, entry: Any, locked: Any, params: dict[str, Any]) -> bool:
    recorded_params = (locked.get("params") or {}).get("params.yaml") or {}
    written = (root / "dvc.lock").stat().st_mtime
    return (
        any(params.get(key) != value for key, value in recorded_params.items())
        or recorded.code_of(locked) != fingerprint.of_stage(root, name)
        or not all((root / out).exists() for out in recorded.outputs_of(entry))
        or any(_time_of(root / dep["path"]) > written for dep in locked.get("deps") or ())
    )


def _time_of(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0
