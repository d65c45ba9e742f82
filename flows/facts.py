"""What is known of objects in S3 that were downloaded once."""

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

from flows.objects import Object


class Facts:
    """SHA-256 of objects by URL, ETag and size, in a file that may be deleted at any time."""

    def __init__(self, cache: Path | None) -> None:
        self._file = None if cache is None else cache / "objects.sqlite"
        self._open: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def get(self, found: Object) -> str | None:
        """The hash of an object that was downloaded before; None if that is not known."""
        with suppress(sqlite3.Error, OSError), self._lock:
            query = "SELECT sha256 FROM objects WHERE url = ? AND etag = ? AND size = ?"
            row = self._database.execute(query, (found.url, found.etag, found.size)).fetchone()
            return None if row is None else str(row[0])
        return None

    def put(self, found: Object, sha256: str) -> None:
        with (
            suppress(sqlite3.Error, OSError),
            self._lock,
        ):  # a cache that cannot be written is no failure
            self._database.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)",
                (found.url, found.etag, found.size, sha256),
            )

    @property
    def _database(self) -> sqlite3.Connection:
        if self._open is None:
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            opened = sqlite3.connect(
                self._file or ":memory:", isolation_level=None, check_same_thread=False
            )
            opened.execute("PRAGMA synchronous = OFF")  # a lost line costs a download
            opened.execute(
                "CREATE TABLE IF NOT EXISTS objects (url TEXT PRIMARY KEY, etag TEXT NOT NULL, "
                "size INTEGER NOT NULL, sha256 TEXT NOT NULL)"
            )
            self._open = opened
        return self._open
