"""A `modelmint serve` that tells, a pass at a time, and what it has to tell."""

from flows.notify.attempt import Attempt
from flows.notify.channels import Channel, Channels
from flows.notify.message import EVENTS
from flows.notify.outbox import Outbox
from flows.notify.state import project_state
from flows.notify.watcher import Watcher
from flows.settings import Settings

UI = "http://127.0.0.1:4200"


class Serve:
    """The watcher of a `modelmint serve`, a pass at a time; `restart` begins with its files."""

    def __init__(self, settings=None, events=EVENTS, path=None, runs=True):
        self.settings = settings or Settings.from_environment()
        self.path = path or project_state(self.settings.root)
        self.events, self.runs = frozenset(events), runs
        self.got, self.said = [], []
        self.watcher = None
        self.restart()

    def end(self):
        """Let go of the registry, as the kernel does when a process ends."""
        watched = self.watcher and self.watcher._registry
        if watched and watched.lock:
            watched.lock.close()

    def restart(self):
        self.end()
        channel = Channel("command", "test", {})
        outbox = Outbox(self.path, [channel], self.send)
        channels = Channels((channel,), self.events)
        self.watcher = Watcher(self.settings, channels, outbox, UI, self.said.append)
        if not self.runs:  # the test has no Prefect server
            self.watcher._read_runs = list

    def send(self, _channel, message):
        self.got.append(message)
        return Attempt(True, "")

    def told(self):
        """What one pass sends: event and subject."""
        before = len(self.got)
        self.watcher.look()
        self.watcher.send()
        return [(message.event, message.subject) for message in self.got[before:]]


def job(registry, *, drift=None, error=None, output="/out", flow_run_id=None):
    started = registry.start_job(
        registry.resolve("digits"), input_sha256="0" * 64, output=output, flow_run_id=flow_run_id
    )
    if error:
        return registry.fail_job(started, error)
    return registry.finish_job(started, rows=200, provider="CPU", onnxruntime="1", drift=drift)
