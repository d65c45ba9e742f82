"""The Prefect server a flow reports to: one that answers, or a temporary one of our own.

Prefect would start a temporary server too, but one that outlives a killed flow, and only once the
flow begins. This one is started first, so that it wakes up while Prefect is being imported, and
dies with its parent.
"""

import atexit
import fcntl
import importlib.util
import os
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tasks.process import die_with_parent

LOCAL_PORT = 4200
LOCAL_API = f"http://127.0.0.1:{LOCAL_PORT}/api"
START_LIMIT_S = 120.0
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
    `say` is told, in one line, when none was running.

    Raises:
        ServerDown: PREFECT_API_URL or the active profile names a server that does not answer.
    """
    if url := find_api():
        return lambda: url
    say(ADVICE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return start_server(port, TEMPORARY)


def find_api() -> str | None:
    """The Prefect API that is configured, or runs at the usual place; None where none does.

    Also sets PREFECT_API_URL, for Prefect to find, and settings that keep it quiet.

    Raises:
        ServerDown: PREFECT_API_URL or the active profile names a server that does not answer.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    url = os.environ.get("PREFECT_API_URL") or _url_of_active_profile()
    if url and not answers(url, patience_s=5):
        raise ServerDown(
            f"PREFECT_API_URL is {url}, and no Prefect server answers there. "
            "Start it, or unset PREFECT_API_URL and remove it from the Prefect profile."
        )
    if not url and answers(LOCAL_API):
        url = LOCAL_API
    if url:
        os.environ["PREFECT_API_URL"] = url
    return url


def answers(api: str, patience_s: float = 0.5) -> bool:
    """Whether a Prefect API is alive at this URL."""
    try:
        with urllib.request.urlopen(f"{api.rstrip('/')}/health", timeout=patience_s) as reply:
            return bool(reply.read().strip() == b"true")
    except (OSError, ValueError):
        return False


def start_server(port: int, environment: dict[str, str]) -> Callable[[], str]:
    """Start a Prefect server on this machine's `port`, for as long as this process lives.

    Returns a function that waits until it answers and returns the URL of its API, which
    PREFECT_API_URL holds from now on. The function raises `ServerDown`.
    """
    url = os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    prefect_home().mkdir(parents=True, exist_ok=True)
    # Servers that start together on a new database would migrate it together, and fail.
    lock = (prefect_home() / "modelmint-start.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    process = _start(port, environment)
    # Registered before Prefect is imported, so it runs after Prefect has sent its last logs.
    atexit.register(_stop, process)

    def ready() -> str:
        deadline = time.monotonic() + START_LIMIT_S
        while not answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerDown(
                    f"the Prefect server did not start within {START_LIMIT_S:g} s on port {port}. "
                    "`prefect server start` shows why."
                )
            time.sleep(0.05)
        lock.close()
        return url

    return ready


def _start(port: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    spec = importlib.util.find_spec("prefect")
    assert spec is not None
    assert spec.origin is not None
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(Path(spec.origin).parent)]
    command += ["--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--log-level", "error", "--lifespan", "on"]
    return subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the flow, which reports its end to this server
        preexec_fn=partial(die_with_parent, os.getpid()),
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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
