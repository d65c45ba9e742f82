"""Content-addressed files: bytes in, SHA-256 out. No SQL.

    root/tmp/<random>            being written; whatever stays here is a crash's leftover
    root/sha256/ab/<digest>      complete, synced, read-only; never changed

Only bytes are taken in, never a caller's path as a source to be read later, and nothing is
found by a path that came from outside.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from registry.errors import Corrupt, InvalidCandidate, Unreachable
from registry.records import Artifact, Stray

_CHUNK = 1 << 20  # bytes


def digest(artifacts: Iterable[Artifact]) -> str:
    """The identity of a bundle: SHA-256 of the canonical JSON list of its identity files.

    `[{"path":...,"sha256":...,"size":...},...]` sorted by path, without white space, in UTF-8.
    """
    manifest = [
        {"path": artifact.path, "sha256": artifact.sha256, "size": artifact.size}
        for artifact in sorted(artifacts, key=lambda artifact: artifact.path)
        if artifact.identity
    ]
    text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class ArtifactStore:
    """A folder of files named by their SHA-256. Opening it touches nothing.

    Raises:
        Unreachable: the root is a URL.
    """

    def __init__(self, root: str | Path) -> None:
        # A Path has already collapsed s3://bucket to s3:/bucket; one letter is a drive.
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(root)):
            raise Unreachable(
                f"Artifacts cannot be kept at {str(root)!r}: this release supports a local folder "
                "only. Set MODELMINT_ARTIFACTS to a folder."
            )
        self.root = Path(root).absolute()

    def path(self, sha256: str) -> Path:
        """Where the file of that digest lies, or would lie."""
        return self.root / "sha256" / sha256[:2] / sha256

    def has(self, sha256: str, size: int) -> bool:
        """Whether the file is there with that many bytes; its content is not read."""
        try:
            return self.path(sha256).stat().st_size == size
        except OSError:
            return False

    def put(self, source: Path) -> tuple[str, int]:
        """Copy a file in, durably; returns its SHA-256 and its size in bytes.

        A file that is already there is replaced by the same bytes: that repairs a damaged one
        and renews its age, which keeps `gc` away until the row is written.

        Raises:
            InvalidCandidate: the source cannot be read.
            Unreachable: the store cannot be written.
        """
        staged = self.root / "tmp" / uuid4().hex
        try:
            _make_folder(staged.parent)
            sha256, size = _copy(source, staged)
            target = self.path(sha256)
            _make_folder(target.parent)
            os.replace(staged, target)
            _sync_folder(target.parent)
        except OSError as error:
            with suppress(OSError):
                staged.unlink()
            raise Unreachable(
                f"The artifact store {self.root} cannot be written ({error.strerror}). Point "
                "MODELMINT_ARTIFACTS to a folder you may write, with room for the model."
            ) from error
        return sha256, size

    def verify(self, sha256: str, size: int) -> None:
        """Read the whole file and compare.

        Raises:
            Corrupt: it is missing, or its size or content is not what was registered.
        """
        path = self.path(sha256)
        try:
            with path.open("rb") as file:
                actual_size = os.fstat(file.fileno()).st_size
                if actual_size != size:
                    raise Corrupt(f"{path} has {actual_size} bytes instead of {size}")
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise Corrupt(f"{path} cannot be read ({error.strerror})") from error
        if actual != sha256:
            raise Corrupt(f"{path} was changed: its SHA-256 is {actual}")

    def strays(self, referenced: set[str], grace_s: float) -> list[Stray]:
        """Files that no version refers to and everything in tmp/, oldest first.

        `grace_s`, in seconds, protects what a registration may be about to refer to.
        """
        now = time.time()
        found = []
        for path in self._unreferenced(referenced):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # published or removed since it was listed
            age_s = max(0.0, now - status.st_mtime)
            found.append(Stray(path, status.st_size, age_s, removable=age_s >= grace_s))
        return sorted(found, key=lambda stray: -stray.age_s)

    def remove(self, stray: Stray) -> None:
        """Delete a stray file; one that is gone already is fine.

        Raises:
            Unreachable: the store cannot be written.
        """
        try:
            stray.path.unlink(missing_ok=True)
        except OSError as error:
            raise Unreachable(
                f"{stray.path} cannot be removed ({error.strerror}). See MODELMINT_ARTIFACTS."
            ) from error

    def _unreferenced(self, referenced: set[str]) -> Iterator[Path]:
        yield from (path for path in (self.root / "tmp").glob("*") if path.is_file())
        for path in (self.root / "sha256").glob("??/*"):
            # Only what this store named itself: a stranger's file is not ours to remove.
            if re.fullmatch(r"[0-9a-f]{64}", path.name) and path.name not in referenced:
                yield path


def _copy(source: Path, target: Path) -> tuple[str, int]:
    """Copy and hash in one pass, so that the digest is of the very bytes that were stored."""
    try:
        reader = source.open("rb")
    except OSError as error:
        raise InvalidCandidate(f"{source} cannot be read ({error.strerror}).") from error
    sha256, size = hashlib.sha256(), 0
    # Created read-only (the open descriptor may write): nobody edits a stored file by accident.
    descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444)
    with reader, os.fdopen(descriptor, "wb") as writer:
        while chunk := reader.read(_CHUNK):
            sha256.update(chunk)
            size += writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return sha256.hexdigest(), size


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    # A rename lives in the folder: without this a power cut may lose the name of a synced file.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
