"""What every part of a registry works on: a database for the records, a place for the files."""

from pathlib import Path
from typing import Self

from registry.artifacts import open_store
from registry.database import Database


class Opened:
    """An open database and an open store of files; a context manager that closes them.

    `cache` is where files of a bucket are opened from; by default a folder of the user.
    """

    def __init__(self, url: str, artifacts: str | Path, cache: str | Path | None = None) -> None:
        self.files = open_store(artifacts, cache)
        self.database = Database(url)

    def reach(self) -> None:
        """See that the place of the files answers, too. Raises Unreachable.

        Opening asks the database alone; whoever is about to spend hours on a bundle asks both.
        """
        next(self.files.leftovers(), None)

    def close(self) -> None:
        """Close the database connections."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
