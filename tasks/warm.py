"""The warm process: it has imported the libraries of the steps, and forks for each of them.

A step imports for 3 to 7 CPU seconds, and most of it are libraries. A flow starts one warm process
(`flows/warm.py`), which imports them once, while Prefect is being imported. It forks a second one,
which goes on with torch, so that `prepare` need not wait for that. The command of a stage finds
the paths of their sockets in MODELMINT_WARM, lets one fork, and waits for the exit status:

    python -P -m tasks train  ->  warm process  ->  guard  ->  the step
         (`in_warm_process`)        (forks)        (forks, waits)

`dvc repro`, which runs that command, is forked in the same way (`flows/repro.py`): DVC imports for
half a second.

Every step still has a process, a session and memory of its own. The guard ends it if the command
ends, and reports its end even if the warm process was killed. Old code cannot run: the warm process
imports no code of the steps, so each fork loads it from the disk, as a new interpreter does. If
anything else differs that libraries see when they are imported, or if there is no warm process, the
command runs the step itself.

Only for Linux: on macOS, the system's libraries do not work in a fork. The warm process must not
import what fails in a fork: CUDA, once used, and ONNX Runtime (it opens a SQLite file when it is
imported, and starts a thread). OpenBLAS and jemalloc also start threads; both are made for forks
(`pthread_atfork`).
"""

import ctypes
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.process import die_with_parent, paused_gc

