"""The text form of a reference, `NAME[@ALIAS|:VERSION]`, and what may be a name."""

import re
import unicodedata
from dataclasses import dataclass

from registry.errors import InvalidReference

CHAMPION = "champion"
"""The alias of the version that serves by default; a bare model name means it."""

CHALLENGER = "challenger"
"""The alias of the version that asks to replace the champion and waits for an approval."""

_NAME = r"[a-z0-9][a-z0-9._-]{0,62}"
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
    match = _REFERENCE.fullmatch(text)
    if match is None:
        likely = text.strip().lower().replace(" ", "-").replace("_", "-").replace(":v", ":")
        hint = f" Did you mean {likely!r}?" if _REFERENCE.fullmatch(likely) else ""
        raise InvalidReference(
            f"{text!r} is not a model reference.{hint} Give NAME, NAME@ALIAS or NAME:VERSION, as "
            f"in digits, digits@champion or digits:3; names match {_NAME}, versions count from 1."
        )
    name, alias, version = match.groups()
    if version:
        return Reference(name, None, int(version))
    return Reference(name, alias or CHAMPION, None)


def check_name(text: str, what: str = "a model name") -> str:
    """Return the text if it may name a model or an alias.

    Raises:
        InvalidReference: it may not; the message says what is allowed.
    """
    if re.fullmatch(_NAME, text) is None:
        raise InvalidReference(
            f"{text!r} cannot be {what}. Use 1 to 63 lower-case letters, digits, '.', '_' or "
            f"'-', beginning with a letter or digit ({_NAME})."
        )
    return text


def person(name: str) -> str:
    """Who somebody is, however the name was typed: `Ada ` and `ada` are the same person."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
