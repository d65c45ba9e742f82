"""The Prefect server a flow reports to: one that answers, or one of our own.

Prefect would start a temporary server too, but one that outlives a killed flow, and only once the
flow begins. This one is started first, so that it wakes up while Prefect is being imported, and
dies with its parent. `modelmint serve` starts one that stays, and leaves a note of where it runs.
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

from tasks.process import die_with_parent

LOCAL_HOST = "127.0.0.1"
LOCAL_PORT = 4200
START_LIMIT_S = 120.0
NOTE = "modelmint-server.json"
ADVICE = (
    "No Prefect server answers, so a temporary one is started for this command (a few seconds). "
    "`modelmint serve` in another terminal starts one that stays, with its UI."
)
# Nothing calls home, and nobody waits for what only a server with a UI needs.
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
    # A lasting server does all of this; here it would only hold the database's one write lock.
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


class ServerDown(RuntimeError):
    """A Prefect server was named and does not answer, or none could be started."""


def prefect_api(say: Callable[[str], None]) -> Callable[[], str]:
    """Find or start a Prefect API; the function returned waits until it answers: its URL.

    Between the two a caller may import Prefect, which takes as long as a server takes to start.
    `say` gets one line if none was running.

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
    """The Prefect API that is configured, or that runs on this machine; None where none does.

    Also sets PREFECT_API_URL, for Prefect to find, and settings that keep it quiet.

    Raises:
        ServerDown: PREFECT_API_URL or the active profile names a server that does not answer.
    """
    be_quiet()
    if url := configured_api():
        if not answers(url, patience_s=5):
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
    """Settings by which Prefect and DVC call nobody, unless the user has others."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def configured_api() -> str | None:
    """The API that PREFECT_API_URL or the active Prefect profile names."""
    return os.environ.get("PREFECT_API_URL") or _url_of_active_profile()


def noted_api() -> str | None:
    """The API of the server that a `modelmint serve` of this Prefect home started, if it answers.

    A note that a killed one left names a server that does not.
    """
    try:
        url = str(json.loads((prefect_home() / NOTE).read_text(encoding="utf-8"))["api"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if answers(url, patience_s=3) else None


def local_api(host: str, port: int) -> str:
    """The URL under which this machine reaches a server that listens on `host`."""
    host = {"0.0.0.0": LOCAL_HOST, "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/api"


def answers(api: str, patience_s: float = 0.5) -> bool:
    """Whether a Prefect API is alive at this URL."""
    try:
        with urllib.request.urlopen(f"{api.rstrip('/')}/health", timeout=patience_s) as reply:
            return bool(reply.read().strip() == b"true")
    except (OSError, ValueError, HTTPException):
        # Another program answers there; or nobody does, and on a free port of the range for
        # outgoing connections the request came back to itself.
        return False


def start_server(port: int, environment: dict[str, str]) -> Callable[[], str]:
    """Start a Prefect server on this machine's `port`, for as long as this process lives.

    Returns a function that waits until it answers and returns the URL of its API, which
    PREFECT_API_URL holds from now on. The function raises `ServerDown`.
    """
    return Server(LOCAL_HOST, port, environment).wait_until_ready


class Server:
    """A Prefect server that this process starts, and that ends with it."""

    def __init__(
        self, host: str, port: int, environment: dict[str, str], log: Path | None = None
    ) -> None:
        """Start it; `log` is the file for what it says of errors."""
        self.api = os.environ["PREFECT_API_URL"] = local_api(host, port)
        prefect_home().mkdir(parents=True, exist_ok=True)
        # Servers that start together on a new database would migrate it together, and fail.
        self._lock = (prefect_home() / "modelmint-start.lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._log = log.open("w+b") if log else tempfile.TemporaryFile()  # noqa: SIM115
        self.process = _start(host, port, environment, self._log)
        # Registered before Prefect is imported, so it runs after Prefect has sent its last logs.
        atexit.register(self.stop)

    def wait_until_ready(self) -> str:
        """Wait until it answers: the URL of its API. Raises `ServerDown`."""
        deadline = time.monotonic() + START_LIMIT_S
        while not answers(self.api) or self.process.poll() is not None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ServerDown(f"the Prefect server at {self.api} did not start: {self._last()}")
            time.sleep(0.05)
        self._lock.close()
        return self.api

    def stop(self) -> None:
        """End it, gently first; nothing happens where it has ended."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._lock.close()
        atexit.unregister(self.stop)

    def _last(self) -> str:
        """The last line that it said."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1] if said else f"it did not answer within {START_LIMIT_S:g} s"


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
        start_new_session=True,  # Ctrl-C is for the flow, which reports its end to this server
        # At once: one that waits for its clients to leave would hold the port of its successor.
        preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),
    )


def write_note(api: str) -> None:
    """Tell the other commands of this machine's user where the server is."""
    path = prefect_home() / NOTE
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"api": api}) + "\n", encoding="utf-8")
    part.replace(path)


def remove_note(api: str) -> None:
    """Take the note back, unless it names another server by now."""
    path = prefect_home() / NOTE
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(path.read_text(encoding="utf-8"))["api"] == api:
            path.unlink()


def prefect_home() -> Path:
    return Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()


def _url_of_active_profile() -> str | None:
    """PREFECT_API_URL of the active Prefect profile, without the second that Prefect takes."""
    path = Path(os.environ.get("PREFECT_PROFILES_PATH", prefect_home() / "profiles.toml"))
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    name = os.environ.get("PREFECT_PROFILE", document.get("active", ""))
    url = document.get("profiles", {}).get(name, {}).get("PREFECT_API_URL")
    return str(url) if url else None
