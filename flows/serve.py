"""`modelmint serve`: keeps a Prefect server and the process that runs what is due alive.

Each may be killed at any moment and is started again; killed itself, it takes both with it. What
a dead run left behind with the server is the business of flows/reconcile.py.
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

from flows.deploy import LASTING
from flows.runner import NOT_AGAIN
from flows.server import (
    LOCAL_HOST,
    LOCAL_PORT,
    Server,
    ServerDown,
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
LOOK_S = 5.0
"""How often the server is asked whether it is well."""
SILENT_S = 20.0
"""After so long without an answer a server that somebody else started is reported."""
HUNG_S = 60.0
"""After so long one of ours is restarted whose process is alive; a loaded machine is slow."""
RESTARTS, WITHIN_S = 5, 600.0
STOP_S = 20.0
LEASES = "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"


def serve(root: Path, say: Callable[[str], None], host: str | None, port: int | None) -> int:
    """Serve the deployments of `prefect.yaml` until interrupted: the exit status.

    Starts a Prefect server at `host` and `port` where none answers.

    Raises:
        ServerDown: PREFECT_API_URL names a server that does not answer, or ours ends again and
            again.
        InputError: this folder is served already, or a server runs elsewhere than was asked for.
    """
    with _only_one(root):
        os.chdir(root)  # runs are processes of their own, and start where their flows' files lie
        return _Supervisor(root, say, host, port).run()


class _Stop(Exception):
    """`serve` was asked to end, by a signal."""


class _Supervisor:
    def __init__(
        self, root: Path, say: Callable[[str], None], host: str | None, port: int | None
    ) -> None:
        self._root, self._say = root, say
        self._server: Server | None = None
        self._ends: dict[str, deque[float]] = {}
        self._answered = time.monotonic()
        self._looked = 0.0
        self._silent = False
        self._runner: subprocess.Popen[bytes] | None = None
        self._host, self._port = host or LOCAL_HOST, port or LOCAL_PORT
        self._elsewhere = bool(configured_api())
        """Whether the server is named by the user, and so nobody's to start but theirs."""
        self._api = _found(host, port)

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
        try:
            if not self._api:
                self._start_server()
            elif problem := _unfit(self._api):
                self._say(problem)
            self._start_runner()  # it imports Prefect meanwhile, and waits for the server
            self._wait_for_server()
            self._say(f"Prefect UI: {self._ui} (Ctrl-C ends it, and pauses the schedules)")
            while True:
                time.sleep(WATCH_S)
                self._watch_server()
                if (status := self._watch_runner()) is not None:
                    return status
        except _Stop:
            return 0
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
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
                f"another program listens at {self._host}:{self._port}; choose another --port"
            )
        self._say("Starting a Prefect server with its UI ...")
        if self._host not in (LOCAL_HOST, "localhost", "::1"):
            self._say(
                f"It listens on {self._host} and has no log-in: who reaches it can start runs and "
                "answer approvals."
            )
        log = prefect_home() / "modelmint-server.log"
        prefect_home().mkdir(parents=True, exist_ok=True)
        self._server = Server(self._host, self._port, LASTING, log)
        self._api = self._server.api

    def _wait_for_server(self) -> None:
        """Wait until a server of ours answers, and tell others where it is."""
        if self._server:
            write_note(self._server.wait_until_ready())
        self._answered = time.monotonic()

    def _watch_server(self) -> None:
        now = time.monotonic()
        if self._server and self._server.process.poll() is not None:
            self._restart_server(_ending(self._server.process.returncode))
        elif now - self._looked >= LOOK_S:
            self._looked = now
            assert self._api is not None
            if answers(self._api, patience_s=LOOK_S):
                if self._silent:
                    self._say(f"{self._ui} answers again")
                self._answered, self._silent = time.monotonic(), False
            elif self._server and now - self._answered > HUNG_S:
                self._restart_server(f"did not answer for {HUNG_S:g} s")
            elif not self._server and not self._elsewhere and not _listens(self._api):
                # It ended with another `serve` of this machine, whose place we take.
                place = urlsplit(self._api)
                self._host, self._port = place.hostname or LOCAL_HOST, place.port or LOCAL_PORT
                self._say(f"The Prefect server at {self._ui} has gone.")
                self._start_server()
                self._wait_for_server()
            elif not self._server and not self._silent and now - self._answered > SILENT_S:
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
            [sys.executable, "-P", "-m", "flows.runner"],
            cwd=self._root,
            env={**os.environ, "PREFECT_API_URL": self._api or ""},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: the runner ends before its server
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),
        )

    def _watch_runner(self) -> int | None:
        """Start the runner again where it ended; the exit status where that would not help."""
        assert self._runner is not None
        if (status := self._runner.poll()) is None:
            return None
        if status == NOT_AGAIN:
            return NOT_AGAIN
        # Without a server it can only end again.
        if answers(self._api or "", patience_s=LOOK_S):
            self._wait_before_restart("process that runs the flows", _ending(status))
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
        """Say what happened, and wait longer each time. Raises `ServerDown` at last."""
        ends = self._ends.setdefault(what, deque())
        now = time.monotonic()
        ends.append(now)
        while ends[0] < now - WITHIN_S:
            ends.popleft()
        if len(ends) > RESTARTS:
            raise ServerDown(
                f"the {what} ended {len(ends)} times within {WITHIN_S / 60:g} minutes, at last: "
                f"{how}. Not started again; see {prefect_home() / 'modelmint-server.log'}"
            )
        self._say(f"The {what} {how}; starting it again ...")
        time.sleep(2 ** (len(ends) - 1) - 1)


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stop


