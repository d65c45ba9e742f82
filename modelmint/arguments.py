"""Checks of those arguments of the Python interface that the registry does not check itself."""

import math
from collections.abc import Iterable
from pathlib import Path

from registry.validation.checks import python_scalar, shown
from tasks.errors import InputError


def flag(name: str, value: object) -> bool:
    """True or False; a text is refused, since it would count as true. Raises InputError."""
    if not isinstance(value, bool):
        raise InputError(f"{name} is {shown(value)}. Give True or False")
    return value


def seconds(name: str, value: object) -> float:
    """A time of 0 or more. Raises InputError."""
    plain = python_scalar(value)
    if isinstance(plain, bool) or not isinstance(plain, int | float) or not 0 <= plain < math.inf:
        raise InputError(f"{name} is {shown(value)}. Give a number of seconds, 0 or more")
    return plain


def choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """One of several words. Raises InputError."""
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"{name} is {shown(value)}. Give one of {', '.join(allowed)}")
    return value


def path(name: str, value: object) -> Path:
    """A path. Raises InputError."""
    if not isinstance(value, str | Path) or not str(value).strip():
        raise InputError(f"{name} is {shown(value)}. Give the path of a file or a folder")
    return Path(value)


def paths(name: str, value: object) -> list[Path]:
    """One path or several. Raises InputError."""
    if isinstance(value, str | Path) or not isinstance(value, Iterable):
        return [path(name, value)]
    return [path(name, one) for one in value]


def conditions(given: Iterable[object]) -> list[str]:
    """Conditions of a search, or lists of them; the registry checks their content.

    Raises InputError.
    """
    found: list[str] = []
    for one in given:
        several = one if isinstance(one, list | tuple) else [one]
        for text in several:
            if not isinstance(text, str):
                raise InputError(
                    f"a condition is {shown(text)}. Give text, as in 'metric.accuracy>=0.9'"
                )
            found.append(text)
    return found
