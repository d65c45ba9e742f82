"""`modelmint notify`: the channels, and one test message over each."""

import os
from collections.abc import Iterator
from pathlib import Path

from flows.notify.attempt import Attempt, attempt
from flows.notify.channels import CHANNEL_OF, Channel, read_channels
from flows.notify.message import message
from flows.notify.outbox import ChannelState, channel_states
from flows.notify.state import project_state
from tasks.errors import InputError


def channels() -> tuple[Channel, ...]:
    """The channels that the environment describes. Raises InputError if there is none."""
    found = read_channels(os.environ).channels
    if not found:
        raise InputError(f"no channel is set: set one of {', '.join(CHANNEL_OF)}")
    return found


def states(root: Path) -> list[ChannelState]:
    """What `modelmint serve` has sent for this project, and what waits."""
    return channel_states(project_state(root))


def send_test(root: Path) -> Iterator[tuple[Channel, Attempt]]:
    """Send one message over each channel now, beside what waits, and say what came of it."""
    text = "This is a test of `modelmint notify --test`. Nothing has happened."
    made = message(
        "test",
        root.name,
        f"a test message of {root.name}",
        text,
        project=root.name,
        key=os.urandom(8).hex(),
    )
    for channel in channels():
        yield channel, attempt(channel, made)
