"""What a store of files is, and what is the same in a folder and in a bucket."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from registry.errors import Conflict, Corrupt, InvalidCandidate
from registry.records import Stray

MARKER = "registry.json"
"""The file at the root of a store that says whose it is."""

MANIFEST, BACKUP_README = "manifest.json", b"A backup of a modelmint registry."
"""A file at the root of a finished backup; how README.txt begins in any. No store has them."""

NOTE = ".files"
"""The ending of a note's name."""

DIGEST = re.compile(r"[0-9a-f]{64}")
NOTES, BEING_WRITTEN = re.compile(rf"[0-9a-f]{{32}}\{NOTE}"), re.compile(r"[0-9a-f]{32}")
"""The names in `tmp` that a store gives itself: what else is there is somebody else's."""

CHUNK = 1 << 18  # bytes


@dataclass(frozen=True, slots=True)
class Staged:
    """A file on its way in: hashed, not yet where others find it."""

    sha256: str
    size: int
    """Bytes."""
    path: Path
    """Where its bytes lie until it is published."""
    copied: bool
    """Whether that is a copy of the store's, or the source itself."""


class Store(Protocol):
    """A place of files named by their SHA-256. Opening it touches nothing."""

    root: str
    """For messages: where that is."""
    far: bool
    """Whether `publish` sends the bytes somewhere, instead of renaming a copy of them."""

    def stage(self, source: Path) -> Staged:
        """Read a file once and hash it; those very bytes are what `publish` stores, or nothing.

        Raises:
            InvalidCandidate: the source cannot be read.
            Unreachable: the store cannot be written.
        """

    def publish(self, *staged: Staged) -> None:
        """Put staged files in their places, durably; over one of that name, which repairs it.

        Raises:
            Conflict: a collection removed it meanwhile, or somebody wrote to it.
            InvalidCandidate: the source is gone.
            Unreachable: the store cannot be written.
        """

    def discard(self, staged: Staged) -> None:
        """Let go of a staged file, published or not."""

    def has(self, sha256: str, size: int) -> bool:
        """Whether the file is there with that many bytes; its content is not read.

        Raises:
            Unreachable: the store cannot be asked.
        """

    def verify(self, sha256: str, size: int) -> None:
        """Read the whole stored file and compare.

        Raises:
            Corrupt: it is missing, or its size or content is not what was registered.
            Unreachable: the store cannot be read.
        """

    def fetch(self, sha256: str, size: int) -> Path:
        """A local path of the file, every byte of it compared just now.

        Raises:
            Corrupt, Unreachable: as for `verify`.
        """

    def note(self, digests: Iterable[str]) -> str:
        """Say which files are about to be published, before: the path of that note.

        Who publishes removes it once they are registered; killed before, nobody does. So a file
        that no version has and no note names was registered, in a database of a later state.

        Raises:
            Unreachable: the store cannot be written.
        """

    def notes(self) -> Iterator[tuple[Stray, set[str]]]:
        """Every note that is there, with the SHA-256 that it names.

        Raises:
            Unreachable: one cannot be read.
        """

    def files(self) -> Iterator[tuple[str, Stray]]:
        """SHA-256 and place of every stored file, whether a version refers to it or not.

        Raises:
            Unreachable: the store cannot be listed.
        """

    def leftovers(self) -> Iterator[Stray]:
        """What interrupted registrations left on their way in, but for notes.

        Raises:
            Unreachable: the store cannot be listed.
        """

    def remove(self, path: str) -> None:
        """Delete what `files`, `leftovers` or `notes` named; fine if it is gone already.

        Raises:
            Unreachable: the store cannot be written.
        """

    def place(self, sha256: str) -> str:
        """The path of that file, whether it is there or not, as `remove` takes it."""

    def marker(self, name: str = MARKER) -> bytes | None:
        """What `mark` put there; None where nobody did. Or another file at the root.

        Raises:
            Unreachable: the store cannot be read.
        """

    def mark(self, content: bytes, *, anew: bool = False) -> None:
        """Put a marker at the root, durably and in one step; over one that is there if `anew`.

        Raises:
            Unreachable: the store cannot be written.
        """


def hide_secrets(text: str) -> str:
    """Text as messages may show it: no user and password in any URL."""
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def check_digest(sha256: object, root: str) -> None:
    """Raises Corrupt: rows are what somebody wrote, and none may name a file outside the store."""
    if not isinstance(sha256, str) or not DIGEST.fullmatch(sha256):
        raise Corrupt(f"{sha256!r} is not a SHA-256, so it names no file of {root}")


def changed(place: str | Path, actual: str) -> Corrupt:
    """The error for a stored file whose SHA-256 is not its name but `actual`."""
    return Corrupt(f"{place} was changed: its SHA-256 is {actual}")


def read(source: Path) -> Iterator[memoryview]:
    """The bytes of a file that is to be registered, each piece until the next is asked for.

    Raises InvalidCandidate.
    """
    try:
        with source.open("rb", buffering=0) as reader:
            # One buffer for all pieces: new memory costs more than the copy into it.
            size = os.fstat(reader.fileno()).st_size
            buffer = memoryview(bytearray(min(max(size, 1), CHUNK)))
            while size := reader.readinto(buffer):
                yield buffer[:size]
    except OSError as error:
        raise unreadable(source, error) from error


def unreadable(source: Path, error: OSError) -> InvalidCandidate:
    """The error for a file that was offered and cannot be read."""
    return InvalidCandidate(f"{source} cannot be read ({error.strerror}).")


def refuse_others(source: Path, expected: str, actual: str) -> None:
    """Raises Conflict where the bytes to be stored are no longer those that were hashed."""
    if actual != expected:
        raise Conflict(
            f"{source} was changed while it was registered. Nothing was stored; wait until "
            "nobody writes to it, and register again."
        )
