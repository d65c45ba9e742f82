"""The errors of the registry. Each message says what was given, what is allowed and what to do.

RegistryError
  * InvalidReference   not a model name, an alias, a version, a revision, `NAME[@ALIAS|:VERSION]`
  * InvalidQuery       not a search condition, an order, a limit or the position of a page
  * InvalidCandidate   a value to store is incomplete, or could not be read back
  * NotFound           no such model, version, alias or job
  * Refused            a rule of the registry forbids it; the database keeps the rules
  * Conflict           another process was faster: an alias moved, files vanished, a job replaced
  * Corrupt            stored bytes differ from their digest, or a file is missing
  * Unreachable        the database or the artifact store cannot be opened, read or written
    - NoRegistry       there is no registry in the database yet
  * SchemaMismatch     the database has an older, a newer or a foreign schema
"""

from collections.abc import Iterable
from difflib import get_close_matches


class RegistryError(Exception):
    """Base class of the registry's errors."""


class InvalidReference(RegistryError):
    """Something is not a model name, an alias, a version, a revision or a reference."""


class InvalidQuery(RegistryError):
    """Something is not a search condition, an order, a limit or the position of a page; or no
    version has the metric or parameter of a search."""


class InvalidCandidate(RegistryError):
    """A candidate for registration, or another value to store (an actor, a reason, a tag, a policy,
    a job's result), is incomplete, or would not be read back unchanged."""


class NotFound(RegistryError):
    """There is no model, version, alias or job of that name."""


class Refused(RegistryError):
    """A rule of the database forbids the change; the message names the rule."""


class Conflict(RegistryError):
    """The state that the caller relied on has changed; read it again and decide again."""


class Corrupt(RegistryError):
    """A stored file is missing or differs from the digest it was registered with."""


class Unreachable(RegistryError):
    """The database or the artifact store cannot be opened, read or written."""


class NoRegistry(Unreachable):
    """There is no registry in the database: it was not created yet, or the URL is wrong."""

    def __init__(self, shown: str) -> None:
        super().__init__(
            f"There is no registry in {shown}. Check MODELMINT_DATABASE_URL. `modelmint models "
            "init` creates a new registry, and so does the first `modelmint train`."
        )


class SchemaMismatch(RegistryError):
    """The database's schema is not the one that this code was written for."""


def choices(given: str, known: Iterable[str], *, shown: int = 8) -> str:
    """Two short sentences for an error: a close match, if any, and the existing names."""
    names = sorted(known)
    close = get_close_matches(given, names, n=1)
    listed = ", ".join(names[:shown]) + (f" and {len(names) - shown} more" * (len(names) > shown))
    there_is = f"There is: {listed}." if names else "There is none yet."
    return f"Did you mean {close[0]!r}? {there_is}" if close else there_is
