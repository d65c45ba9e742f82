"""How much the longest tests do.

By default they do as much as shows a fault of each kind. With MODELMINT_TEST_EVERYTHING=1 they do
all: every combination, every moment of a kill, the tests with the marker `release`. Do that before
a release.
"""

import os
from typing import TypeVar

T = TypeVar("T")
EVERYTHING = os.environ.get("MODELMINT_TEST_EVERYTHING") == "1"


def usual(some: T, everything: T) -> T:
    """`some`, or `everything` if that was asked for."""
    return everything if EVERYTHING else some
