"""The base of all operations: an open database and an open artifact store."""

from functools import cached_property
from pathlib import Path
from time import time
from typing import Self

from sqlalchemy import select

from registry import ownership
from registry.artifacts import Store, open_store
from registry.databases.database import Database
from registry.errors import Unreachable
from registry.validation.arguments import checked


class RegistryBase:
    """An open database and an open artifact store; a context manager that closes them.

    Opening creates nothing; `create` and the first registration do. `artifacts` may be None for
    operations that need no files. `cache` is the folder for copies of files in a bucket; by
    default it is in the user's cache folder.
    """

    def __init__(
        self, url: str, artifacts: str | Path | None, cache: str | Path | None = None
    ) -> None:
        self._artifacts, self._cache = artifacts, cache
        if artifacts is not None:
            assert self.files  # opened now, so that an unsupported URL is refused immediately
        self.database = Database(url)

    @cached_property
    def files(self) -> Store:
        """The artifact store. Raises Unreachable if its place was not given."""
        if self._artifacts is None:
            raise Unreachable(
                "This needs the files of the registry, and their place is not set. Set "
                "MODELMINT_ARTIFACTS to their folder or to s3://BUCKET/PREFIX, or change into your "
                "project."
            )
        return open_store(self._artifacts, self._cache)

    @property
    def id(self) -> str:
        """The id of this registry; restored copies have the same. Raises NoRegistry."""
        return ownership.load(self.database).registry

    def create(self) -> bool:
        """Create the registry in an empty or missing database; False if it exists.

        Raises:
            Refused: the artifact store belongs to another registry.
        """
        if self.database.exists():
            return False
        if self._artifacts is not None:
            ownership.check_new(self.database, self.files)
        return self.database.create()

    def reach(self) -> None:
        """Check that the artifact store can be read and belongs to this database.

        Opening checks only the database; before a long training, check both.

        Raises:
            Unreachable: the store cannot be read, or the database could not be created.
            Refused: the store belongs to another registry.
        """
        next(self.files.leftovers(), None)
        if self.database.exists():
            ownership.compare(self.database, self.files)
        else:
            self.database.check_creatable()
            ownership.check_new(self.database, self.files)

    def check_store(self) -> None:
        """Check that the artifact store belongs to this registry. Changes nothing.

        Raises:
            Refused: it belongs to another registry, or the database knows none of its files.
            NoRegistry: the registry was not created yet.
            Unreachable: the store cannot be read.
        """
        ownership.check(self.database, self.files)

    @checked
    def adopt_store(self, *, lost: bool = False) -> None:
        """Mark the artifact store as that of this registry, after its marker was lost.

        With `lost`, files that the database needs may be missing. If the store is the wrong one,
        the files of the registry are then spread over two stores.

        Raises:
            Refused: the store belongs to another registry; files are missing and `lost` was not
                given; or the database knows none of its files.
        """
        if lost or ownership.load(self.database).store is not None:
            ownership.claim(self.database, self.files, lost=lost)
        else:  # the first registration will mark it
            ownership.compare(self.database, self.files)

    def clock_ahead(self) -> float:
        """Seconds by which the clock of the database is ahead of this machine's."""
        with self.database.read() as c:
            theirs = c.execute(select(self.database.dialect.CLOCK)).scalar_one()
        return float(theirs / 1e6 - time())

    def close(self) -> None:
        """Close the database connections."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
