"""Real servers for the tests, on loopback: PostgreSQL, and moto speaking S3 over HTTP.

Each belongs to the process that started it and ends with it, however that one ends, SIGKILL
included; so every worker of pytest-xdist has its own, and none has to agree with another.
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
import time
import urllib.request
import uuid
from collections.abc import Sequence
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

# A shell between us and a server: its standard input is a pipe that only we hold open, so it ends
# when we do, and then the shell can do what a signal from the kernel cannot: clear the folder.
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
    """A server that the tests need did not start."""


def start_postgres(**settings: str) -> str:
    """Start a PostgreSQL server with an empty cluster: the SQLAlchemy URL of its superuser.

    `settings` of the server go before those that tests want.
    """
    for _ in range(3):  # somebody may take the port between the probe and the server
        folder = Path(tempfile.mkdtemp(prefix="modelmint-postgres-"))
        _initialize(folder)
        port = _free_port()
        options = POSTGRES_OPTIONS | settings
        options |= {"port": str(port), "unix_socket_directories": str(folder)}
        command = [_postgres_binary("postgres"), "-D", str(folder / "data")]
        command += [word for name in options for word in ("-c", f"{name}={options[name]}")]
        # QUIT: TERM would wait until the last client has left.
        process, log = _start_guarded(command, "QUIT", folder, _postgres_user())
        state = folder / "data" / "postmaster.pid"
        deadline = time.monotonic() + START_LIMIT_S
        while process.poll() is None and time.monotonic() < deadline:
            # Not a connection: at this port another's server could answer. This file is ours.
            if "ready" in _text(state).split():
                return f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
            time.sleep(0.02)
        _stop(process)
    raise ServerFailed(f"PostgreSQL did not start:\n{_everything(log)}")


def create_database(base_url: str, template: str = "template0") -> str:
    """A new database on the server that `start_postgres` named: its SQLAlchemy URL.

    Nobody may be connected to the template; to template0, which is empty, nobody ever can.
    """
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(_libpq(base_url), autocommit=True) as connection:
        new = SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(new.format(Identifier(name), Identifier(template)))
    return f"{base_url.rpartition('/')[0]}/{name}"


def drop_database(url: str) -> None:
    """Drop what `create_database` made (7 MB each), connections to it included."""
    server, _, name = url.rpartition("/")
    with psycopg.connect(_libpq(f"{server}/postgres"), autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))


def start_s3() -> str:
    """Start an S3 server, which keeps its objects in memory: its endpoint URL.

    Any credentials are good. Writes with If-None-Match are conditional as they should be. A
    ChecksumSHA256 is kept, where ChecksumAlgorithm is given too, but never compared with the body.
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
    """A new empty bucket on the server that `start_s3` named: its name."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    request = urllib.request.Request(f"{endpoint}/{name}", method="PUT")
    with urllib.request.urlopen(request, timeout=START_LIMIT_S):
        return name


def s3_environment(endpoint: str) -> dict[str, str]:
    """The variables by which an S3 client finds the server, and nothing of the user's own."""
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
    """Make the cluster; its sort order is that of bytes, as in SQLite."""
    if user := _postgres_user():
        shutil.chown(folder, user)
    command = [_postgres_binary("initdb"), "-D", str(folder / "data"), "-U", "postgres"]
    command += ["-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, **_as_user(user))
    if done.returncode:
        shutil.rmtree(folder)
        raise ServerFailed(f"initdb failed:\n{done.stdout}\n{done.stderr}")


def _postgres_binary(name: str) -> str:
    """A program of the PostgreSQL server, which Debian keeps off PATH; the newest there is."""
    installed = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    newest = max(installed, key=lambda path: float(path.parts[4]), default=None)
    found = shutil.which(name) or newest
    if found is None:
        raise ServerFailed(f"{name} of PostgreSQL is not installed; `make test-tools` installs it")
    return str(found)


def _postgres_user() -> str | None:
    """Whom the server runs as: it refuses root. None: as ourselves."""
    if os.geteuid():
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _as_user(user: str | None) -> dict:
    """Arguments to `subprocess`; only root may give them."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _start_guarded(
    command: Sequence[str], signal: str, folder: Path, user: str | None = None
) -> tuple[subprocess.Popen[bytes], IO[str]]:
    """Run a server until this process ends; then it gets `signal`, and its folder goes."""
    # Appending, so that to read it here does not move where the server writes. It stays readable
    # when the folder has gone.
    log = (folder / "log").open("a+")
    process = subprocess.Popen(
        ["/bin/sh", "-c", GUARD, "guard", signal, str(folder), *command],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C is for the tests, which may still talk to the server
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
