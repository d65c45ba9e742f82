"""The interface of an artifact store, and what a folder and a bucket have in common."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from registry.errors import Conflict, Corrupt, InvalidCandidate
from registry.records import Stray

MARKER = "registry.json"
"""The file at the root of a store that names its registry."""

MANIFEST, BACKUP_README = "manifest.json", b"A backup of a modelmint registry."
"""A file at the root of a finished backup; the beginning of every backup's README.txt."""

NOTE = ".files"
"""The ending of a note's name."""

DIGEST = re.compile(r"[0-9a-f]{64}")
NOTES, BEING_WRITTEN = re.compile(rf"[0-9a-f]{{32}}\{NOTE}"), re.compile(r"[0-9a-f]{32}")
"""The names in `tmp` that a store uses; it never touches other files there."""

CHUNK = 1 << 18  # bytes


@dataclass(frozen=True, slots=True)
class Staged:
    """A file that was hashed and is not yet published."""

    sha256: str
    size: int
    """Bytes."""
    path: Path
    """Where its bytes are until it is published: the store's copy, or for a bucket the source."""


class Store(Protocol):
    """A store of files named by their SHA-256. Opening it changes nothing."""

    root: str
    """Its place, for messages."""
    remote: bool
    """Whether `publish` uploads the bytes, instead of renaming a local copy."""

    def stage(self, source: Path) -> Staged:
        """Read and hash a file once; `publish` stores exactly those bytes or fails.

        Raises:
            InvalidCandidate: the source cannot be read.
            Unreachable: the store cannot be written.
        """

    def publish(self, *staged: Staged) -> None:
        """Put staged files in their places, durably. An existing file is replaced (repaired).

        Raises:
            Conflict: a collection removed it meanwhile, or the source was changed.
            InvalidCandidate: the source is gone.
            Unreachable: the store cannot be written.
        """

    def discard(self, staged: Staged) -> None:
        """Remove the copy that `stage` made, whether the file was published or not."""

    def has(self, sha256: str, size: int) -> bool:
        """Whether the file is there with that many bytes; its content is not read.

        Raises:
            Unreachable: the store cannot be read.
        """

    def verify(self, sha256: str, size: int) -> None:
        """Read the whole stored file and compare it with its SHA-256.

        Raises:
            Corrupt: it is missing, or its size or content has changed.
            Unreachable: the store cannot be read.
        """

    def fetch(self, sha256: str, size: int) -> Path:
        """A local path of the file, after reading and comparing every byte.

        Raises:
            Corrupt, Unreachable: as for `verify`.
        """

    def note(self, digests: Iterable[str]) -> str:
        """Write a note with the files that will be published; returns its path.

        The process that publishes removes it once the files are registered. If that process is
        killed, the note stays. So a file that no version and no note names was registered in a
        later state of the database.

        Raises:
            Unreachable: the store cannot be written.
        """

    def notes(self) -> Iterator[tuple[Stray, set[str]]]:
        """Every note, with the SHA-256 of the files that it names.

        Raises:
            Unreachable: one cannot be read.
        """

    def files(self) -> Iterator[tuple[str, Stray]]:
        """SHA-256 and path of every stored file, whether a version refers to it or not.

        Raises:
            Unreachable: the store cannot be listed.
        """

    def leftovers(self) -> Iterator[Stray]:
        """Unfinished files of interrupted registrations, without notes.

        Raises:
            Unreachable: the store cannot be listed.
        """

    def remove(self, path: str) -> None:
        """Delete a file that `files`, `leftovers` or `notes` returned, if it still exists.

        Raises:
            Unreachable: the store cannot be written.
        """

    def path_of(self, sha256: str) -> str:
        """The path of that file, existing or not, as `remove` takes it."""

    def marker(self, name: str = MARKER) -> bytes | None:
        """The content of the marker, or of another file at the root; None if there is none.

        Raises:
            Unreachable: the store cannot be read.
        """

    def mark(self, content: bytes, *, anew: bool = False) -> None:
        """Put a marker at the root, durably and in one step; replaces an existing one if `anew`.

        Raises:
            Unreachable: the store cannot be written.
        """


def hide_secrets(text: str) -> str:
    """Text for messages: user and password are hidden in every URL."""
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def check_digest(sha256: object, root: str) -> None:
    """Raises Corrupt unless this is a SHA-256: an edited row must not name a file elsewhere."""
    if not isinstance(sha256, str) or not DIGEST.fullmatch(sha256):
        raise Corrupt(f"{sha256!r} is not a SHA-256, so it does not name a file in {root}")


def changed(place: str | Path, actual: str) -> Corrupt:
    """The error for a stored file whose SHA-256 is not its name but `actual`."""
    return Corrupt(f"{place} was changed: its SHA-256 is {actual}")


def read(source: Path) -> Iterator[bytes]:
    """The bytes of a file to register, in pieces. Raises InvalidCandidate."""
    try:
        with source.open("rb") as reader:
            while chunk := reader.read(CHUNK):
                yield chunk
    except OSError as error:
        raise unreadable(source, error) from error


def unreadable(source: Path, error: OSError) -> InvalidCandidate:
    """The error for a file of a candidate that cannot be read."""
    return InvalidCandidate(f"{source} cannot be read ({error.strerror}).")


def refuse_others(source: Path, expected: str, actual: str) -> None:
    """Raises Conflict if the bytes to be stored are not those that were hashed."""
    if actual != expected:
        raise Conflict(
            f"{source} was changed while it was registered. Nothing was stored; wait until it is "
            "completely written, and register again."
        )
