"""The process that tells people and answers Prometheus: a child of `modelmint serve`.

`python -m flows.notify.watcher [HOST:PORT]`, with PREFECT_API_URL. It is a process of its own, so
that a mail server that hangs, or anything else here, cannot fail or delay a run or a job.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Any

from flows.deploy import deployed_name, deployed_names
from flows.links import prefect_ui
from flows.notify.channels import Channels, read_channels, take_variables
from flows.notify.conditions import Conditions
from flows.notify.message import Message
from flows.notify.models import ModelWatch
from flows.notify.outbox import Outbox
from flows.notify.runs import RunWatch
from flows.notify.state import lock_state, project_state, read_state, registry_state, write_state
from flows.settings import Settings
from registry import Job, NoRegistry, RegistryError

EVERY_S = 10.0
SERVE = "serve"
"""The condition that `serve` itself gives up."""
SERVE_WORKS_S = 3600.0
"""Seconds without giving up after which it counts as working again: systemd may start it anew
every few minutes, and each of these must not send a mail."""
DO_NOT_RESTART = 2
"""Exit status for an error that a restart cannot fix."""


class Watcher:
    """Looks for causes and sends what is due. Call `look` and `send` again and again."""

    def __init__(
        self,
        settings: Settings,
        channels: Channels,
        outbox: Outbox,
        ui: str,
        say: Callable[[str], None],
    ) -> None:
        self._settings, self._events, self._outbox = settings, channels.events, outbox
        self._say = say
        self._project = settings.root.name
        self._ui = ui
        RunWatch(outbox.content.setdefault("runs", {}), self._project, ui)  # begins now
        self._registry: _Watched | None = None
        self._was_missing = False
        self._said: dict[str, str] = {}

    def look(self) -> None:
        """Look for causes and queue their messages. What cannot be read is said, and read later."""
        found: list[Message] = []
        stopped = Conditions(self._outbox.content.setdefault(SERVE, {}))
        stopped.end(SERVE, datetime.now(UTC), SERVE_WORKS_S)
        # The runs first: the jobs of a run that has ended are then all in the registry.
        with self._reporting("Prefect"):
            found += self._read_runs()
        keep: Callable[[], None] | None = None
        with self._reporting("the registry"):
            more, keep = self._read_registry()
            found += more
        with self._reporting("the file of what waits"):
            self._outbox.add(message for message in found if message.event in self._events)
            if keep:
                keep()  # after the messages: killed in between, they are found again, and known

    def send(self) -> None:
        with self._reporting("the file of what waits"):
            for line in self._outbox.send():
                self._say(f"notification not sent, will be tried again: {line}")

    def _read_runs(self) -> list[Message]:
        from prefect.client.orchestration import get_client

        path = self._settings.root / "prefect.yaml"
        suffix = deployed_name("", self._settings.root)
        names = {name: name.removesuffix(suffix) for name in deployed_names(path)}
        with get_client(sync_client=True) as client:
            content = deepcopy(self._outbox.content["runs"])  # kept only if all could be read
            found = RunWatch(content, self._project, self._ui).read(client, names, self._jobs)
        self._outbox.content["runs"] = content
        return found

    def _jobs(self, since: datetime, until: datetime) -> list[Job]:
        try:
            with self._settings.open_registry() as registry:
                return registry.jobs_between(since, until)
        except RegistryError:  # then it is a failed run like others
            return []

    def _read_registry(self) -> tuple[list[Message], Callable[[], None] | None]:
        """Messages, and what keeps in its file that they were found."""
        try:
            with self._settings.open_registry() as registry:
                if self._registry is None:
                    self._registry = _Watched.open(registry.id)
                watched = self._registry
                if watched.lock is None and not watched.take():
                    self._once("registry", watched.others)
                    return [], None
                content = deepcopy(watched.content)
                watch = ModelWatch(content, self._project)
                if self._was_missing:
                    watch.begin_empty(registry)
                return watch.read(registry), partial(watched.save, content)
        except NoRegistry:
            self._was_missing = True
            return [], None

    def _once(self, what: str, text: str) -> None:
        """Say something only if it differs from what was said of it last."""
        if self._said.get(what) != text:
            self._said[what] = text
            self._say(text)

    def _reporting(self, what: str) -> "_Reporting":
        return _Reporting(self, what)


class _Reporting:
    """Says an error once, and goes on: whatever fails here must not end the process."""

    def __init__(self, watcher: Watcher, what: str) -> None:
        self._watcher, self._what = watcher, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> bool:
        if error is None:
            self._watcher._said.pop(self._what, None)
            return False
        if not isinstance(error, Exception):
            return False
        text = f"notifications: {self._what} cannot be read or written now, trying again: {error!r}"
        self._watcher._once(self._what, text)
        return True


class _Watched:
    """The file of a registry. One process of a user has it locked and tells of the models."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.content: dict[str, Any] = {}
        self.lock: IO[str] | None = None

    @classmethod
    def open(cls, number: str) -> "_Watched":
        return cls(registry_state(number))

    @property
    def others(self) -> str:
        return (
            "notifications: another `modelmint serve` with this registry tells of its models; this "
            "one tells of its own runs only, until that one ends"
        )

    def take(self) -> bool:
        self.lock = lock_state(self._path)
        if self.lock:
            self.content = read_state(self._path)
        return self.lock is not None

    def save(self, content: dict[str, Any]) -> None:
        self.content = content
        write_state(self._path, content)


def run(root: Path, metrics: str | None, say: Callable[[str], None]) -> int:
    """Watch until the process is ended. Returns an exit status if it cannot begin."""
    settings, channels = Settings.from_environment(), read_channels(os.environ)
    take_variables(os.environ)
    api = os.environ["PREFECT_API_URL"]
    path = project_state(root)
    if (lock := lock_state(path)) is None:
        say(f"notifications: another process works on {path}")
        return DO_NOT_RESTART
    with lock:
        if metrics:
            from flows.metrics import serve_metrics

            say(f"metrics: {serve_metrics(settings, metrics, path)}")
        while not channels.channels:
            signal.pause()
        outbox = Outbox(path, channels.channels)
        for name, number in outbox.forgotten.items():
            say(f"notifications: {number} waited for {name}, which is not set any more")
        say("notifications: " + ", ".join(f"{c.name} ({c.target})" for c in channels.channels))
        watcher = Watcher(settings, channels, outbox, prefect_ui(api), say)
        while True:
            watcher.look()
            watcher.send()
            time.sleep(EVERY_S)


def _end(number: int, frame: FrameType | None) -> None:
    # At once, whatever is being sent: all is in files, and a child that sends dies with us.
    os._exit(0)


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    # Without retries, which take half a minute: we come again in a few seconds anyway.
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "0")

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    sys.exit(run(Path.cwd(), sys.argv[1] if len(sys.argv) > 1 else None, say))


if __name__ == "__main__":
    main()
