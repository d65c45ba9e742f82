"""Files that keep what was told and what waits, over restarts of `modelmint serve`."""

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import IO, Any

from flows.server import prefect_home

FORMAT = 1
FOLDER = "modelmint-notify"


def project_state(root: Path) -> Path:
    """The file of a project: its channels, and its flow runs."""
    return _folder() / f"project-{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"


def registry_state(number: str) -> Path:
    """The file of a registry, by its id: its models and jobs. Projects of a user share it."""
    return _folder() / f"registry-{number}.json"


def _folder() -> Path:
    return prefect_home() / FOLDER


def read_state(path: Path) -> dict[str, Any]:
    """The content of a file; empty if there is none, or if it cannot be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("format") == FORMAT else {}


def write_state(path: Path, content: dict[str, Any]) -> None:
    """Replace a file as a whole, if anything has changed. Raises OSError."""
    text = json.dumps({**content, "format": FORMAT})
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # else a power cut may leave an empty file: all would be told anew
    part.replace(path)


def lock_state(path: Path) -> IO[str] | None:
    """Lock a file until the result is closed or this process ends; None if another has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_suffix(".lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
