"""The progress of downloads in several threads, and their end when one of them fails."""

import threading
import time
from collections.abc import Callable, Sequence

from flows.objects import Object

_EVERY_S = 0.5


class Stopped(Exception):
    """Another download failed."""


class DownloadProgress:
    """Says now and then how much is downloaded; from any thread."""

    def __init__(self, objects: Sequence[Object], say: Callable[[str], None]) -> None:
        self._total, self._number = sum(found.size for found in objects), len(objects)
        self._say, self._lock = say, threading.Lock()
        self._done, self._next = 0, time.monotonic() + _EVERY_S
        self._stopped = False

    def add(self, size: int) -> None:
        """So many bytes more. Raises `Stopped` in a thread whose job has failed."""
        with self._lock:
            if self._stopped:
                raise Stopped
            self._done += size
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + _EVERY_S
            done, total = self._done / 1e6, self._total / 1e6
            self._say(f"{done:,.1f} of {total:,.1f} MB in {self._number:,} objects downloaded")

    def stop(self) -> None:
        self._stopped = True
