"""Keeps the process that tells people running, beside the server and the runner of `serve`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from flows.notify.channels import read_channels, take_variables
from flows.notify.conditions import Conditions, cause_of
from flows.notify.message import message
from flows.notify.outbox import Outbox
from flows.notify.state import lock_state, project_state
from flows.notify.watcher import DO_NOT_RESTART, SERVE
from tasks.process import die_with_parent

PAUSES = (0, 5, 30, 120)
"""Seconds before it is started again, for the first, second, ... end; then always the last. It is
started again without limit: it must never end `serve`."""


class WatcherProcess:
    """The watcher, if notifications or metrics are wanted."""

    def __init__(self, root: Path, say: Callable[[str], None], metrics: str | None) -> None:
        """Takes the variables of notifications out of the environment of this process.

        Raises:
            InputError: one of them has another form.
        """
        self._channels = read_channels(os.environ)
        self._variables: Mapping[str, str] = take_variables(os.environ)
        self._wanted = bool(self._channels.channels) or metrics is not None
        self._root, self._say, self._metrics = root, say, metrics
        self._process: subprocess.Popen[bytes] | None = None
        self._ends, self._next = 0, 0.0

    def watch(self, api: str) -> None:
        """Start it, or start it again if it has ended. Returns at once."""
        if not self._wanted or time.monotonic() < self._next:
            return
        if self._process is None:
            self._start(api)
        elif (status := self._process.poll()) is not None:
            self._process = None
            if status == DO_NOT_RESTART:
                self._wanted = False
                self._say(
                    "Nobody is notified, and no metrics are served, until serve is restarted."
                )
                return
            pause = PAUSES[min(self._ends, len(PAUSES) - 1)]
            self._ends, self._next = self._ends + 1, time.monotonic() + pause
            self._say(f"The process that notifies ended with status {status}; restarting it ...")

    def stop(self) -> None:
        """End it. What was not sent is in a file, and is sent after the next start."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def tell_stopped(self, reason: str) -> None:
        """Tell that `serve` gives up: nobody else can. Once, however often it is started again."""
        if not self._channels.channels or "stopped" not in self._channels.events:
            return
        self.stop()
        path, now = project_state(self._root), datetime.now(UTC)
        if (lock := lock_state(path)) is None:
            return
        with lock, suppress(OSError):
            outbox = Outbox(path, self._channels.channels)
            conditions = Conditions(outbox.content.setdefault(SERVE, {}))
            if conditions.begin(SERVE, [cause_of(reason)], now):
                name = self._root.name
                title = f"modelmint serve of {name} has stopped"
                key = now.isoformat()
                found = message(
                    "stopped", name, title, reason, project=name, key=key, reason=reason
                )
                outbox.add([found])
            outbox.save()
            for line in outbox.send():
                self._say(f"notification not sent: {line}")

    def _start(self, api: str) -> None:
        command = [sys.executable, "-P", "-m", "flows.notify.watcher"]
        self._process = subprocess.Popen(
            command + ([self._metrics] if self._metrics else []),
            cwd=self._root,
            env={**os.environ, **self._variables, "PREFECT_API_URL": api},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # as the runner
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),
        )
