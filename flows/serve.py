"""`modelmint serve`: supervises a Prefect server and the runner of scheduled flows.

It restarts either one if it dies, and both die with it. flows/reconcile.py corrects what the
server still believes of dead runs.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from flows.addresses import free_address
from flows.deploy import LASTING
from flows.errors import ServerDown
from flows.notify.process import WatcherProcess
from flows.runner import DO_NOT_RESTART, WORKERS
from flows.server import (
    LOCAL_HOST,
    LOCAL_PORT,
    Server,
    answers,
    be_quiet,
    configured_api,
    find_api,
    local_api,
    noted_api,
    prefect_home,
    remove_note,
    write_note,
)
from tasks.errors import InputError
from tasks.process import die_with_parent

WATCH_S = 0.5
HEALTH_CHECK_S = 5.0
"""Seconds between two health checks of the server, and the timeout of each."""
SILENT_S = 20.0
"""Seconds without an answer after which a server that we did not start is reported."""
HUNG_S = 60.0
"""Seconds without an answer after which our own server is restarted although its process lives;
a loaded machine can be this slow."""
RESTARTS, WITHIN_S = 5, 600.0
STOP_S = 20.0
LEASES = "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"


def serve(
    root: Path,
    say: Callable[[str], None],
    host: str | None,
    port: int | None,
    metrics: str | None = None,
    workers: bool = False,
) -> int:
    """Serve the deployments of `prefect.yaml` until interrupted. Returns the exit status.

    Starts a Prefect server at `host` and `port` if none answers. `metrics`: where Prometheus may
    ask, as [HOST:]PORT. `workers`: workers of a work pool start the runs, not this process.

    Raises:
        ServerDown: PREFECT_API_URL names a server that does not answer, or our server keeps dying.
        InputError: this folder is served already, a server runs at another address, another program
            listens at `metrics`, or a setting of notifications has another form.
    """
    with _lock_project(root):
        os.chdir(root)  # flow runs are child processes that start in this folder
        watcher = WatcherProcess(root, say, metrics and free_address(metrics))
        try:
            status = _Supervisor(root, say, host, port, watcher, workers).run()
        except ServerDown as error:
            watcher.tell_stopped(str(error))
            raise
        if status:
            watcher.tell_stopped(f"the process that runs the flows ended with status {status}")
        return status


class _Stop(Exception):
    """A signal asked `serve` to end."""


class _Supervisor:
    def __init__(
        self,
        root: Path,
        say: Callable[[str], None],
        host: str | None,
        port: int | None,
        watcher: WatcherProcess,
        workers: bool,
    ) -> None:
        self._root, self._say, self._watcher, self._workers = root, say, watcher, workers
        self._server: Server | None = None
        self._ends: dict[str, deque[float]] = {}
        self._last_answer = time.monotonic()
        self._last_check = 0.0
        self._silent = False
        self._runner: subprocess.Popen[bytes] | None = None
        self._host, self._port = host or LOCAL_HOST, port or LOCAL_PORT
        self._configured = bool(configured_api())
        """Whether the user names a server; then we never start one."""
        self._api = _find_server(host, port)

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
        try:
            if not self._api:
                self._start_server()
            elif problem := find_unfit_settings(self._api):
                self._say(problem)
            self._start_runner()  # imports Prefect while the server starts, then waits for it
            self._wait_for_server()
            ends = "it" if self._workers else "it and pauses the schedules"
            self._say(f"Prefect UI: {self._ui} (Ctrl-C stops {ends})")
            while True:
                time.sleep(WATCH_S)
                self._watch_server()
                self._watcher.watch(self._api or "")
                if (status := self._watch_runner()) is not None:
                    return status
        except _Stop:
            return 0
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            self._watcher.stop()
            self._stop_runner()
            if self._server:
                self._server.stop()
                remove_note(self._server.api)

    @property
    def _ui(self) -> str:
        return (self._api or "").removesuffix("/api")

    # The server

    def _start_server(self) -> None:
        if _listens(local_api(self._host, self._port)):
            raise ServerDown(
                f"another program listens on {self._host}:{self._port}; choose another --port"
            )
        self._say("Starting a Prefect server with its UI ...")
        if self._host not in (LOCAL_HOST, "localhost", "::1"):
            self._say(
                f"It listens on {self._host} without a login: anyone who can reach it can start "
                "runs and answer approvals."
            )
        log = prefect_home() / "modelmint-server.log"
        prefect_home().mkdir(parents=True, exist_ok=True)
        self._server = Server(self._host, self._port, LASTING, log)
        self._api = self._server.api

    def _wait_for_server(self) -> None:
        """Wait until our server answers, then note its URL for other commands."""
        if self._server:
            write_note(self._server.wait_until_ready())
        self._last_answer = time.monotonic()

    def _watch_server(self) -> None:
        now = time.monotonic()
        if self._server and self._server.process.poll() is not None:
            self._restart_server(_describe_exit(self._server.process.returncode))
        elif now - self._last_check >= HEALTH_CHECK_S:
            self._last_check = now
            assert self._api is not None
            if answers(self._api, timeout_s=HEALTH_CHECK_S):
                if self._silent:
                    self._say(f"{self._ui} answers again")
                self._last_answer, self._silent = time.monotonic(), False
            elif self._server and now - self._last_answer > HUNG_S:
                self._restart_server(f"did not answer for {HUNG_S:g} s")
            elif not self._server and not self._configured and not _listens(self._api):
                # Another `serve` on this machine started it and has ended; start it again here.
                url = urlsplit(self._api)
                self._host, self._port = url.hostname or LOCAL_HOST, url.port or LOCAL_PORT
                self._say(f"The Prefect server at {self._ui} has stopped.")
                self._start_server()
                self._wait_for_server()
            elif not self._server and not self._silent and now - self._last_answer > SILENT_S:
                self._silent = True
                self._say(f"{self._ui} does not answer. Nothing runs until it does; waiting ...")

    def _restart_server(self, how: str) -> None:
        assert self._server is not None
        while True:
            self._server.stop()
            self._wait_before_restart("Prefect server", how)
            try:
                self._start_server()
                return self._wait_for_server()
            except ServerDown as error:
                how = f"did not start ({error})"

    # The runner

    def _start_runner(self) -> None:
        self._runner = subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.runner", *([WORKERS] if self._workers else [])],
            cwd=self._root,
            env={**os.environ, "PREFECT_API_URL": self._api or ""},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches only us; we stop the runner before the server
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),
        )

    def _watch_runner(self) -> int | None:
        """Restart the runner if it ended. Returns its exit status if a restart cannot help."""
        assert self._runner is not None
        if (status := self._runner.poll()) is None:
            return None
        if status == DO_NOT_RESTART:
            return DO_NOT_RESTART
        # Without a server it would end at once.
        if answers(self._api or "", timeout_s=HEALTH_CHECK_S):
            self._wait_before_restart("process that runs the flows", _describe_exit(status))
            self._start_runner()
        return None

    def _stop_runner(self) -> None:
        if self._runner is None or self._runner.poll() is not None:
            return
        self._runner.send_signal(signal.SIGINT)
        try:
            self._runner.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._runner.kill()
            self._runner.wait()

    def _wait_before_restart(self, what: str, how: str) -> None:
        """Report what happened and wait: 0, 1, 3, 7, 15 s. Then raises `ServerDown`."""
        ends = self._ends.setdefault(what, deque())
        now = time.monotonic()
        ends.append(now)
        while ends[0] < now - WITHIN_S:
            ends.popleft()
        if len(ends) > RESTARTS:
            raise ServerDown(
                f"the {what} ended {len(ends)} times within {WITHIN_S / 60:g} minutes, so it is "
                f"not restarted. Last: {how}. See {prefect_home() / 'modelmint-server.log'}"
            )
        self._say(f"The {what} {how}; restarting it ...")
        time.sleep(2 ** (len(ends) - 1) - 1)


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stop


def _describe_exit(status: int | None) -> str:
    """How a process ended, from its exit status as `subprocess` gives it."""
    if status is not None and status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _find_server(host: str | None, port: int | None) -> str | None:
    """The URL of the API to use, or None if we have to start a server.

    Raises:
        ServerDown: the server that the user names does not answer.
        InputError: a server runs at another address than `host` and `port`.
    """
    be_quiet()
    if host is None and port is None:
        return find_api()
    # A second server with the same PREFECT_HOME would use the same database.
    if found := configured_api() or noted_api():
        url = urlsplit(found)
        if host in (None, url.hostname) and port in (None, url.port):
            return find_api()
        raise InputError(
            f"a Prefect server runs at {found.removesuffix('/api')}, so none is started at "
            f"{host or LOCAL_HOST}:{port or LOCAL_PORT}. Omit --host and --port to use it. "
            "For a second server, unset PREFECT_API_URL and set PREFECT_HOME to another folder."
        )
    return None


def find_unfit_settings(api: str) -> str | None:
    """A warning about the settings of a server that we did not start; None if all is well."""
    try:
        with urllib.request.urlopen(f"{api}/admin/settings", timeout=HEALTH_CHECK_S) as reply:
            settings = json.load(reply)["server"]
        in_memory = settings["concurrency"]["lease_storage"].endswith(".memory")
        scheduler = settings["services"]["scheduler"]["enabled"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # it requires a login or is another release
    lacks = []
    if in_memory:
        lacks.append(f"{LEASES}={LASTING[LEASES]} (without it a restart cancels active runs)")
    if not scheduler:
        lacks.append("PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED=true (without it nothing is due)")
    ui = api.removesuffix("/api")
    return (
        f"warning: the Prefect server at {ui} should be started with " + " and ".join(lacks)
        if lacks
        else None
    )


def _listens(api: str) -> bool:
    """Whether any program accepts connections at the host and port of this URL."""
    url = urlsplit(api)
    with contextlib.suppress(OSError):
        socket.create_connection((url.hostname, url.port or 80), timeout=HEALTH_CHECK_S).close()
        return True
    return False


@contextlib.contextmanager
def _lock_project(root: Path) -> Iterator[None]:
    """Lock the project and write our process id into the lock. Raises `InputError` if locked."""
    path = root / ".dvc/tmp/modelmint-serve.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise InputError(
                f"{root} is already served by process {file.read().strip() or 'unknown'}. "
                "Stop that process first."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
