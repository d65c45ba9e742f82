"""Content-addressed files in an S3 bucket, or in a compatible server. No SQL.

    s3://BUCKET/PREFIX/sha256/ab/<digest>    complete; S3 makes it visible in one step
    s3://BUCKET/PREFIX/tmp/<random>.files    a note of the files that the first registration sends
    s3://BUCKET/PREFIX/registry.json         the registry that owns them; see `registry.ownership`
    cache/sha256/ab/<digest>                 a copy on this machine; may be deleted at any time

`registry.artifacts.s3` says where credentials and endpoint come from.

Why s3fs and not boto3 or obstore: DVC's S3 remotes bring s3fs anyway. boto3 would save about ten
lines: its `upload_fileobj` makes an object visible before its bytes can be compared with their
hash, so the upload in parts would stay here.
"""

import base64
import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from registry.artifacts.folder import Folder
from registry.artifacts.s3 import Missing, Requests, Taken, Unsupported
from registry.artifacts.store import (
    DIGEST,
    MARKER,
    NOTE,
    NOTES,
    Staged,
    changed,
    check_digest,
    hide_secrets,
    read,
    refuse_others,
    unreadable,
)
from registry.errors import Conflict, Corrupt, RegistryError, Unreachable
from registry.records import Stray

_PART = 16 << 20  # bytes in memory; a larger file is sent in parts
_MOST_PARTS = 10_000  # S3's limit
_UPLOAD = "?uploadId="


