"""Readers of raw data by kind: one explicit dict, no registration by import."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.config import DigitsSource, ImageSource
from tasks.sources import digits, image
from tasks.sources.raw import Raw

READERS: dict[str, Callable[[Path], Raw]] = {"digits": digits.read, "image": image.read}
EMBEDDED: dict[str, Callable[[], bytes]] = {"digits": digits.embedded}


def read(source: DigitsSource | ImageSource, root: Path) -> Raw:
    """The raw rows that `source` names; a relative path starts at `root`.

    Raises:
        InputError: the file is missing, unreadable or of another form; names file and row.
    """
    return READERS[source.kind](root / source.path)


def place_embedded(source: Any, root: Path) -> bool:
    """Put the raw file of an embedded dataset where `source` says, if it is missing there.

    Returns whether the source's raw data is embedded at all.
    """
    if source.kind not in EMBEDDED:
        return False
    path = root / source.path
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_bytes(EMBEDDED[source.kind]())
        part.replace(path)
    return True
