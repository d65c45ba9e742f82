"""Real servers for the tests, on the loopback interface: PostgreSQL, and moto for S3.

A server ends with the process that started it, also after SIGKILL. Every worker of pytest-xdist has
its own, so workers need no coordination.
"""

import atexit
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

import psycopg
from psycopg.sql import SQL, Identifier

START_LIMIT_S = 60.0
POSTGRES_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "16MB",
}

# A shell between us and a server. Its standard input is a pipe that closes when we end; then it
# stops the server and removes the folder, which a signal from the kernel could not.
GUARD = """
signal=$1 folder=$2; shift 2
exec 3<&0
"$@" < /dev/null 3<&- &
server=$!
(read -r line <&3; kill -s "$signal" "$server") &
waiter=$!
wait "$server"; status=$?
kill "$waiter" 2> /dev/null
rm -rf "$folder"
exit "$status"
"""


class ServerFailed(RuntimeError):
    """A server for the tests did not start."""


def start_postgres(**settings: str) -> str:
    """Start a PostgreSQL server with an empty cluster. Returns the URL of its superuser.

    `settings` override the default settings of the tests.
    """
    for _ in range(3):  # another program may take the port between the probe and the server
        folder = Path(tempfile.mkdtemp(prefix="modelmint-postgres-", dir=memory_folder()))
        _initialize(folder)
        port = _free_port()
        options = POSTGRES_OPTIONS | settings
        options |= {"port": str(port), "unix_socket_directories": str(folder)}
        command = [_postgres_binary("postgres"), "-D", str(folder / "data")]
        command += [word for name in options for word in ("-c", f"{name}={options[name]}")]
        # QUIT, because TERM waits for all clients.
        process, log = _start_guarded(command, "QUIT", folder, _postgres_user())
        state = folder / "data" / "postmaster.pid"
        deadline = time.monotonic() + START_LIMIT_S
        while process.poll() is None and time.monotonic() < deadline:
            # Read its file: a connection could reach the server of another program.
            if "ready" in _text(state).split():
                return f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
            time.sleep(0.02)
        _stop(process)
    raise ServerFailed(f"PostgreSQL did not start:\n{_everything(log)}")


def memory_folder() -> Path | None:
    """Where temporary folders can be in memory; None if there is too little room."""
    memory = Path("/dev/shm")
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30
    return memory if roomy else None


def create_database(base_url: str, template: str = "template0", name: str = "") -> str:
    """Make a database on the server of `start_postgres`. Returns its SQLAlchemy URL.

    The template must have no connections; template0, which is empty, never has any.
    """
    name = name or f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(_libpq(base_url), autocommit=True) as connection:
        new = SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template))
        if connection.info.server_version >= 150_000:
            # Copies the files, as older ones do; the new way takes 0.1 CPU seconds instead of 0.03.
            new += SQL(" STRATEGY FILE_COPY")
        connection.execute(new)
    return f"{base_url.rpartition('/')[0]}/{name}"


def drop_database(url: str) -> None:
    """Drop a database of `create_database` (7 MB) and close its connections."""
    server, _, name = url.rpartition("/")
    with psycopg.connect(_libpq(f"{server}/postgres"), autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))


def start_s3() -> str:
    """Start an S3 server that keeps its objects in memory. Returns its endpoint URL.

    It accepts any credentials and supports If-None-Match. It stores a ChecksumSHA256 if
    ChecksumAlgorithm is given too, but never compares it with the body.
    """
    folder = Path(tempfile.mkdtemp(prefix="modelmint-s3-"))
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    process, log = _start_guarded(command, "TERM", folder)
    deadline = time.monotonic() + START_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(r"Running on (http://[\d.:]+)\n", _everything(log)):
            return found[1]
        time.sleep(0.02)
    _stop(process)
    raise ServerFailed(f"the S3 server did not start:\n{_everything(log)}")


def create_bucket(endpoint: str) -> str:
    """Make an empty bucket on the server of `start_s3`. Returns its name."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    request = urllib.request.Request(f"{endpoint}/{name}", method="PUT")
    with urllib.request.urlopen(request, timeout=START_LIMIT_S):
        return name


def s3_environment(endpoint: str) -> dict[str, str]:
    """Variables by which an S3 client finds the server, and that hide the user's configuration."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _initialize(folder: Path) -> None:
    """Make the cluster; it sorts text by bytes, as SQLite does."""
    if user := _postgres_user():
        shutil.chown(folder, user)
    command = [_postgres_binary("initdb"), "-D", str(folder / "data"), "-U", "postgres"]
    command += ["-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, **_as_user(user))
    if done.returncode:
        shutil.rmtree(folder)
        raise ServerFailed(f"initdb failed:\n{done.stdout}\n{done.stderr}")


def _postgres_binary(name: str) -> str:
    """The newest installed program of that name; Debian does not put them on PATH."""
    installed = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    newest = max(installed, key=lambda path: float(path.parts[4]), default=None)
    found = shutil.which(name) or newest
    if found is None:
        raise ServerFailed(f"{name} of PostgreSQL is not installed; `make test-tools` installs it")
    return str(found)


def _postgres_user() -> str | None:
    """The user to run the server as if we are root, which PostgreSQL refuses; else None."""
    if os.geteuid():
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _as_user(user: str | None) -> dict:
    """Arguments to `subprocess` for another user; only root may use them."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _start_guarded(
    command: Sequence[str], signal: str, folder: Path, user: str | None = None
) -> tuple[subprocess.Popen[bytes], IO[str]]:
    """Run a server until this process ends; then it gets `signal` and its folder is removed."""
    # In append mode, because reading here would otherwise move the server's write position. The
    # open file stays readable after the folder is removed.
    log = (folder / "log").open("a+")
    process = subprocess.Popen(
        ["/bin/sh", "-c", GUARD, "guard", signal, str(folder), *command],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C must reach only the tests, which still need the server
        **_as_user(user),
    )
    atexit.register(_stop, process)
    return process, log


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(timeout=START_LIMIT_S)


def _everything(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # not there yet
        return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _libpq(url: str) -> str:
    return url.replace("+psycopg", "", 1)


@contextmanager
def dying_server() -> Iterator[str]:
    """The URL of an API that says it is alive, and drops every other request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("/health"):
                self.send_response(200)
                self.send_header("content-length", "4")
                self.end_headers()
                self.wfile.write(b"true")
            self.close_connection = True

        do_POST = do_GET

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
        server.shutdown()
