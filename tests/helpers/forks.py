"""Python processes that need not import torch, Prefect and scikit-learn again.

Of the 35 CPU seconds of `modelmint train`, 30 are imports in nine processes. One server for all
pytest workers imports third-party packages once and forks for each process of a training: for the
flow and, through a replacement of `python`, for every `python -m ...` that it starts. Each fork
imports modelmint itself from the project's folder.

SIGINT and SIGTERM reach the fork, and it may kill itself. Tests that send SIGKILL or look which
processes are left start a real process (`Project.start`), as do tests of what a command imports.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import logging
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from exporter import read_operators_now

PRELOADED = [
    "torch",
    "torch._dynamo",
    "torch.export._trace",
    "torch.onnx._internal.exporter._core",
    "torch.onnx._internal.exporter._compat",
    "torch.onnx._internal.exporter._torchlib.ops",
    "lightning_fabric",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "onnxscript.function_libs.torch_lib.ops",
    "optuna.storages._rdb.storage",
    "pyarrow.csv",
    "pyarrow.parquet",
    "safetensors.torch",
    "distributed.cli.dask_scheduler",
    "distributed.cli.dask_worker",
    "sklearn.metrics",
    "sklearn.model_selection",
    "sympy.combinatorics",
    "tokenizers",
    "dvc.cli.parser",
    "dvc.commands.repro",
    "dvc.data_cloud",
    "dvc.lock",
    "dvc.repo.artifacts",
    "dvc.repo.datasets",
    "dvc.repo.plots",
    "dvc.repo.reproduce",
    "dvc.repo.stage",
    "dvc.rwlock",
    "dvc.scm",
    "dvc.utils.strictyaml",
    "prefect.artifacts",
    "prefect.client.orchestration",
    "prefect.deployments",
    "prefect.flow_engine",
    "prefect.server.api.server",
    "prefect.task_engine",
    "anyio._backends._asyncio",
    "rfc8785",
    "rich.progress",
    "ruamel.yaml",
    "sqlalchemy.dialects.sqlite",
    "typer",
]
# Waits for the process that the server forks, passes signals on, and ends as that one does. If this
# one is killed, that one is too.
STAND_IN = """#!{python} -SI
import json, os, signal, socket, sys
if "-m" not in sys.argv and "--code" not in sys.argv:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: server.send(bytes([number])))
    status, number = server.recv(2) or (1, 0)
