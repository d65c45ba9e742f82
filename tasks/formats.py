"""Records from JSON documents that another release may have written."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

Record = TypeVar("Record")


def record(kind: type[Record], document: Mapping[str, Any]) -> Record:
    """A dataclass from a document: a newer release may have written more fields than it has.

    A field that an older release did not write needs a default in the class.

    Raises:
        TypeError: a field without a default is missing.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in dict(document).items() if name in known})
