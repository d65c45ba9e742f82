"""Files of an inbox that could not be predicted. Each is reported once: an hourly run that fails
every hour because of the same file would hide the next one. Imports no Prefect.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from registry import Version
from tasks import formats
from tasks.serving.options import BadLimit, Options

BROKEN = "failed.json"
"""In the output folder; it may be deleted at any time, then the files are tried once more."""
LEFT_OUT = "Left out"
"""Name of the state of a run in which nothing failed, and a file that failed before still lies."""


class Broken:
    """What failed before with a version, options and limit; another of these is another attempt."""

    def __init__(self, output: Path, version: Version, options: Options, limit: BadLimit) -> None:
        self._path, self._model = output / BROKEN, version.model
        self._how = [version.digest, asdict(options), limit.text]
        self._seen: dict[str, dict[str, str]] = {}
        """By place, the entries of this run."""

    def why(self, place: str, stamp: str) -> str | None:
        """Why a file failed before, if it has not changed since."""
        entry = self._models().get(self._model, {}).get(place)
        if entry is None or entry.get("key") != self._key(place, stamp):
            return None
        self._seen[place] = entry
        return entry.get("why", "")

    def add(self, place: str, stamp: str, why: str) -> None:
        """Remember a file that failed, and still lies where it was."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self._seen[place] = {"key": self._key(place, stamp), "why": why, "at": at}

    def save(self, of_inbox: Callable[[str], bool]) -> None:
        """Write what this run has seen in the inboxes; what is not there any more is forgotten."""
        models = self._models()
        before = models.get(self._model, {})
        now = {k: v for k, v in before.items() if not of_inbox(k)} | self._seen
        if now == before:
            return
        document = {"format": formats.BROKEN, "models": models | {self._model: now}}
        with suppress(OSError):  # then they are reported again
            self._path.parent.mkdir(parents=True, exist_ok=True)
            written = self._path.with_name(f".{BROKEN}-{uuid4().hex}")
            written.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            os.replace(written, self._path)

    def _key(self, place: str, stamp: str) -> str:
        return hashlib.sha256(json.dumps([place, stamp, *self._how]).encode()).hexdigest()

    def _models(self) -> dict[str, dict[str, dict[str, str]]]:
        """By model and place, what failed and why; empty if nothing is known, or it is damaged."""
        try:
            found = formats.read(self._path, formats.BROKEN)["models"]
            return {
                model: {place: dict(entry) for place, entry in entries.items()}
                for model, entries in found.items()
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}
