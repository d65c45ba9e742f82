"""SQL errors in the registry's words: callers of the package never see SQLAlchemy's."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from registry import sqlite
from registry.errors import Conflict, Refused, RegistryError, Unreachable
from registry.rules import sentence_of

# SQLSTATEs of PostgreSQL: insufficient privilege; serialization failure and deadlock.
_NOT_ALLOWED = "42501"
_GAVE_UP = ("40001", "40P01")


@contextmanager
def explained(shown: str) -> Iterator[None]:
    """Turn SQLAlchemy's errors inside the block into the registry's."""
    try:
        yield
    except IntegrityError as error:
        sentence = sentence_of(str(error.orig))
        raise Refused(f"The registry keeps its rules: {sentence}.") from error
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) == _NOT_ALLOWED:
            raise Refused(
                f"{_first_line(error)}: this database role may not do that. Ask for one that may; "
                "`modelmint models roles` shows which there are; the owner of the tables runs it "
                "again after each upgrade."
            ) from error
        raise RegistryError(f"The registry database {shown} refused: {error.orig}.") from error
    except (DataError, OverflowError, UnicodeError) as error:
        raise RegistryError(
            f"The registry database {shown} cannot keep or compare a value that was given: "
            f"{str(error).partition(chr(10))[0]}."
        ) from error
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) in _GAVE_UP:
            raise Conflict(
                f"The database ended this transaction in favour of another: {_first_line(error)}. "
                "Nothing was written; try again."
            ) from error
        symptom = _symptom(str(error.orig), shown)
        raise Unreachable(f"{symptom} See MODELMINT_DATABASE_URL.") from error
    except SQLAlchemyError as error:
        raise RegistryError(f"The registry database {shown} failed: {error}.") from error


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
    if "readonly database" in text:
        return f"The registry database {shown} can be read, but not written, by this user."
    return f"The registry database {shown} cannot be used: {text}. May you read and write it?"