def _ending(status: int | None) -> str:
    """How a process ended, from what `subprocess` says of it."""
    if status is not None and status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _found(host: str | None, port: int | None) -> str | None:
    """The API to serve with; None where a server of our own is to be started.

    Raises:
        ServerDown: the server that the user names does not answer.
        InputError: one is there, and another place was asked for.
    """
    be_quiet()
    if host is None and port is None:
        return find_api()
    # A server elsewhere on this machine is no reason not to start one, but with the same home it
    # would be a second one on the same database.
    if found := configured_api() or noted_api():
        place = urlsplit(found)
        if host in (None, place.hostname) and port in (None, place.port):
            return find_api()
        raise InputError(
            f"a Prefect server is at {found.removesuffix('/api')}, so none is started at "
            f"{host or LOCAL_HOST}:{port or LOCAL_PORT}. Leave --host and --port out to use it. "
            "For a second one, unset PREFECT_API_URL and give PREFECT_HOME a folder of its own."
        )
    return None


def _unfit(api: str) -> str | None:
    """What a server that somebody else started lacks; None where that is nothing, or unknown."""
    try:
        with urllib.request.urlopen(f"{api}/admin/settings", timeout=LOOK_S) as reply:
            settings = json.load(reply)["server"]
        in_memory = settings["concurrency"]["lease_storage"].endswith(".memory")
        scheduler = settings["services"]["scheduler"]["enabled"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # it asks for a log-in, or is of another release
    lacks = []
    if in_memory:
        lacks.append(f"{LEASES}={LASTING[LEASES]} (when it restarts now, it cancels what runs)")
    if not scheduler:
        lacks.append("PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED=true (now nothing is ever due)")
    ui = api.removesuffix("/api")
    return (
        f"warning: the Prefect server at {ui} should be started with " + " and ".join(lacks)
        if lacks
        else None
    )


def _listens(api: str) -> bool:
    """Whether any program takes connections at this URL's place."""
    place = urlsplit(api)
    with contextlib.suppress(OSError):
        socket.create_connection((place.hostname, place.port or 80), timeout=LOOK_S).close()
        return True
    return False


@contextlib.contextmanager
def _only_one(root: Path) -> Iterator[None]:
    """Hold the project's lock, which says who has it. Raises `InputError` where another does."""
    path = root / ".dvc/tmp/modelmint-serve.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise InputError(
                f"{root} is served already, by process {file.read().strip() or 'unknown'}. "
                "Stop that one first."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
