"""JSON documents that another release may have written: their format numbers, and their readers.

A document without a number is of the first releases and counts as format 1. Fields that this
release does not know are ignored; a higher number is refused, for its fields may mean other things.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from tasks.errors import InputError

# The newest format of each document: what this release writes. Raise the number when older readers
# would misunderstand the document; a further field does not need it.
EVALUATION = 1
LINEAGE = 1
PROFILE = 1
REPORT = 1
MANIFEST = 2  # the first had no `substituted`

Record = TypeVar("Record")


def read(path: Path, newest: int) -> dict[str, Any]:
    """A document from a file.

    Raises:
        InputError: it has a newer format than `newest`.
        OSError, ValueError, TypeError: it cannot be read, or is not a JSON object.
    """
    return accept(dict(json.loads(path.read_bytes())), newest, str(path))


def accept(document: dict[str, Any], newest: int, where: str) -> dict[str, Any]:
    """The document as it is. Raises `InputError` if its format is newer than `newest`."""
    number = document.get("format", 1)
    if type(number) is not int or not 1 <= number <= newest:  # true is an int, too
        raise InputError(
            f"{where} has format {number!r}; this release of modelmint reads formats up to "
            f"{newest}. Upgrade modelmint to read it"
        )
    return document


def record(kind: type[Record], document: Mapping[str, Any]) -> Record:
    """A dataclass from a document: a newer release may have written more fields than it has.

    A field that an older release did not write needs a default in the class.

    Raises:
        TypeError: a field without a default is missing.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in dict(document).items() if name in known})
