"""The rule "once per cause": which of the causes that are found again and again are told.

A condition is something that goes on, such as a deployment whose runs fail. Each of its causes is
told once, until the condition is over; then all of them count anew.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MOST = 2000
"""Conditions that are kept; of more, the ones that were seen longest ago are forgotten."""
CAUSES = 200
"""Causes of one condition that are kept."""

_CHANGING = re.compile(r"\b[0-9a-f]{8,}(-[0-9a-f]{4,})*\b|\d+([.,:]\d+)*", re.IGNORECASE)


def cause_of(text: str) -> str:
    """A message without what differs from run to run: numbers, times, ids."""
    return _CHANGING.sub("#", text)[:1000]


@dataclass(frozen=True)
class Over:
    """A condition that ended."""

    since: datetime
    times: int
    """How often it was seen."""


class Conditions:
    """The conditions that go on now, by a key. `content` is JSON, and is changed in place."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def begin(self, key: str, causes: Iterable[str], at: datetime) -> bool:
        """Note that a condition was seen. Returns whether a cause is new, so that it is told."""
        found = self._content.pop(key, None) or {"causes": [], "since": at.isoformat(), "times": 0}
        new = [cause for cause in dict.fromkeys(causes) if cause not in found["causes"]]
        found["causes"] = [*found["causes"], *new][-CAUSES:]
        found["times"] += 1
        found["last"] = at.isoformat()
        self._content[key] = found  # last, so that the first ones are those seen longest ago
        for old in list(self._content)[:-MOST]:
            del self._content[old]
        return bool(new)

    def end(self, key: str, at: datetime | None = None, quiet_s: float = 0.0) -> Over | None:
        """Note that a condition is over; None if it did not go on.

        With `quiet_s`, it is not over before that time has passed since it was seen last.
        """
        found = self._content.get(key)
        if found is None:
            return None
        if at and (at - datetime.fromisoformat(found["last"])).total_seconds() < quiet_s:
            return None
        del self._content[key]
        return Over(datetime.fromisoformat(found["since"]), found["times"])
