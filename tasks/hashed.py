"""Files by content: hashed once, and looked at again after they were read."""

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tasks.errors import InputChanged
from tasks.snapshot import Stamp

BLOCK = 16 << 20
"""Bytes that are hashed at a time: after each, Python's lock is waited for, up to 5 ms."""
_begun: dict[Path, Future["HashedFile"]] = {}


@dataclass(frozen=True)
class HashedFile:
    """A file, the SHA-256 of its content, and its stamp from before it was hashed.

    `folder` is when its folder last got or lost a name, in ns since 1970.
    """

    path: Path
    sha256: str
    stamp: Stamp
    folder: int
    elsewhere: bool = field(default=False, compare=False)
    """Whether another machine may have taken the stamp; it has a number of its own for a device."""

    @classmethod
    def of(cls, path: Path) -> "HashedFile":
        """Raises `InputError` if the file is missing or cannot be read."""
        from tasks.files.tables import reading  # imports pyarrow, meanwhile `begin` can hash

        with reading(path):
            if begun := _begun.pop(path.absolute(), None):
                return replace(begun.result(), path=path)
            return cls._of(path)

    @classmethod
    def _of(cls, path: Path) -> "HashedFile":
        with path.open("rb", buffering=0) as stream:
            folder = os.stat(path.parent).st_mtime_ns
            stamp, found = Stamp.of(stream.fileno()), hashlib.sha256()
            while block := stream.read(BLOCK):
                found.update(block)
            return cls(path, found.hexdigest(), stamp, folder)

    @property
    def unchanged(self) -> bool:
        """By its stamp, and by its content where that cannot tell."""
        try:
            now = Stamp.of(self.path)
            if self.elsewhere:
                now = replace(now, device=self.stamp.device)
            if not now.only_touched(self.stamp):
                return False
            if now == self.stamp and not self.stamp.young:
                return True
            # One that was moved away and back: what lay there meanwhile may have been read.
            renamed = now != self.stamp and not now.linked_or_locked(self.stamp)
            if renamed and os.stat(self.path.parent).st_mtime_ns != self.folder:
                return False
            with self.path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest() == self.sha256
        except OSError:
            return False


def begin(paths: Iterable[Path]) -> None:
    """Hash large files in another thread; `HashedFile.of` then waits for it.

    The SHA-256 of 600 MB takes half a second, and so do the imports of a batch job.
    """
    wanted = {path.absolute(): Future[HashedFile]() for path in paths if _is_large(path)}

    def work() -> None:
        for path, future in wanted.items():
            try:
                future.set_result(HashedFile._of(path))
            except Exception as error:
                future.set_exception(error)

    if wanted:
        _begun.update(wanted)
        threading.Thread(target=work, daemon=True).start()


def _is_large(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size > BLOCK
    except OSError:
        return False


@contextmanager
def held_still(files: Iterable[HashedFile]) -> Iterator[None]:
    """The block reads `files`; what it read is what was hashed, or it ends with an error.

    Raises:
        InputChanged: a file was written, replaced or removed since it was hashed; instead of what
            the block raised.
    """
    files = list(files)
    with blame_change(files):
        yield
    refuse_changed(files)


@contextmanager
def blame_change(files: Iterable[HashedFile]) -> Iterator[None]:
    """If the block fails and one of `files` changed meanwhile, that is the error.

    Raises:
        InputChanged: half a file can look broken in any way.
    """
    try:
        yield
    except Exception as error:
        refuse_changed(files, error)
        raise


def refuse_changed(files: Iterable[HashedFile], cause: Exception | None = None) -> None:
    """Raises `InputChanged` if a file is not what it was when it was hashed."""
    for file in files:
        if not file.unchanged:
            raise changed(str(file.path)) from cause


def changed(name: str) -> InputChanged:
    """The error for an input that is not what it was when it was hashed."""
    return InputChanged(
        f"{name} changed while it was read, so nothing was predicted. Write files under another "
        "name and move them into place; the same command predicts what is there now."
    )