class Bucket:
    """A store in a bucket."""

    remote = True

    def __init__(self, url: str, cache: Path) -> None:
        parsed = re.fullmatch(
            r"s3://([\w.-]+)((?:/+(?!\.+(?:/|$))[\w.!*'()=+-]+)*)/*", url, re.ASCII
        )
        if parsed is None:
            raise Unreachable(
                f"{hide_secrets(url)!r} is not the URL of a bucket. Set MODELMINT_ARTIFACTS to "
                "s3://BUCKET or s3://BUCKET/PREFIX, of letters, digits and . _ -; credentials go "
                "into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )
        self._bucket = parsed[1]
        names = [name for name in parsed[2].split("/") if name]
        self.root = "/".join(["s3:/", self._bucket, *names])
        self._names = names
        self._s3 = Requests(
            parsed[1],
            f"The artifact store {self.root}",
            "MODELMINT_ARTIFACTS",
            "list, read, write and delete",
        )
        self._prefix = self._below("sha256/")
        self._cache = Folder(cache, "MODELMINT_CACHE")

    def stage(self, source: Path) -> Staged:
        sha256, size = hashlib.sha256(), 0
        for chunk in read(source):
            sha256.update(chunk)
            size += len(chunk)
        return Staged(sha256.hexdigest(), size, source)

    def publish(self, *staged: Staged) -> None:
        for one in staged:
            self._publish(one)

    def _publish(self, staged: Staged) -> None:
        try:
            with staged.path.open("rb") as source:
                if staged.size > _PART:
                    self._send_parts(staged, source)
                else:
                    self._send(staged, source)
        except OSError as error:
            raise unreadable(staged.path, error) from error

    def discard(self, staged: Staged) -> None:
        """Nothing was copied."""

    def has(self, sha256: str, size: int) -> bool:
        try:
            found = self._s3.call("head_object", "ContentLength", Key=self._key(sha256))
        except Missing:
            return False
        return bool(found["ContentLength"] == size)

    def verify(self, sha256: str, size: int) -> None:
        actual = hashlib.sha256()
        for chunk in self._download(sha256, size):
            actual.update(chunk)
        if actual.hexdigest() != sha256:
            raise changed(self.path_of(sha256), actual.hexdigest())

    def fetch(self, sha256: str, size: int) -> Path:
        # A local copy that is missing or was changed is downloaded again.
        with suppress(Corrupt):
            return self._cache.fetch(sha256, size)
        taken = self._cache.take(self._download(sha256, size))
        try:
            if taken.sha256 != sha256:
                raise changed(self.path_of(sha256), taken.sha256)
            self._cache.publish(taken)
        finally:
            self._cache.discard(taken)
        return Path(self._cache.path_of(sha256))

    def note(self, digests: Iterable[str]) -> str:
        key = self._below(f"tmp/{uuid4().hex}{NOTE}")
        self._s3.call("put_object", "ETag", Key=key, Body="\n".join(digests).encode())
        return f"s3://{self._bucket}/{key}"

    def notes(self) -> Iterator[tuple[Stray, set[str]]]:
        for key, stray in self._listed(self._below("tmp/")):
            if NOTES.fullmatch(key.removeprefix(self._below("tmp/"))):
                with suppress(Missing):  # removed since it was listed
                    yield stray, set(b"".join(self._content(key)).decode(errors="replace").split())

    def files(self) -> Iterator[tuple[str, Stray]]:
        for key, stray in self._listed(self._prefix):
            if self._is_own(key):
                yield key.rpartition("/")[2], stray

    def _is_own(self, key: str) -> bool:
        """Whether the key is one that this store uses; other objects are never removed."""
        sha256 = key.rpartition("/")[2]
        return bool(DIGEST.fullmatch(sha256)) and key == self._key(sha256)

    def _listed(self, prefix: str) -> Iterator[tuple[str, Stray]]:
        for found in self._s3.listed(prefix):
            key = found["Key"]
            yield key, self._stray(key, found["Size"], found["LastModified"])

    def leftovers(self) -> Iterator[Stray]:
        """Unfinished uploads, a thousand at most, and unfinished downloads on this machine."""
        found = self._s3.call("list_multipart_uploads", Prefix=self._prefix)
        for upload in found.get("Uploads", ()):
            key, id_ = upload["Key"], upload["UploadId"]
            if not self._is_own(key):
                continue
            with suppress(Missing):  # finished since it was listed
                parts = self._s3.call("list_parts", Key=key, UploadId=id_).get("Parts", ())
                size = sum(part["Size"] for part in parts)
                yield self._stray(f"{key}{_UPLOAD}{id_}", size, upload["Initiated"])
        yield from self._cache.leftovers()

    def remove(self, path: str) -> None:
        if not path.startswith("s3://"):
            return self._cache.remove(path)
        key, _, upload = path.removeprefix(f"s3://{self._bucket}/").partition(_UPLOAD)
        with suppress(Missing):
            if upload:
                self._s3.call("abort_multipart_upload", Key=key, UploadId=upload)
            else:
                self._s3.call("delete_object", Key=key)

    def path_of(self, sha256: str) -> str:
        return f"s3://{self._bucket}/{self._key(sha256)}"

    def marker(self, name: str = MARKER) -> bytes | None:
        try:
            return b"".join(self._content(self._below(name)))
        except Missing:
            return None

    def mark(self, content: bytes, *, anew: bool = False) -> None:
        put = partial(self._s3.call, "put_object", "ETag", Key=self._below(MARKER), Body=content)
        if anew:
            put()
            return
        try:
            with suppress(Taken):
                put(IfNoneMatch="*")
        except Unsupported:  # here, concurrent first writers may overwrite each other
            put()

    def _below(self, name: str) -> str:
        return "/".join([*self._names, name])

    def _key(self, sha256: str) -> str:
        check_digest(sha256, self.root)
        return f"{self._prefix}{sha256[:2]}/{sha256}"

    def _stray(self, key: str, size: int, written: datetime) -> Stray:
        age_s = max(0.0, time.time() - written.timestamp())
        return Stray(f"s3://{self._bucket}/{key}", size, age_s, removable=False)

    def _send(self, staged: Staged, source: BinaryIO) -> None:
        content = source.read(_PART + 1)
        sha256 = hashlib.sha256(content)
        refuse_others(staged.path, staged.sha256, sha256.hexdigest())
        # The server compares the checksum, and refuses bytes that were changed on the way.
        checksum = base64.b64encode(sha256.digest()).decode()
        self._s3.call(
            "put_object",
            "ETag",
            Key=self._key(staged.sha256),
            Body=content,
            ChecksumSHA256=checksum,
        )

    def _send_parts(self, staged: Staged, source: BinaryIO) -> None:
        key, sha256 = self._key(staged.sha256), hashlib.sha256()
        parts: list[dict[str, Any]] = []
        begun = self._s3.call("create_multipart_upload", "UploadId", Key=key)
        of = {"Key": key, "UploadId": begun["UploadId"]}
        part_size = max(_PART, -(-staged.size // _MOST_PARTS))
        try:
            while content := source.read(part_size):
                sha256.update(content)
                part = {"PartNumber": len(parts) + 1}
                sent = self._s3.call("upload_part", "ETag", **of, **part, Body=content)
                parts.append(part | {"ETag": sent["ETag"]})
            refuse_others(staged.path, staged.sha256, sha256.hexdigest())
            self._s3.call("complete_multipart_upload", **of, MultipartUpload={"Parts": parts})
        except BaseException as error:
            with suppress(Missing, RegistryError):
                self._s3.call("abort_multipart_upload", **of)
            if isinstance(error, Missing):
                raise Conflict(
                    f"The upload of {staged.path} was removed before it ended: `modelmint models "
                    "gc` ran with too short a grace period. Try again."
                ) from error
            raise

    def _download(self, sha256: str, size: int) -> Iterator[bytes]:
        """The content of an object in pieces; checks its size, but not its SHA-256."""
        place = self.path_of(sha256)
        try:
            yield from self._content(self._key(sha256), size)
        except Missing as error:
            raise Corrupt(f"{place} is missing") from error

    def _content(self, key: str, size: int | None = None) -> Iterator[bytes]:
        """The content of an object in pieces. Raises Missing, and Corrupt for another size."""
        found = self._s3.call("get_object", "ContentLength", Key=key)
        with self._s3.reading(found) as pieces:
            if size not in (None, found["ContentLength"]):
                place = f"s3://{self._bucket}/{key}"
                raise Corrupt(f"{place} has {found['ContentLength']} bytes instead of {size}")
            yield from pieces
