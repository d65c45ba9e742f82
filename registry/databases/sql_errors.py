"""Translates SQL errors into the registry's errors: callers never see those of SQLAlchemy."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from registry.databases import sqlite
from registry.errors import Conflict, Corrupt, Refused, RegistryError, Unreachable
from registry.rules.sentences import sentence_of
from registry.values import MALFORMED

# SQLSTATEs of PostgreSQL: insufficient privilege; serialization failure and deadlock; a limit of
# the program is exceeded.
_NOT_ALLOWED = "42501"
_GAVE_UP = ("40001", "40P01")
_TOO_LARGE = "54000"
# SQLite's messages for text that is not UTF-8, and for a document that is not JSON.
_NO_TEXT = ("Could not decode to UTF-8", "malformed JSON")
# Messages of SQLite and the operating system about files without permission.
_DENIED = ("readonly", "read-only", "unable to open", "permission denied")


@contextmanager
def translate_sql_errors(shown: str) -> Iterator[None]:
    """Turn SQLAlchemy's errors inside the block into the registry's."""
    try:
        yield
    except IntegrityError as error:
        sentence = sentence_of(str(error.orig))
        raise Refused(f"The registry keeps its rules: {sentence}.") from error
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) == _NOT_ALLOWED:
            raise Refused(
                f"{_first_line(error)}: this database role may not do that. Ask for a role that "
                "may; `modelmint models roles` lists them. After an upgrade, the owner of the "
                "tables must run that command again."
            ) from error
        raise RegistryError(f"The registry database {shown} refused: {error.orig}.") from error
    except (DataError, OverflowError, UnicodeError) as error:
        raise _not_kept(shown, error) from error
    except DBAPIError as error:
        if any(why in str(error.orig) for why in _NO_TEXT):
            raise _unreadable(shown, error.orig or error) from error
        if getattr(error.orig, "sqlstate", None) == _TOO_LARGE or "too big" in str(error.orig):
            raise _not_kept(shown, error) from error
        if getattr(error.orig, "sqlstate", None) in _GAVE_UP:
            raise Conflict(
                f"The database ended this transaction in favour of another: {_first_line(error)}. "
                "Nothing was written; try again."
            ) from error
        symptom = _symptom(str(error.orig), shown)
        raise Unreachable(f"{symptom} Check MODELMINT_DATABASE_URL.") from error
    except SQLAlchemyError as error:
        raise RegistryError(f"The registry database {shown} failed: {error}.") from error


@contextmanager
def translate_row_errors(shown: str) -> Iterator[None]:
    """Raise Corrupt for errors from rows that somebody edited."""
    try:
        yield
    except SQLAlchemyError:  # some of which are LookupErrors, too
        raise
    except MALFORMED as error:
        given = isinstance(error, UnicodeEncodeError) or "too large to convert" in str(error)
        if given:  # the driver cannot send a value of the caller
            raise
        raise _unreadable(shown, error) from error


def _unreadable(shown: str, error: BaseException) -> Corrupt:
    message = str(error).partition("\n")[0]
    return Corrupt(
        f"The registry database {shown} has a value that cannot be read ({type(error).__name__}: "
        f"{message}): somebody edited it. `modelmint models verify` names it."
    )


def _not_kept(shown: str, error: Exception) -> RegistryError:
    """The error for values that passed the checks of the public methods."""
    message = str(error).partition("\n")[0]
    return RegistryError(
        f"The registry database {shown} cannot store or compare a given value: {message}. Nothing "
        "was written; give a shorter or simpler value."
    )


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).partition("\n")[0]


def _symptom(text: str, shown: str) -> str:
    if "locked" in text:
        return (
            f"The registry database {shown} stayed locked by another process for "
            f"{sqlite.BUSY_S} s. Try again, or end the process that holds it."
        )
    if "not a database" in text:
        return f"The file behind {shown} is not a SQLite database."
    if "disk image is malformed" in text:
        return (
            f"The SQLite file behind {shown} is damaged ({text}). Restore a backup into another "
            "place: `modelmint models restore`."
        )
    if "readonly database" in text:
        return f"The registry database {shown} can be read, but not written, by this user."
    denied = any(why in text.lower() for why in _DENIED)
    hint = " Do you have permission to read and write it?" if denied else ""
    return f"The registry database {shown} cannot be used: {text}.{hint}"
