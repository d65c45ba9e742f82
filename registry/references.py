"""The text form of a reference, `NAME[@ALIAS|:VERSION]`, and the rules for names."""

import re
import unicodedata
from dataclasses import dataclass

from registry.errors import InvalidReference
from registry.validation.checks import is_unseen, shown

CHAMPION = "champion"
"""The alias of the version that serves by default; a bare model name means it."""

CHALLENGER = "challenger"
"""The alias of the version that waits for an approval to replace the champion."""

_NAME = r"[a-z0-9][a-z0-9._-]{0,62}"
NUMBER = re.compile(r"v?([0-9]+)")
"""An alias that looks like a version; older releases allowed it."""
_REFERENCE = re.compile(rf"({_NAME})(?:@({_NAME})|:([1-9][0-9]{{0,8}}))?")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed `NAME[@ALIAS|:VERSION]`: exactly one of alias and version is set."""

    name: str
    alias: str | None
    version: int | None

    def __str__(self) -> str:
        return f"{self.name}@{self.alias}" if self.alias else f"{self.name}:{self.version}"


def parse_reference(text: str) -> Reference:
    """Read `NAME`, `NAME@ALIAS` or `NAME:VERSION`; a bare name means the champion.

    Raises:
        InvalidReference: the text has another form; the message suggests the likely one.
    """
    match = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidReference(
            f"{shown(text)} is not a model reference.{_likely(text)} Give NAME, NAME@ALIAS or "
            f"NAME:VERSION, as in digits, digits@champion or digits:3; names match {_NAME}, "
            "versions count from 1."
        )
    name, alias, version = match.groups()
    if version:
        return Reference(name, None, int(version))
    return Reference(name, alias or CHAMPION, None)


def _likely(text: object) -> str:
    if not isinstance(text, str):
        return ""
    likely = text.strip().lower().replace(" ", "-").replace("_", "-").replace(":v", ":")
    if match := re.fullmatch(rf"({_NAME})[@:](latest|newest)", likely):
        return f" {match[2].capitalize()} is not an alias. {how_to_get_newest(match[1])}"
    return f" Did you mean {likely!r}?" if _REFERENCE.fullmatch(likely) else ""


def how_to_get_newest(name: str, last: int | None = None) -> str:
    """The hint for a user who asks for the latest version."""
    newest = f"The newest version is {name}:{last}" if last else "The newest version comes first in"
    lists = f"`modelmint models search {name}`"
    return f"{newest}; {lists} lists them." if last else f"{newest} {lists}."


def check_name(text: str, what: str = "a model name") -> str:
    """Return the text if it is a valid name of a model or an alias.

    Raises:
        InvalidReference: it is not; the message says what is allowed.
    """
    if not isinstance(text, str) or re.fullmatch(_NAME, text) is None:
        raise InvalidReference(
            f"{shown(text)} cannot be {what}. Use 1 to 63 lower-case letters, digits, '.', '_' or "
            f"'-', beginning with a letter or digit ({_NAME})."
        )
    return text


def check_alias(text: str) -> str:
    """Return the text if it is a valid name for a new alias; older registries have others.

    Raises:
        InvalidReference: it is not, or it looks like a version.
    """
    if check_name(text, "an alias") in ("latest", "newest") or NUMBER.fullmatch(text):
        raise InvalidReference(
            f"{text!r} cannot be an alias: it looks like a version, but would not move when a "
            "version is added. Use a name that says what the version is for, as in production or "
            "canary."
        )
    return text


def person(name: str) -> str:
    """A person's name in a form for comparison: `Ada ` and `ada` are the same person.

    Invisible characters, which older releases accepted, are ignored.
    """
    spaced = unicodedata.normalize("NFKC", " ".join(name.split()))
    shown_ = "".join(c for c in spaced if not is_unseen(c))
    folded = unicodedata.normalize("NFKC", shown_).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())
