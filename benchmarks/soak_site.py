"""The project that benchmarks/soak.py serves, its database servers, and what is asked of them."""

import atexit
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.power_cuts import MODELMINT, Failed, Site
from tests.helpers import servers

INBOXES = 4
ROWS = 20
PATIENCE_S = 900.0
"""A busy machine needs minutes for what takes seconds on an idle one."""
PAGE = 200
"""As many runs or logs as Prefect's API returns at once."""
FLOW_RUN = b"PREFECT__FLOW_RUN_ID="


class Postgres:
    """A PostgreSQL server that can be killed and started again with the same data."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        folder.chmod(0o755)
        self._folder, self.port = folder, servers._free_port()
        servers._initialize(folder)
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"
        self.start()
        atexit.register(self._end)

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._folder}"
        self._control("start", "-w", "-l", str(self._folder / "log"), "-o", options)

    def kill(self) -> None:
        """Stop it as a crash would: without a checkpoint, and with a recovery at the next start."""
        self._control("stop", "-m", "immediate")

    def _end(self) -> None:
        with contextlib.suppress(Failed, OSError):  # its folder is removed if all went well
            self.kill()

    def size(self) -> int:
        """Bytes of the database."""
        with psycopg.connect(self.url.replace("+psycopg", "")) as connection:
            row = connection.execute("SELECT pg_database_size('postgres')").fetchone()
            assert row is not None
            return int(row[0])

    def _control(self, *arguments: str) -> None:
        command = [servers._postgres_binary("pg_ctl"), "-D", str(self._folder / "data")]
        user = servers._as_user(servers._postgres_user())
        # To files: the server keeps its output open, so a pipe would never end.
        with (self._folder / "pg_ctl.log").open("ab") as log:
            command += arguments
            done = subprocess.run(command, stdout=log, stderr=log, cwd=self._folder, **user)
        if done.returncode:
            raise Failed(f"pg_ctl {arguments[0]} failed: see {self._folder}")


class Served(Site):
    """A project with a training and four inboxes, each with its own schedule."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.prefect = Path(self.environment["PREFECT_HOME"]) / "prefect.db"
        self._rows = self._read_rows()
        self.dropped = 0
        self.table: list[tuple[str, str, str, bool]] = []

    def until(self, what: str, true: Callable[[], Any], limit: float = PATIENCE_S) -> Any:
        return super().until(what, true, limit)

    def expect(self, what: str, measured: object, wanted: str, met: bool) -> None:
        """Note a line of the table."""
        self.table.append((what, str(measured), wanted, met))
        print(f"{'ok    ' if met else 'BROKEN'} {what}: {measured} (wanted: {wanted})", flush=True)

    def schedule(self, training_s: float | None, inbox_s: float | None) -> None:
        """Write prefect.yaml with these intervals; None: no schedule."""

        def edit(document: Any) -> None:
            named = {entry["name"]: entry for entry in document["deployments"]}
            weekly, hourly, request = named["weekly"], named["hourly"], named["on-request"]
            weekly["schedules"] = [{"interval": training_s}] if training_s else []
            inboxes = []
            for number in range(INBOXES):
                given = {"model": "digits@champion", "new": True}
                given |= {"inputs": [f"data/inbox-{number}"], "output": f"predictions-{number}"}
                inboxes.append({**hourly, "name": f"inbox{number}", "parameters": given})
                inboxes[-1]["schedules"] = [{"interval": inbox_s}] if inbox_s else []
            document["deployments"] = [weekly, *inboxes, request]

        (self.root / "prefect.yaml").write_text((self.root / "prefect.first.yaml").read_text())
        self.change("prefect.yaml", edit)

    def _make(self) -> None:
        super()._make()
        kept = (self.root / "prefect.yaml").read_text()
        (self.root / "prefect.first.yaml").write_text(kept)
        for number in range(INBOXES):
            (self.root / f"data/inbox-{number}").mkdir(parents=True)
        self.schedule(None, None)

    def _read_rows(self) -> pa.Table:
        self.run(MODELMINT, "train")
        with pa.memory_map(str(self.root / "data/prepared/test.arrow")) as file:
            return pa.ipc.open_file(file).read_all()

    def drop_file(self) -> None:
        """Put a new file of 20 rows into an inbox; each has other rows, or another order."""
        inbox = self.root / f"data/inbox-{self.dropped % INBOXES}"
        rows = self._rows.take(random.sample(range(self._rows.num_rows), ROWS))
        path = inbox / f"rows-{self.dropped:04}.arrow"
        part = path.with_suffix(".part")
        with pa.OSFile(str(part), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
            writer.write_table(rows)
        part.rename(path)
        self.dropped += 1

    def start_run(self, deployment: str, **parameters: Any) -> dict[str, Any]:
        """Start a run of a served deployment by hand."""
        number = self.until(deployment, lambda: self.deployments().get(deployment))["id"]
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        path = f"deployments/{number}/create_flow_run"
        run: dict[str, Any] = self.until("a new run", lambda: self.ask(path, body))
        return run

    def every_run(self) -> list[dict[str, Any]]:
        """All flow runs."""
        return list(self._pages("flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"}))

    def logged(self, text: str) -> int:
        """How many lines of the logs of `serve`, the server and the runs contain a text."""
        logs = [self.log, self.prefect.parent / "modelmint-server.log"]
        lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
        return sum(text in line for line in lines)

    def prefect_size(self) -> int:
        """Bytes of Prefect's database, with what is not yet merged into it."""
        with closing(sqlite3.connect(self.prefect, timeout=60)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self.prefect.stat().st_size

    def run_processes(self) -> dict[str, list[int]]:
        """The processes of each flow run, by its id."""
        found: dict[str, list[int]] = {}
        for process in self.processes():
            try:
                variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
            except OSError:  # it has ended
                continue
            for variable in variables:
                if variable.startswith(FLOW_RUN):
                    found.setdefault(variable[len(FLOW_RUN) :].decode(), []).append(process)
        return found

    def kill_run(self, number: str) -> bool:
        """Kill the process of a flow run, not its stages. Returns whether there is one."""
        flows = [p for p in self.run_processes().get(number, []) if is_flow(p)]
        for process in flows:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                return False
        return bool(flows)

    def _pages(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            asked = {**body, "limit": PAGE, "offset": offset}
            page = self.until(path, lambda a=asked: (self.ask(path, a),))[0] or []
            yield from page
            if len(page) < PAGE:
                return
            offset += PAGE


def is_flow(process: int) -> bool:
    """Whether this is the process that Prefect's runner started for a run."""
    try:
        return b"prefect" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def when(text: str) -> float:
    """A time of Prefect's API in seconds since 1970."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def busy(number: int) -> list[subprocess.Popen[bytes]]:
    """Processes that only compute."""
    code = "while True: sum(range(100000))"
    return [subprocess.Popen([sys.executable, "-c", code]) for _ in range(number)]
