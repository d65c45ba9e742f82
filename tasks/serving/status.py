"""How far a batch job is, for a person who waits for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from tasks.serving.folder import JobFolder
from tasks.serving.plan import Plan

EVERY_S = 0.5
"""A job tells how far it is this often, and at its end."""


@dataclass(frozen=True)
class Status:
    """What of a job is done by now."""

    rows: int
    all_rows: int
    before: int
    """Of `rows`, those that an earlier command had predicted."""
    shards: int
    all_shards: int
    workers: int
    """Threads of this process, or processes of a cluster that are there now."""
    seconds: float
    """Since the first shard was begun."""

    @property
    def rows_left(self) -> int:
        return self.all_rows - self.rows

    @property
    def rows_per_second(self) -> float:
        """Of this command, so far."""
        return (self.rows - self.before) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the speed so far; None before anything is done."""
        speed = self.rows_per_second
        return self.rows_left / speed if speed else None

    @property
    def percent(self) -> float:
        return 100 * self.rows / self.all_rows if self.all_rows else 100.0

    def __str__(self) -> str:
        left = "" if self.seconds_left is None else f"{_duration(self.seconds_left)} left, "
        workers = "1 worker" if self.workers == 1 else f"{self.workers:,} workers"
        return (
            f"{self.rows:,} of {self.all_rows:,} rows, {self.rows_left:,} left; "
            f"{self.rows_per_second:,.0f} rows/s, {left}"
            f"{self.shards:,} of {self.all_shards:,} shards, {workers}"
        )


class Meter:
    """Counts the rows and shards of a job, from any number of threads."""

    def __init__(self, plan: Plan, folder: JobFolder) -> None:
        """Begins with what an earlier command has recorded."""
        self._all = (plan.rows, len(plan.shards))
        self._lock = Lock()
        self._done = (0, 0)
        self.look(plan, folder)
        self._before = self._done[0]
        self._began = time.monotonic()

    def add(self, rows: int, shards: int) -> None:
        """Count more of each."""
        with self._lock:
            self._done = (self._done[0] + rows, self._done[1] + shards)

    def look(self, plan: Plan, folder: JobFolder) -> None:
        """Count what is recorded in the folder, whichever process has done it."""
        numbers = folder.recorded()
        self._done = (sum(plan.shards[number].rows for number in numbers), len(numbers))

    def status(self, workers: int) -> Status:
        # A shard whose record was there without its file is counted twice.
        rows, shards = (min(both) for both in zip(self._done, self._all, strict=True))
        took = time.monotonic() - self._began
        return Status(rows, self._all[0], self._before, shards, self._all[1], workers, took)


Tell = Callable[[Status], None]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"
