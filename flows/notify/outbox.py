"""What waits to be sent over each channel, and what could not be sent. Kept in a file."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flows.notify.attempt import Attempt, attempt
from flows.notify.channels import Channel
from flows.notify.message import Message, together
from flows.notify.state import read_state, write_state

PAUSES = (15, 60, 300, 900)
"""Seconds after the first, second, ... failure in a row; then always the last."""
GIVEN_UP = timedelta(hours=24)
"""An older message is dropped when it fails again."""
WAITING = 200
"""Messages that wait for a channel; more push out the oldest."""
AT_ONCE = 20
"""Messages over one channel in one pass."""
KNOWN = 2000
"""Ids of messages that are not queued again."""

Send = Callable[[Channel, Message], Attempt]


@dataclass(frozen=True)
class ChannelState:
    """A channel as `modelmint status` shows it. Times are None if there are none."""

    name: str
    target: str
    waiting: int
    sent: int
    dropped: int
    """Messages that were given up."""
    last_sent: datetime | None
    failing_since: datetime | None
    error: str | None


class Outbox:
    """The queues of one project. Only the process that has locked the file may change them."""

    def __init__(self, path: Path, channels: Iterable[Channel], send: Send = attempt) -> None:
        self._path, self._send = path, send
        self._channels = {channel.name: channel for channel in channels}
        self._lock = threading.Lock()
        self.content = read_state(path)
        """The whole file; the caller may keep more in it, and then calls `save`."""
        self.content.setdefault("known", [])
        kept = self.content.get("channels", {})
        self.content["channels"] = {
            channel.name: {**_EMPTY, **kept.get(channel.name, {}), "target": channel.target}
            # What has failed may be repaired: this is a new process.
            | {"retry_at": None, "queue": kept.get(channel.name, {}).get("queue", [])}
            for channel in self._channels.values()
        }
        self.forgotten = {
            name: len(state["queue"])
            for name, state in kept.items()
            if name not in self._channels and state["queue"]
        }
        """By channel that is no longer set, how many messages waited for it."""

    def save(self) -> None:
        """Write the file. Raises OSError."""
        with self._lock:
            write_state(self._path, self.content)

    def add(self, messages: Iterable[Message]) -> None:
        """Queue messages for all channels, and save; those that were queued before are left out."""
        known = self.content["known"]
        new = [message for message in messages if message.id not in known]
        known += [message.id for message in new]
        for message in together(new):
            for state in self.content["channels"].values():
                state["queue"].append(message.as_dict())
                if len(state["queue"]) > WAITING:
                    state["queue"].pop(0)
                    state["dropped"] += 1
        del known[:-KNOWN]
        self.save()

    def send(self) -> list[str]:
        """Send what is due, over all channels at the same time. Returns a line for each failure."""
        with ThreadPoolExecutor(max_workers=max(1, len(self._channels))) as pool:
            found = pool.map(lambda name: list(self._drain(name)), self._channels)
            return [line for lines in found for line in lines]

    def _drain(self, name: str) -> Iterator[str]:
        """Send over one channel until it is empty or fails: one that is down costs one attempt."""
        channel, state = self._channels[name], self.content["channels"][name]
        if (due := _time(state["retry_at"])) and due > datetime.now(UTC):
            return
        for _ in range(min(AT_ONCE, len(state["queue"]))):
            document = state["queue"][0]
            made = self._send(channel, Message(**document))
            now = datetime.now(UTC)
            with self._lock:
                state["queue"].remove(document)
                if made.sent:
                    state.update(_EMPTY_FAILURE, last_sent=now.isoformat(), sent=state["sent"] + 1)
                else:
                    self._note_failure(state, document, made.detail, now)
                write_state(self._path, self.content)
            if not made.sent:
                yield f"{name} ({channel.target}): {made.detail}"
                return

    def _note_failure(
        self, state: dict[str, Any], document: dict[str, Any], why: str, now: datetime
    ) -> None:
        if now - datetime.fromisoformat(document["at"]) > GIVEN_UP:
            state["dropped"] += 1
        else:
            # To the end: one message that a server does not like must not block the others.
            state["queue"].append(document)
        pause = PAUSES[min(state["failures"], len(PAUSES) - 1)]
        state["failures"] += 1
        state["failing_since"] = state["failing_since"] or now.isoformat()
        state["retry_at"] = (now + timedelta(seconds=pause)).isoformat()
        state["error"] = why


_EMPTY_FAILURE = {"failures": 0, "failing_since": None, "retry_at": None, "error": None}
_EMPTY = {**_EMPTY_FAILURE, "sent": 0, "dropped": 0, "last_sent": None, "target": ""}


def channel_states(path: Path) -> list[ChannelState]:
    """The channels of a project as its `serve` left them; none if it never sent anything."""
    return [
        ChannelState(
            name=name,
            target=state["target"],
            waiting=len(state["queue"]),
            sent=state["sent"],
            dropped=state["dropped"],
            last_sent=_time(state["last_sent"]),
            failing_since=_time(state["failing_since"]),
            error=state["error"],
        )
        for name, state in read_state(path).get("channels", {}).items()
    ]


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
