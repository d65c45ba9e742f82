"""Arguments that name a model or a version: a reference, or a record of one."""

from dataclasses import dataclass
from typing import Any

from registry import (
    CHAMPION,
    Alias,
    Event,
    InvalidReference,
    Job,
    Model,
    Reference,
    Registration,
    Resolved,
    Summary,
    Trace,
    Version,
    parse_reference,
)


@dataclass(frozen=True, slots=True)
class Target:
    """A model, with an alias or a version of it, or neither."""

    name: str
    alias: str | None = None
    version: int | None = None

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name}:{self.version}"
        return f"{self.name}@{self.alias}" if self.alias else self.name


def target(given: Any) -> Target:
    """The model or version that a text or a record refers to.

    Raises:
        InvalidReference: it does not name a model.
    """
    match given:
        case str():
            parsed = parse_reference(given)
            return Target(parsed.name, parsed.alias if "@" in given else None, parsed.version)
        case Reference():
            return Target(given.name, given.alias, given.version)
        case Model():
            return Target(given.name)
        case Alias():
            return Target(given.model, given.name)
        case Version() | Summary() | Job():
            return Target(given.model, None, given.version)
        case Event():
            return Target(given.model, None, given.version)
        case Resolved() | Registration() | Trace():
            return target(given.version)
    # What this package returns: a loaded model, a version that is shown.
    if isinstance(record := getattr(given, "version", None), Version):
        return target(record)
    raise InvalidReference(
        f"{given!r} ({type(given).__name__}) does not name a model or a version. Give NAME, "
        "NAME@ALIAS or NAME:VERSION as text, or a record that the registry returned."
    )


def model_of(given: Any) -> str:
    """The name of a model. Raises InvalidReference."""
    return target(given).name


def version_of(given: Any) -> Target:
    """A version; a bare name means the champion.

    Raises:
        InvalidReference: it does not name a version, such as an event of a whole model.
    """
    if isinstance(given, Event) and given.version is None:
        raise InvalidReference(
            f"This event of {given.model} ({given.kind!r}) does not name a version. Give the "
            f"version, as in {given.model}@{CHAMPION} or {given.model}:1."
        )
    return target(given)


def alias_of(given: Any, *, named: bool = False) -> tuple[str, str]:
    """Model and alias; a bare name means the champion, unless the alias must be `named`.

    Raises:
        InvalidReference: it names a version and not an alias, or is an event of a whole model.
    """
    found = version_of(given)
    if named and found.alias is None and found.version is None:
        raise InvalidReference(
            f"{found} does not name an alias. Give NAME@ALIAS, as in {found.name}@canary."
        )
    if found.version is not None:
        raise InvalidReference(
            f"{found} is a version, not an alias. Give NAME or NAME@ALIAS, as in "
            f"{found.name}@{CHAMPION}."
        )
    return found.name, found.alias or CHAMPION
