"""Sessions of users who entered the token, and a limit on wrong tokens. Both use bounded memory.

Both are kept in the process that serves the page: after a restart everybody signs in again.
"""

import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

SESSION_S = 12 * 3600
"""Seconds after which the token must be entered again."""

_MOST_SESSIONS = 1000
_MOST_ADDRESSES = 1000

EACH = (5, 12.0)
"""Wrong tokens in a row from one address, and seconds until the next try."""
ALL = (30, 2.0)
"""The same for all addresses together, since guesses may come from many."""

Clock = Callable[[], float]


class Sessions:
    """Session ids, valid until they expire or are revoked; the oldest are dropped first."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._ends: OrderedDict[str, float] = OrderedDict()

    def begin(self) -> str:
        """A new random session id."""
        if len(self._ends) >= _MOST_SESSIONS:
            self._ends.popitem(last=False)
        id_ = secrets.token_urlsafe(32)
        self._ends[id_] = self._clock() + SESSION_S
        return id_

    def is_valid(self, id_: str) -> bool:
        """Whether a session exists and has not expired."""
        ends = self._ends.get(id_)
        if ends is not None and ends <= self._clock():
            del self._ends[id_]
            return False
        return ends is not None

    def end(self, id_: str) -> None:
        """Sign out."""
        self._ends.pop(id_, None)


class Tries:
    """Counts wrong tokens: each one fills a bucket that leaks slowly."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        # The time when the bucket will be empty: for all, and for the latest addresses.
        self._all = 0.0
        self._each: OrderedDict[str, float] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until an address may try again; 0 if it may try now."""
        now = self._clock()
        own = _until(self._each.get(_network(address), 0.0), EACH, now)
        return max(own, _until(self._all, ALL, now))

    def wrong(self, address: str) -> None:
        """Count a wrong token."""
        now, network = self._clock(), _network(address)
        self._all = max(now, self._all) + ALL[1]
        self._each[network] = max(now, self._each.pop(network, 0.0)) + EACH[1]
        if len(self._each) > _MOST_ADDRESSES:
            self._each.popitem(last=False)


def _until(empty: float, limit: tuple[int, float], now: float) -> float:
    """Seconds until a bucket has room for one more."""
    most, leaks = limit
    return max(0.0, empty - now - (most - 1) * leaks)


def _network(address: str) -> str:
    """The network of an IPv6 address: its owner has all 2^64 addresses of it."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))
