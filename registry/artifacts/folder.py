"""A store in a folder of this machine, or of a file share."""

import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from registry.artifacts.store import (
    BEING_WRITTEN,
    CHUNK,
    DIGEST,
    MARKER,
    NOTE,
    NOTES,
    Staged,
    changed,
    check_digest,
    read,
    refuse_others,
    unreadable,
)
from registry.errors import Conflict, Corrupt, Unreachable
from registry.records import Stray

_FOLDER = re.compile(r"[0-9a-f]{2}")


class Folder:
    """A store in a folder of this machine, or of a file share."""

    far = False

    def __init__(self, root: Path, variable: str = "MODELMINT_ARTIFACTS") -> None:
        # Text, not a Path, of which each step costs more than a look into the folder.
        self.root = str(root)
        self._variable = variable
        """For messages: what says where that is."""

    def stage(self, source: Path) -> Staged:
        try:
            content = source.read_bytes() if source.stat().st_size <= CHUNK else None
        except OSError as error:
            raise unreadable(source, error) from error
        if content is None:
            return self.take(read(source))
        # Bundles share small files, and the copy is most of what such a one costs.
        sha256, size = hashlib.sha256(content).hexdigest(), len(content)
        if self.has(sha256, size):
            return Staged(sha256, size, source, copied=False)
        return self.take([content])

    def take(self, chunks: Iterable[bytes | memoryview]) -> Staged:
        """`stage` for bytes that come from elsewhere."""
        target = Path(f"{self.root}/tmp/{uuid4().hex}")
        try:
            _make_folder(f"{self.root}/tmp")
            return _write(chunks, target)
        except BaseException as error:
            with suppress(OSError):
                os.unlink(target)
            if isinstance(error, OSError):
                raise self._unwritable(error) from error
            raise

    def publish(self, *staged: Staged) -> None:
        copies: list[Staged] = []
        try:
            for one in staged:
                copies.append(one if one.copied else self._copy(one))
            self._place(copies)
        except BaseException:
            for copy in copies:
                self.discard(copy)
            raise

    def _place(self, copies: Iterable[Staged]) -> None:
        # Each step for all files: the disk then does in one go what it would do file by file.
        for copy in copies:
            with self._explained(copy.path):
                sync(copy.path)
        folders = set()
        try:
            for copy in copies:
                target = self.place(copy.sha256)
                with self._explained(copy.path):
                    _make_folder(os.path.dirname(target))
                    os.replace(copy.path, target)
                folders.add(os.path.dirname(target))
        finally:  # also of those that are there when another fails: others may rely on them
            for folder in folders:
                with self._explained(Path(folder)):
                    sync(folder)

    def _copy(self, staged: Staged) -> Staged:
        copy = self.take(read(staged.path))
        try:
            refuse_others(staged.path, staged.sha256, copy.sha256)
        except Conflict:
            self.discard(copy)
            raise
        return copy

    def discard(self, staged: Staged) -> None:
        if staged.copied:
            with suppress(OSError):
                os.unlink(staged.path)

    def has(self, sha256: str, size: int) -> bool:
        try:
            return os.stat(self.place(sha256)).st_size == size
        except OSError:
            return False

    def verify(self, sha256: str, size: int) -> None:
        check(Path(self.place(sha256)), sha256, size)

    def fetch(self, sha256: str, size: int) -> Path:
        path = Path(self.place(sha256))
        check(path, sha256, size)
        return path

    def note(self, digests: Iterable[str]) -> str:
        path = f"{self.root}/tmp/{uuid4().hex}{NOTE}"
        try:
            _make_folder(f"{self.root}/tmp")
            # Readable for whoever may read the files. Not synced, which would cost each
            # registration a wait for the disk.
            _write(["\n".join(digests).encode()], Path(path))
        except OSError as error:
            raise self._unwritable(error) from error
        return path

    def notes(self) -> Iterator[tuple[Stray, set[str]]]:
        for found in self._listed("tmp", NOTES):
            try:
                yield found, set(Path(found.path).read_text(errors="replace").split())
            except FileNotFoundError:
                continue  # removed since it was listed
            except OSError as error:  # which files are about to be stored is not known without
                raise self._unreadable(found.path, error) from error

    def files(self) -> Iterator[tuple[str, Stray]]:
        for folder in self._names("sha256", _FOLDER):
            for found in self._listed(f"sha256/{folder}", DIGEST):
                sha256 = os.path.basename(found.path)
                if sha256.startswith(folder):
                    yield sha256, found

    def leftovers(self) -> Iterator[Stray]:
        return self._listed("tmp", BEING_WRITTEN)

    def _listed(self, folder: str, names: re.Pattern[str]) -> Iterator[Stray]:
        """The files in a folder that have such a name."""
        for name in self._names(folder, names):
            path = f"{self.root}/{folder}/{name}"
            try:
                found = _stray(path)
            except OSError as error:
                raise self._unreadable(path, error) from error
            if found:
                yield found

    def _names(self, folder: str, names: re.Pattern[str]) -> list[str]:
        """What has such a name in a folder: a stranger's file is not ours to remove."""
        path = f"{self.root}/{folder}"
        try:
            return [name for name in os.listdir(path) if names.fullmatch(name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unreadable(path, error) from error

    def remove(self, path: str) -> None:
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as error:
            raise Unreachable(
                f"{path} cannot be removed ({error.strerror}). See {self._variable}."
            ) from error

    def place(self, sha256: str) -> str:
        check_digest(sha256, self.root)
        return f"{self.root}/sha256/{sha256[:2]}/{sha256}"

    def marker(self, name: str = MARKER) -> bytes | None:
        path = Path(self.root, name)
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            if path.is_symlink():
                raise Unreachable(
                    f"{path} is a link to {os.readlink(path)}, where nothing is. Bring back what "
                    f"is meant, or remove the link. Check {self._variable}."
                ) from error
            return None
        except OSError as error:
            raise self._unreadable(path, error) from error

    def mark(self, content: bytes, *, anew: bool = False) -> None:
        written = self.take([content])
        try:
            with self._explained(written.path):
                sync(written.path)
                if anew:
                    os.replace(written.path, Path(self.root, MARKER))
                else:
                    name_once(written.path, Path(self.root, MARKER))
                sync(self.root)
        finally:
            self.discard(written)

    @contextmanager
    def _explained(self, staged: Path) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise Conflict(
                f"{staged} vanished before it was stored: `modelmint models gc` ran with too "
                "short a grace. Do the same again."
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error

    def _unreadable(self, path: str | Path, error: OSError) -> Unreachable:
        return Unreachable(
            f"{path} cannot be read ({error.strerror}). Check {self._variable}, and that whoever "
            "uses the registry may read what is there."
        )

    def _unwritable(self, error: OSError) -> Unreachable:
        return Unreachable(
            f"The folder {self.root} cannot be written ({error.strerror}). Point "
            f"{self._variable} to a folder you may write, with room for the model."
        )


def check(path: Path, sha256: str, size: int) -> None:
    """Read a local file and compare it with what it should be. Raises Corrupt."""
    try:
        with path.open("rb") as file:
            actual_size = os.fstat(file.fileno()).st_size
            if actual_size != size:
                raise Corrupt(f"{path} has {actual_size} bytes instead of {size}")
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Corrupt(f"{path} cannot be read ({error.strerror})") from error
    if actual != sha256:
        raise changed(path, actual)


def _stray(path: str) -> Stray | None:
    """None of a path where no file is: no store made that."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None  # published or removed since it was listed
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself
            return None
        raise
    if not stat.S_ISREG(status.st_mode):
        return None
    age_s = max(0.0, time.time() - status.st_mtime)
    return Stray(path, status.st_size, age_s, removable=False)


def _write(chunks: Iterable[bytes | memoryview], target: Path) -> Staged:
    """Write and hash in one pass, so that the digest is of the very bytes that were stored."""
    sha256, size = hashlib.sha256(), 0
    # Created read-only (the open descriptor may write): nobody edits a stored file by accident.
    descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444)
    with os.fdopen(descriptor, "wb") as writer:
        for chunk in chunks:
            sha256.update(chunk)
            size += writer.write(chunk)
        writer.flush()
        with suppress(AttributeError, OSError):  # a hint, which some systems do not take
            # Linux then begins to write, and the sync waits less.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return Staged(sha256.hexdigest(), size, target, copied=True)


def _make_folder(folder: str) -> None:
    if not os.path.isdir(folder):
        _make_folder(os.path.dirname(folder))
        with suppress(FileExistsError):
            os.mkdir(folder)
        sync(os.path.dirname(folder))


def name_once(written: Path, target: Path) -> bool:
    """Give a file a name that is not taken yet; False of one that is, which stays as it is."""
    try:
        os.link(written, target)
    except FileExistsError:
        return False
    except OSError as error:
        # Some file shares have no links. Two who are first at once may overwrite each other there.
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS) or target.exists():
            raise
        os.replace(written, target)
    return True


def sync(path: str | Path) -> None:
    """Make the bytes of a file last, or what was renamed or created in a folder."""
    # A rename lives in the folder: without this a power cut may lose the name of a synced file.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
