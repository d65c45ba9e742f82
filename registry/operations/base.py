"""What every part of a registry works on: a database for the records, a place for the files."""

from functools import cached_property
from pathlib import Path
from typing import Self

from registry import ownership
from registry.artifacts import Store, open_store
from registry.databases.database import Database
from registry.errors import Unreachable
from registry.validation.arguments import checked


class RegistryBase:
    """An open database and an open store of files; a context manager that closes them.

    Opening makes nothing; `create` does, and so does the first registration. `artifacts` may be
    None for what needs no files. `cache` is where files of a bucket are opened from; by default a
    folder of the user.
    """

    def __init__(
        self, url: str, artifacts: str | Path | None, cache: str | Path | None = None
    ) -> None:
        self._artifacts, self._cache = artifacts, cache
        if artifacts is not None:
            assert self.files  # opened now: a place of an unsupported kind is refused at once
        self.database = Database(url)

    @cached_property
    def files(self) -> Store:
        """The place of the files. Raises Unreachable where nobody said where that is."""
        if self._artifacts is None:
            raise Unreachable(
                "This needs the files of the registry, and nothing says where they are. Set "
                "MODELMINT_ARTIFACTS to their folder or to s3://BUCKET/PREFIX, or change into your "
                "project."
            )
        return open_store(self._artifacts, self._cache)

    @property
    def id(self) -> str:
        """The id that this registry alone has, and its copies. Raises NoRegistry."""
        return ownership.load(self.database).registry

    def create(self) -> bool:
        """Make the registry in an empty or missing database; False where there is one.

        Raises:
            Refused: the place of the files has those of another registry.
        """
        if self.database.exists():
            return False
        if self._artifacts is not None:
            ownership.check_new(self.database, self.files)
        return self.database.create()

    def reach(self) -> None:
        """See that the place of the files answers, too, and that it belongs to the database.

        Opening asks the database alone; whoever is about to spend hours on a bundle asks both.

        Raises:
            Unreachable: the place of the files cannot be read, or the database could not be made.
            Refused: its files are another registry's.
        """
        next(self.files.leftovers(), None)
        if self.database.exists():
            ownership.compare(self.database, self.files)
        else:
            self.database.check_creatable()
            ownership.check_new(self.database, self.files)

    def check_store(self) -> None:
        """See that the files are those of this registry. Changes nothing.

        Raises:
            Refused: they are another's, or the database knows none of them.
            NoRegistry: nothing was made yet.
            Unreachable: they cannot be read.
        """
        ownership.check(self.database, self.files)

    @checked
    def adopt_store(self, *, lost: bool = False) -> None:
        """Mark the place of the files again, where its marker was lost.

        `lost` says that this is the place though files are missing there; by mistake in the place,
        it spreads the files of a registry over two.

        Raises:
            Refused: it is another's, or lacks files and is not said to be `lost`; or the database
                knows none of the files in it.
        """
        if lost or ownership.load(self.database).store is not None:
            ownership.claim(self.database, self.files, lost=lost)
        else:  # nothing was lost: the first registration marks it
            ownership.compare(self.database, self.files)

    def close(self) -> None:
        """Close the database connections."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