SOCKETS = "MODELMINT_WARM"
"""The variable with the paths of both sockets, separated as in PATH."""
# The socket for each step, by the libraries that it needs.
STEPS = {"prepare": "light", "train": "torch", "evaluate": "torch", "export": "torch"}
LIGHT = (
    "pydantic",
    "ruamel.yaml",
    "pyarrow.csv",
    "pyarrow.parquet",
    "sklearn.metrics",
    "sklearn.model_selection",
    "tokenizers",
)
TORCH = (
    "torch",
    "torch._dynamo",  # otherwise imported by the first optimizer
    "torch.export._trace",  # this and the next four: by the first export
    "torch.onnx._internal.exporter._core",
    "torch.onnx._internal.exporter._torchlib.ops",
    "onnxscript.function_libs.torch_lib.ops",
    "sympy.combinatorics",
    "lightning_fabric",
)
GRACE_S = 1.0  # the flow waits 2 s before it sends SIGKILL
PATIENCE_S = 600.0  # for its imports: 10 s on an idle core, 200 s on one with 20 busy processes
_LONGEST = 1 << 18
_ACCEPTED = b"accepted"
# Set by the flow, DVC and the shell, and without effect on an import. All others must be equal.
_MAY_DIFFER = ("DVC_", "PREFECT_", "MODELMINT_")
_MAY_DIFFER_TOO = {"PATH", "PWD", "OLDPWD", "SHLVL", "_"}
# Lines of /proc/self/status.
_OF_THE_KERNEL = ("Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "Cap", "Sec", "Cpus", "Mems")


def in_warm_process(arguments: list[str]) -> int | None:
    """Run a step in a fork of the warm process; None if this process must run it.

    Returns its exit status. If a signal ended it, the same signal ends this process.
    """
    paths = os.environ.pop(SOCKETS, None)
    if len(arguments) != 1 or arguments[0] not in STEPS:
        return None
    return in_fork(paths, STEPS[arguments[0]], "tasks", arguments)


def in_fork(paths: str | None, libraries: str, module: str, arguments: list[str]) -> int | None:
    """Run `python -m MODULE ARGUMENTS` in a fork that has `libraries`: `light` or `torch`.

    `paths` is the value of `SOCKETS`. Returns as `in_warm_process`.
    """
    if not paths:
        return None
    light, torch = paths.split(os.pathsep)
    request = json.dumps(
        {
            "interpreter": interpreter(os.environ),
            "module": module,
            "arguments": arguments,
            "folder": os.getcwd(),
            "environment": dict(os.environ),
        }
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as guard:
        guard.settimeout(PATIENCE_S)
        try:
            guard.connect(torch if libraries == "torch" else light)
            guard.send(request.encode())
            if guard.recv(_LONGEST) != _ACCEPTED:
                return None
            # Only now: what waits in the socket of a process that hangs stays open.
            socket.send_fds(guard, [_ACCEPTED], [0, 1, 2])
        except OSError:  # it was killed or hangs, or the environment is too long
            return None
        guard.settimeout(None)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: guard.shutdown(socket.SHUT_WR))
        # Nothing is received if the guard got SIGKILL: the kernel then ends the step as well.
        status = int(guard.recv(_LONGEST) or -signal.SIGKILL)
    if status < 0:
        with suppress(OSError):  # SIGKILL has no other handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def interpreter(environment: Mapping[str, str]) -> dict[str, Any]:
    """What a library may depend on, and what the fork would have from the warm process."""
    variables = {
        name: value
        for name, value in environment.items()
        if not name.startswith(_MAY_DIFFER) and name not in _MAY_DIFFER_TOO
    }
    # Installing a package changes the time of the folder.
    installed = [p for p in sys.path if p.endswith("-packages") and os.path.isdir(p)]
    return {
        "executable": [sys.prefix, os.path.realpath(sys.executable)],  # also named python3
        "version": sys.version,
        "flags": [*sys.flags, *sys.warnoptions, *sys._xoptions],
        "path": list(sys.path),
        "installed": {path: os.stat(path).st_mtime_ns for path in installed},
        "package": str(Path(__file__).parent),
        "variables": variables,
        "granted": _granted(),
    }


def _granted() -> list[Any]:
    """User, rights, limits and so on: a command may be run by `nice`, `ionice`, `ulimit`."""
    process = Path("/proc/self")
    status = process.joinpath("status").read_text().splitlines()
    return [
        [line for line in status if line.startswith(_OF_THE_KERNEL)],
        process.joinpath("limits").read_text(),
        process.joinpath("cgroup").read_text(),
        process.joinpath("oom_score_adj").read_text(),
        os.getpriority(os.PRIO_PROCESS, 0),
        os.sched_getscheduler(0),
        _io_priority(),
    ]


def _io_priority() -> int | None:
    """As `ionice` sets it; None where it cannot be asked. libc has no function for it."""
    ioprio_get = {"x86_64": 252, "aarch64": 31}.get(os.uname().machine)
    if ioprio_get is None:
        return None
    of_a_process = 1
    return int(ctypes.CDLL(None).syscall(ioprio_get, of_a_process, 0))


def serve(light: socket.socket, torch: socket.socket, more: Iterable[str]) -> str:
    """Import the libraries, then fork for each connection. Returns only in a fork: the module that
    it runs.

    The steps that need torch connect to `torch`, the others to `light`, as do those of modules that
    need the libraries `more`.
    """
    before = dict(os.environ)
    mine = interpreter(before)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `tasks/__main__.py` does
    _import(LIGHT)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    this, listening, other = os.getpid(), light, torch
    if not os.fork():
        die_with_parent(this, signal.SIGKILL)
        listening, other, more = torch, light, TORCH
    _import(more)
    other.close()
    if any(str(f.resolve()).startswith("/dev/nvidia") for f in Path("/proc/self/fd").iterdir()):
        sys.exit("a library has used the GPU when it was imported")
    set_by_imports = {k: v for k, v in os.environ.items() if before.get(k) != v}
    while True:
        connection, _ = listening.accept()
        if not os.fork():
            listening.close()  # or the socket would outlive the warm process
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _guard(connection, mine, set_by_imports)
        connection.close()


def _import(modules: Iterable[str]) -> None:
    with paused_gc():
        for name in modules:
            with suppress(ImportError):
                importlib.import_module(name)


def _guard(
    command: socket.socket, mine: Mapping[str, Any], set_by_imports: Mapping[str, str]
) -> str:
    """Fork the step, report its end, and end it if its command ends. Returns only as the step: its
    module."""
    os.setsid()
    try:
        request = json.loads(command.recv(_LONGEST) or "{}")
        if request.get("interpreter") != mine:
            os._exit(0)
        command.send(_ACCEPTED)
        _, streams, _, _ = socket.recv_fds(command, _LONGEST, 3)
    except OSError:
        streams = []
    if not streams:  # the command was killed while it waited, or did not wait any longer
        os._exit(0)
    this = os.getpid()
    if not (step := os.fork()):
        die_with_parent(this)
        command.close()
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(request["environment"])
        if request["module"] == __package__:
            os.environ.update(set_by_imports)
        # DVC gives its variables to the command of the stage, which compares them.
        os.chdir(request["folder"])
        sys.argv[1:] = request["arguments"]
        return str(request["module"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: os.kill(step, got))  # the step's end is reported
    for stream in (0, 1, 2, *streams):
        os.close(stream)
    ended = os.pidfd_open(step)
    if ended not in select.select([ended, command.fileno()], [], [])[0]:
        # SIGKILL in any case: DVC has ended, the command of a stage may ignore SIGTERM.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(step, number)
            select.select([ended], [], [], GRACE_S)
    status = os.waitstatus_to_exitcode(os.waitpid(step, 0)[1])
    with suppress(OSError):  # the command was killed
        command.send(str(status).encode())
    os._exit(0)


def _become(module: str) -> None:
    """`python -P -m MODULE`, in a fork. Never returns."""
    for name in [name for name in sys.modules if name.partition(".")[0] == __package__]:
        del sys.modules[name]
    importlib.invalidate_caches()
    status = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:  # the steps end by themselves
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by an exception: libraries have registered functions for the end of the warm process.
    os._exit(status)


if __name__ == "__main__":
    _light, _torch = (socket.socket(fileno=os.dup(number)) for number in (0, 1))
    with open(os.devnull, "r+") as _nothing:
        for _number in (0, 1):  # what closes the sockets must not leave these unused
            os.dup2(_nothing.fileno(), _number)
    _become(serve(_light, _torch, sys.argv[1:]))
