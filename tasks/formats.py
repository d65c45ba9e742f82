"""Format numbers and readers of JSON documents that another release may have written.

A document without a number was written by the first releases and counts as format 1. Unknown fields
are ignored. A higher number is refused, because the meaning of its fields may have changed.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from tasks.errors import InputError

# The format of each document that this release writes. Raise a number when older readers would
# misunderstand the document; an additional field does not need a new number.
EVALUATION = 2  # format 1 had neither `baselines` nor intervals
LINEAGE = 1
STUDY = 1
PROFILE = 2  # format 1 had no `drift`
REPORT = 1
MANIFEST = 3  # format 1 had no `substituted`; formats 1 and 2 had one file and no quarantine
PLAN = 1
DRIFT = 1
JOB_DRIFT = 1  # what the registry keeps of it
BROKEN = 1  # files of an inbox that failed

Record = TypeVar("Record")


def read(path: Path, newest: int) -> dict[str, Any]:
    """A document from a file.

    Raises:
        InputError: its format is newer than `newest`.
        OSError, ValueError, TypeError: it cannot be read, or is not a JSON object.
    """
    return accept(dict(json.loads(path.read_bytes())), newest, str(path))


def accept(document: dict[str, Any], newest: int, where: str) -> dict[str, Any]:
    """The document, unchanged. Raises `InputError` if its format is newer than `newest`."""
    number = document.get("format", 1)
    if type(number) is not int or not 1 <= number <= newest:  # isinstance would accept true
        raise InputError(
            f"{where} has format {number!r}; this release of modelmint reads formats up to "
            f"{newest}. Upgrade modelmint to read it"
        )
    return document


def record(kind: type[Record], document: Mapping[str, Any]) -> Record:
    """Build a dataclass from a document, ignoring fields that the class does not have.

    A field that older releases did not write needs a default in the class.

    Raises:
        TypeError: a field without a default is missing.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in dict(document).items() if name in known})