if number:
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
os._exit(status)
"""
FOLDER, OWNER = "MODELMINT_TEST_FORKS", "MODELMINT_TEST_FORKS_OWNER"
SECONDS = 300.0  # for the imports of the server; 10 s on an idle core


class ForkServer:
    """Starts with the first command of any worker and ends with pytest."""

    def __init__(self) -> None:
        # pytest's first process makes the folder; its workers inherit the variable.
        if FOLDER not in os.environ:
            os.environ[FOLDER] = tempfile.mkdtemp(prefix="modelmint-forks-")
            os.environ[OWNER] = str(os.getpid())
            atexit.register(_remove_if_unused, os.environ[FOLDER])
        self.folder = Path(os.environ[FOLDER])
        self.python = self.folder / "python"

    def command(self, *arguments: str) -> list[str]:
        """`python -m ARGUMENTS` in a fork; there `modelmint` is a module too."""
        self._start()
        return [str(self.python), "-P", "-m", *arguments]

    def code(self, code: str, *arguments: str) -> list[str]:
        """`python -c CODE ARGUMENTS` in a fork."""
        self._start()
        return [str(self.python), "--code", code, *arguments]

    def executable(self) -> str:
        """A `python` whose `-m` commands run in forks, for `sys.executable`."""
        self._start()
        return str(self.python)

    def _start(self) -> None:
        path = self.folder / "socket"
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                return
            self.python.write_text(STAND_IN.format(python=sys.executable, path=str(path)))
            self.python.chmod(0o700)
            server = subprocess.Popen(
                [sys.executable, __file__, str(path), str(self.python), os.environ[OWNER]],
                env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # it outlives this worker, and Ctrl-C
            )
            deadline = time.monotonic() + SECONDS
            while not path.exists():
                assert server.poll() is None, "the fork server did not start"
                assert time.monotonic() < deadline, "the fork server takes too long to start"
                time.sleep(0.05)


def _remove_if_unused(folder: str) -> None:
    with contextlib.suppress(OSError):  # the server removes it with what is in it
        os.rmdir(folder)


forks = ForkServer()
FORKS = sys.platform == "linux"  # they use pidfd


def python_code(code: str, *arguments: str) -> list[str]:
    """A command that runs Python code, in a fork where there are any."""
    return forks.code(code, *arguments) if FORKS else [sys.executable, "-c", code, *arguments]


def serve(path: str, python: str, owner: int) -> None:
    """Fork for each request, until the process `owner` ends."""
    owner_ended = os.pidfd_open(owner)
    for module in PRELOADED:
        importlib.import_module(module)
    read_operators_now()
    gc.freeze()  # or garbage collection in each fork would copy all these pages
    sys.executable = python
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the guards need no wait()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path + ".new")
        listening.listen(16)
        os.rename(path + ".new", path)
        while True:
            ready, _, _ = select.select([listening, owner_ended], [], [])
            if owner_ended in ready:
                shutil.rmtree(Path(path).parent)
                return
            client, _ = listening.accept()
            if not os.fork():
                listening.close()
                os.close(owner_ended)
                guard(client)
            client.close()


def guard(client: socket.socket) -> None:
    """Fork again; report how that process ends, or kill it if the client ends first.

    The client may send numbers of signals for it.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, outputs, _, _ = socket.recv_fds(client, 8, 3)
    request = b""
    while len(request) < int.from_bytes(length, "big"):
        request += client.recv(1 << 20)
    process = os.fork()
    if not process:
        client.close()
        become(outputs, *json.loads(request))
    for number in outputs:
        os.close(number)
    ended = os.pidfd_open(process)
    while ended not in select.select([ended, client], [], [])[0]:
        if not (number := client.recv(1)):
            os.killpg(process, signal.SIGKILL)
            break
        os.kill(process, number[0])
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # the client was killed
        client.send(bytes([max(status, 0), max(-status, 0)]))
    os._exit(0)


def become(outputs: list[int], command: list[str], folder: str, variables: dict[str, str]) -> None:
    """Behave as a new interpreter with `[-P] -m COMMAND` or `-c CODE`."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background ignores it
    for number, output in enumerate(outputs):
        os.dup2(output, number)
    os.environ.clear()
    os.environ.update(variables)
    if "MODELMINT_RUNNER_PID" in variables:  # a run dies with its runner; here with its guard
        os.environ["MODELMINT_RUNNER_PID"] = str(os.getppid())
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    sys.modules["prefect.context"].refresh_global_settings_context()
    os.chdir(folder)
    first = [] if "-P" in command else [folder]
    sys.path[:1] = first + list(filter(None, variables.get("PYTHONPATH", "").split(os.pathsep)))
    code = command[1] if command[0] == "--code" else None
    command = command[command.index("-m") + 1 :] if code is None else ["-c", *command[2:]]
    sys.argv = command
    # Line-buffered, because a step may end with os._exit.
    sys.stdin, sys.stdout, sys.stderr = (open(n, m, 1) for n, m in enumerate("rww"))  # noqa: SIM115
    if command[0] != "modelmint":
        logging.root.handlers.clear()  # of Prefect, which DVC and the steps do not import
    status: object = 0
    try:
        if code is not None:
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        elif command[0] == "modelmint":
            importlib.import_module("cli.main").main()
        else:
            runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        status = 1
    if command[0] == "prefect.engine":
        sys.modules["prefect.logging.handlers"].APILogHandler.flush()  # as Prefect does at exit
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 0 if status is None else 1)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
