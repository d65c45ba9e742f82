"""Finds a running Prefect server, or starts one.

Prefect could start a temporary server itself, but only when the flow starts, and it outlives a
killed flow. Ours starts while Prefect is being imported, and dies with its parent. `modelmint
serve` starts a permanent one and writes its URL to a file for other commands.
"""

import atexit
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

from flows.errors import ServerDown
from tasks.process import die_with_parent

LOCAL_HOST = "127.0.0.1"
LOCAL_PORT = 4200
# A server that ends is noticed at once; this is for one that hangs. With a new database it computes
# for 10 s, which took more than 120 s on two cores that 15 other processes used.
START_LIMIT_S = 600.0
NOTE = "modelmint-server.json"
ADVICE = (
    "No Prefect server answers, so a temporary one is started for this command (a few seconds). "
    "`modelmint serve` in another terminal starts a permanent one with its UI."
)
# No telemetry and no advertisements.
QUIET = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",  # Prefect's own default is a pickle
}
TEMPORARY = {
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_UI_ENABLED": "false",
    # Services that only a permanent server needs; here they would only compete for the write lock
    # of the database.
    **{
        f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false"
        for service in (
            "CANCELLATION_CLEANUP",
            "FOREMAN",
            "LATE_RUNS",
            "PAUSE_EXPIRATIONS",
            "REPOSSESSOR",
            "SCHEDULER",
            "TRIGGERS",
        )
    },
}


def prefect_api(say: Callable[[str], None]) -> Callable[[], str]:
    """Find or start a Prefect API. Returns a function that waits for it and returns its URL.

    Import Prefect before you call that function: it takes as long as a server takes to start.
    `say` gets one line if no server was running.

    Raises:
        ServerDown: PREFECT_API_URL or the active profile names a server that does not answer.
    """
    if url := find_api():
        return lambda: url
    say(ADVICE)
    with socket.socket() as probe:
        probe.bind((LOCAL_HOST, 0))
        port = probe.getsockname()[1]
    return start_server(port, TEMPORARY)


def find_api() -> str | None:
    """The URL of the configured Prefect API, or of one on this machine; None if none runs.

    Also sets PREFECT_API_URL for Prefect, and settings that switch its telemetry off.

    Raises:
        ServerDown: PREFECT_API_URL or the active profile names a server that does not answer.
    """
    be_quiet()
    if url := configured_api():
        if not answers(url, timeout_s=5):
            raise ServerDown(
                f"PREFECT_API_URL is {url}, and no Prefect server answers there. "
                "Start it, or unset PREFECT_API_URL and remove it from the Prefect profile."
            )
    else:
        usual = local_api(LOCAL_HOST, LOCAL_PORT)
        url = noted_api() or (usual if answers(usual) else None)
    if url:
        os.environ["PREFECT_API_URL"] = url
    return url


def be_quiet() -> None:
    """Switch off the telemetry of Prefect and DVC, unless the user has set these variables."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def configured_api() -> str | None:
    """The API that PREFECT_API_URL or the active Prefect profile names."""
    return os.environ.get("PREFECT_API_URL") or _url_of_active_profile()


def noted_api() -> str | None:
    """The API of the server that `modelmint serve` started in this Prefect home, if it answers.

    It does not answer if `serve` was killed and left its note behind.
    """
    try:
        url = str(json.loads((prefect_home() / NOTE).read_text(encoding="utf-8"))["api"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if answers(url, timeout_s=3) else None


def local_api(host: str, port: int) -> str:
    """The URL at which this machine reaches a server that listens on `host`."""
    host = {"0.0.0.0": LOCAL_HOST, "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/api"


def answers(api: str, timeout_s: float = 0.5) -> bool:
    """Whether a Prefect API is alive at this URL."""
    try:
        with urllib.request.urlopen(f"{api.rstrip('/')}/health", timeout=timeout_s) as reply:
            return bool(reply.read().strip() == b"true")
    except (OSError, ValueError, HTTPException):
        # ValueError, HTTPException: another program answers there, or the port is free and in the
        # range for outgoing connections, so that the request has connected to itself.
        return False


def start_server(port: int, environment: dict[str, str]) -> Callable[[], str]:
    """Start a Prefect server on `port` that ends with this process, and set PREFECT_API_URL.

    Returns a function that waits until it answers and returns the URL of its API, or raises
    `ServerDown`.
    """
    return Server(LOCAL_HOST, port, environment).wait_until_ready


class Server:
    """A Prefect server that this process starts and that ends with it."""

    def __init__(
        self, host: str, port: int, environment: dict[str, str], log: Path | None = None
    ) -> None:
        """Start the server; `log` is the file for its error messages."""
        self.api = os.environ["PREFECT_API_URL"] = local_api(host, port)
        prefect_home().mkdir(parents=True, exist_ok=True)
        # Two servers that migrate a new database at the same time fail.
        self._lock = (prefect_home() / "modelmint-start.lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._log = log.open("w+b") if log else tempfile.TemporaryFile()  # noqa: SIM115
        self.process = _start(host, port, environment, self._log)
        # Registered before Prefect's own exit handlers, so it runs after they have sent the logs.
        atexit.register(self.stop)

    def wait_until_ready(self) -> str:
        """Wait until the server answers. Returns the URL of its API. Raises `ServerDown`."""
        deadline = time.monotonic() + START_LIMIT_S
        while not answers(self.api) or self.process.poll() is not None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                line = self._last_line()
                raise ServerDown(f"the Prefect server at {self.api} did not start: {line}")
            time.sleep(0.05)
        self._lock.close()
        return self.api

    def stop(self) -> None:
        """Stop the server: SIGTERM, then SIGKILL after 2 s. Does nothing if it has ended."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._lock.close()
        atexit.unregister(self.stop)

    def _last_line(self) -> str:
        """The last line of its log."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        lines = [line.strip() for line in lines if line.strip()]
        return lines[-1] if lines else f"it did not answer within {START_LIMIT_S:g} s"


def _start(host: str, port: int, environment: dict[str, str], log: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(Path(__file__).parents[1])]
    command += ["--factory", "flows.server_app:create", "--host", host]
    command += ["--port", str(port), "--log-level", "error", "--lifespan", "on"]
    return subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
        start_new_session=True,  # Ctrl-C must not end it before the flow has reported its end
        # SIGKILL: a server that waits for its clients would block the port for the next one.
        preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),
    )


def write_note(api: str) -> None:
    """Write the server's URL to a file, where other commands of this user find it."""
    path = prefect_home() / NOTE
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"api": api}) + "\n", encoding="utf-8")
    part.replace(path)


def remove_note(api: str) -> None:
    """Remove the note, unless it names another server by now."""
    path = prefect_home() / NOTE
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(path.read_text(encoding="utf-8"))["api"] == api:
            path.unlink()


def prefect_home() -> Path:
    return Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()


def _url_of_active_profile() -> str | None:
    """PREFECT_API_URL of the active Prefect profile. Importing Prefect to read it takes 1 s."""
    path = Path(os.environ.get("PREFECT_PROFILES_PATH", prefect_home() / "profiles.toml"))
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    name = os.environ.get("PREFECT_PROFILE", document.get("active", ""))
    url = document.get("profiles", {}).get(name, {}).get("PREFECT_API_URL")
    return str(url) if url else None
