"""Helper processes that compute hashes: canonical JSON is pure Python, so threads do not help.

Not `multiprocessing`: its processes run the caller's script again, and a script without a main
guard would register or train again. These processes read lines of JSON and answer with one each.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from registry.integrity import seals
from registry.integrity.snapshot import AT_ONCE, Row
from registry.records import Problem

_WORTH_IT = 2_000
"""With fewer versions, starting processes takes longer than they save."""

_SERVE = "from registry.integrity.helpers import serve; serve()"

_TASKS: dict[str, Callable[[str, list[Row]], list[Any]]] = {
    "events": seals.edited_events,
    "versions": seals.edited_versions,
}


class Helpers:
    """Runs tasks here or in background processes; after `finish`, `problems` has the results."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self._free: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
        for process in processes:
            self._free.put(process)
        self._pool = ThreadPoolExecutor(len(processes)) if processes else None
        self._waiting: list[tuple[str, Future[list[Any]]]] = []
        self.problems: list[Problem] = []

    def edited_events(self, name: str, rows: list[Row]) -> set[int]:
        """The ids of events whose content does not match their hash."""
        pieces = [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]
        futures = [self._begin("events", name, piece) for piece in pieces]
        return {id_ for future in futures for id_ in future.result()}

    def check_versions(self, name: str, found: list[Row]) -> None:
        """Start to compare versions with their seals."""
        self._waiting.append((name, self._begin("versions", name, found)))
        while len(self._waiting) > 16:  # otherwise all rows would be in memory
            self._take()

    def finish(self) -> None:
        """Wait for all tasks."""
        while self._waiting:
            self._take()

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def _take(self) -> None:
        name, future = self._waiting.pop(0)
        for number, what in future.result():
            self.problems.append(Problem(f"{name}:{number}", "", what))

    def _begin(self, task: str, name: str, rows: list[Row]) -> Future[list[Any]]:
        if self._pool:
            return self._pool.submit(self._run_in_process, task, name, rows)
        done: Future[list[Any]] = Future()
        done.set_result(_TASKS[task](name, rows))
        return done

    def _run_in_process(self, task: str, name: str, rows: list[Row]) -> list[Any]:
        process = self._free.get()
        assert process.stdin is not None, "it is a pipe"
        assert process.stdout is not None, "it is a pipe"
        try:
            process.stdin.write(json.dumps([task, name, rows]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = ""
        finally:
            self._free.put(process)
        # If the process was killed, perhaps for lack of memory, compute the result here.
        found: list[Any] = json.loads(answer) if answer else _TASKS[task](name, rows)
        return found


@contextmanager
def start_helpers(versions: int) -> Iterator[Helpers]:
    """Helpers for a registry with `versions` versions: one process per core, or none."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    processes = []
    try:
        if versions >= _WORTH_IT and cores > 1:
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            for _ in range(cores):
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-c", _SERVE],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                        encoding="utf-8",
                        env=environment,
                    )
                )
        helpers = Helpers(processes)
        yield helpers
        helpers.close()
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def serve() -> None:
    """The main loop of a helper process: answer tasks until the input ends.

    The parent may be killed at any moment: in the middle of a line, or before the answer.
    """
    for line in sys.stdin:
        if not line.endswith("\n"):
            return
        task, name, rows = json.loads(line)
        try:
            print(json.dumps(_TASKS[task](name, rows)), flush=True)
        except BrokenPipeError:
            # An ordinary exit would flush stdout again and print an error.
            os._exit(0)
