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
    DIGEST,
    MARKER,
    NOTE,
    NOTES,
    Staged,
    changed,
    check_digest,
    read,
)
from registry.errors import Conflict, Corrupt, Unreachable
from registry.records import Stray

_FOLDER = re.compile(r"[0-9a-f]{2}")


class Folder:
    """A store in a folder of this machine, or of a file share."""

    remote = False

    def __init__(self, root: Path, variable: str = "MODELMINT_ARTIFACTS") -> None:
        self.root = str(root)
        self._variable = variable
        """The environment variable to name in messages."""

    def stage(self, source: Path) -> Staged:
        return self.take(read(source))

    def take(self, chunks: Iterable[bytes]) -> Staged:
        """`stage` for bytes that are not in a file."""
        target = Path(self.root, "tmp", uuid4().hex)
        try:
            _make_folder(target.parent)
            return _write(chunks, target)
        except BaseException as error:
            with suppress(OSError):
                target.unlink()
            if isinstance(error, OSError):
                raise self._unwritable(error) from error
            raise

    def publish(self, *staged: Staged) -> None:
        # All files are synced before the first one gets its name: the disk can write them together.
        for one in staged:
            with self._translate_errors(one.path):
                sync(one.path)
        folders = set()
        try:
            for one in staged:
                target = Path(self.path_of(one.sha256))
                with self._translate_errors(one.path):
                    _make_folder(target.parent)
                    os.replace(one.path, target)
                folders.add(target.parent)
        finally:  # also if one fails: other processes may already use the files before it
            for folder in folders:
                with self._translate_errors(folder):
                    sync(folder)

    def discard(self, staged: Staged) -> None:
        with suppress(OSError):
            staged.path.unlink()

    def has(self, sha256: str, size: int) -> bool:
        try:
            return os.stat(self.path_of(sha256)).st_size == size
        except OSError:
            return False

    def verify(self, sha256: str, size: int) -> None:
        check(Path(self.path_of(sha256)), sha256, size)

    def fetch(self, sha256: str, size: int) -> Path:
        path = Path(self.path_of(sha256))
        check(path, sha256, size)
        return path

    def note(self, digests: Iterable[str]) -> str:
        path = Path(self.root, "tmp", f"{uuid4().hex}{NOTE}")
        try:
            _make_folder(path.parent)
            # Not synced: each registration would wait for the disk once more (about 8 ms).
            _write(["\n".join(digests).encode()], path)
        except OSError as error:
            raise self._unwritable(error) from error
        return str(path)

    def notes(self) -> Iterator[tuple[Stray, set[str]]]:
        for found in self._listed("tmp", NOTES):
            try:
                yield found, set(Path(found.path).read_text(errors="replace").split())
            except FileNotFoundError:
                continue  # removed since it was listed
            except OSError as error:  # its files would look as if nobody had announced them
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
        """The files in a folder whose names match."""
        for name in self._names(folder, names):
            path = f"{self.root}/{folder}/{name}"
            try:
                found = _stray(path)
            except OSError as error:
                raise self._unreadable(path, error) from error
            if found:
                yield found

    def _names(self, folder: str, names: re.Pattern[str]) -> list[str]:
        """The matching names in a folder; other files are not ours and are never removed."""
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
                f"{path} cannot be removed ({error.strerror}). Check {self._variable}."
            ) from error

    def path_of(self, sha256: str) -> str:
        check_digest(sha256, self.root)
        return f"{self.root}/sha256/{sha256[:2]}/{sha256}"

    def marker(self, name: str = MARKER) -> bytes | None:
        path = Path(self.root, name)
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            if path.is_symlink():
                raise Unreachable(
                    f"{path} is a link to {os.readlink(path)}, which does not exist. Restore that "
                    f"file, or remove the link. Check {self._variable}."
                ) from error
            return None
        except OSError as error:
            raise self._unreadable(path, error) from error

    def mark(self, content: bytes, *, anew: bool = False) -> None:
        written = self.take([content])
        try:
            with self._translate_errors(written.path):
                sync(written.path)
                if anew:
                    os.replace(written.path, Path(self.root, MARKER))
                else:
                    name_once(written.path, Path(self.root, MARKER))
                sync(self.root)
        finally:
            self.discard(written)

    @contextmanager
    def _translate_errors(self, staged: Path) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise Conflict(
                f"{staged} vanished before it was stored: `modelmint models gc` ran with too short "
                "a grace period. Try again."
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error

    def _unreadable(self, path: str | Path, error: OSError) -> Unreachable:
        return Unreachable(
            f"{path} cannot be read ({error.strerror}). Check {self._variable}, and that you have "
            "permission to read the files there."
        )

    def _unwritable(self, error: OSError) -> Unreachable:
        return Unreachable(
            f"The folder {self.root} cannot be written ({error.strerror}). Point "
            f"{self._variable} to a folder that you may write, with room for the model."
        )


def check(path: Path, sha256: str, size: int) -> None:
    """Compare a local file with its size and SHA-256. Raises Corrupt."""
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
    """The file at a path; None if it is not a regular file, since stores make only those."""
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


def _write(chunks: Iterable[bytes], target: Path) -> Staged:
    """Write and hash in one pass, so that the digest is that of the written bytes."""
    sha256, size = hashlib.sha256(), 0
    # Created read-only, so that nobody edits a stored file by accident; this descriptor may write.
    descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444)
    with os.fdopen(descriptor, "wb") as writer:
        for chunk in chunks:
            sha256.update(chunk)
            size += writer.write(chunk)
    return Staged(sha256.hexdigest(), size, target)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
        sync(folder.parent)


def name_once(written: Path, target: Path) -> bool:
    """Give a file a name; returns False and changes nothing if the name is taken."""
    try:
        os.link(written, target)
    except FileExistsError:
        return False
    except OSError as error:
        # Some file shares have no hard links: there, concurrent processes may overwrite each other.
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS) or target.exists():
            raise
        os.replace(written, target)
    return True


def sync(path: str | Path) -> None:
    """Sync a file, or the names in a folder, to the disk."""
    # A rename changes the folder: without syncing it, a power cut may lose the name of a file.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
