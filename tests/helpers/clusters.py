"""Real Dask clusters: a scheduler and workers, each a process of its own."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from forks import python_code

ROOT = Path(__file__).parents[2]
SCHEDULER = """
import sys
import dask.config
dask.config.refresh()  # read the environment again
from distributed.cli.dask_scheduler import main
main(sys.argv[1:], standalone_mode=False)
"""
# Workers note each record, and may end or wait after a certain one.
WORKER = """
import os, signal, sys, time
from pathlib import Path
from tasks.serving import folder

address, name, log, dies, waits, before, *options = sys.argv[1:]
Path(log).with_name(f"{name}.pid").write_text(str(os.getpid()))
original, calls = folder.JobFolder.record, iter(range(1, 10_000))


def record(self, found):
    number = next(calls)
    if before and number == int(dies):
        os.kill(os.getpid(), signal.SIGKILL)
    original(self, found)
    with open(log, "a") as stream:
        stream.write(f"{name} {found.number}\\n")
    if number == int(dies):
        os.kill(os.getpid(), signal.SIGKILL)
    while number >= int(waits) > 0 and not Path(log).with_name("go").exists():
        time.sleep(0.05)


folder.JobFolder.record = record
if "OTHER_RUNTIME" in os.environ:
    import onnxruntime

    onnxruntime.__version__ = os.environ["OTHER_RUNTIME"]
from distributed.cli.dask_worker import main

main(
    [address, "--name", name, "--no-nanny", "--no-dashboard", "--nthreads", "1", *options],
    standalone_mode=False,
)
"""


@dataclass
class DaskCluster:
    """A scheduler, its workers, and what they have recorded."""

    address: str
    scheduler: subprocess.Popen[str]
    folder: Path
    workers: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def add(
        self,
        name: str,
        *,
        dies: int = 0,
        waits: int = 0,
        before: bool = False,
        cwd: Path | None = None,
        options: tuple[str, ...] = (),
        **variables: str,
    ) -> subprocess.Popen[str]:
        """Start a worker of one thread; returns once the scheduler knows it.

        It kills itself after its record number `dies`, or `before` it; from number `waits` on it
        waits for `go`.
        """
        given = (name, str(self.folder / "records"), str(dies), str(waits), "1" if before else "")
        process = subprocess.Popen(
            python_code(WORKER, self.address, *given, *options),
            cwd=cwd,
            env=environment() | variables,
            stderr=(self.folder / f"{name}.log").open("w"),
        )
        self.workers[name] = process
        wait_for(lambda: "Registered to" in (self.folder / f"{name}.log").read_text(), process)
        return process

    def pid(self, name: str) -> int:
        """The number of the process as the worker itself knows it."""
        return int((self.folder / f"{name}.pid").read_text())

    def stop(self, name: str) -> None:
        """End a worker."""
        self.workers[name].kill()
        self.workers.pop(name).wait()

    def wait_until_idle(self) -> None:
        """Wait until no worker has anything to do."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            # Not a function of this module: a worker could not import it.
            busy = lambda dask_worker: len(dask_worker.active_threads)  # noqa: E731
            wait_for(lambda: not any(client.run(busy).values()))

    def go(self) -> None:
        """Let the workers go on that wait."""
        (self.folder / "go").touch()

    @property
    def records(self) -> list[tuple[str, int]]:
        """The name of the worker and the number of the shard of each record, in order."""
        path = self.folder / "records"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(name, int(number)) for name, number in (line.split() for line in lines)]


def environment() -> dict[str, str]:
    """Of processes that import this checkout and no settings of Dask but these."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    return own | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def wait_for(true, *processes: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait until something is true; fails if one of the processes ends before."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)


@contextmanager
def dask_cluster(folder: Path, **variables: str) -> Iterator[DaskCluster]:
    """A scheduler without workers; logs lie in `folder`. All of it is killed at the end."""
    folder.mkdir()
    log = folder / "scheduler.log"
    scheduler = subprocess.Popen(
        python_code(SCHEDULER, "--host", "127.0.0.1", "--port", "0", "--no-dashboard"),
        env=environment() | variables,
        stderr=log.open("w"),
        text=True,
    )
    cluster = DaskCluster("", scheduler, folder)
    try:
        wait_for(lambda: "Scheduler at:" in log.read_text(), scheduler)
        line = next(line for line in log.read_text().splitlines() if "Scheduler at:" in line)
        cluster.address = line.split()[-1]
        yield cluster
    finally:
        for process in (*cluster.workers.values(), scheduler):
            process.send_signal(signal.SIGKILL)
            process.wait()
