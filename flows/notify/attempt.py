"""Starts the process that sends one message, and ends it if it takes too long."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

from flows.notify.channels import Channel, take_variables
from flows.notify.message import Message, one_line
from tasks.process import die_with_parent

LIMIT_S = 25.0
"""Seconds for one message over one channel, with the start of the process."""


@dataclass(frozen=True)
class Attempt:
    """What came of an attempt."""

    sent: bool
    detail: str
    """What the other side answered, or why it was not sent; one line without secrets."""


def attempt(channel: Channel, message: Message, limit_s: float = LIMIT_S) -> Attempt:
    """Send a message once. Raises nothing; it takes `limit_s` at most."""
    environment = dict(os.environ)
    take_variables(environment)  # a command that is started must not see the mail's password
    asked = json.dumps({"settings": channel.settings, "message": message.as_dict()})
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "flows.notify.sending"],
            input=asked,
            capture_output=True,
            text=True,
            timeout=limit_s,
            env=environment,
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),
        )
        answer = json.loads(done.stdout)
        found = Attempt(bool(answer["sent"]), str(answer["detail"]))
    except subprocess.TimeoutExpired:
        found = Attempt(False, f"no answer within {limit_s:g} s")
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = Attempt(False, f"the process that sends failed: {type(error).__name__}")
    return Attempt(found.sent, one_line(channel.hide(found.detail), 400))
