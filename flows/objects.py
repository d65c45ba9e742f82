"""Objects in S3 that a batch job reads: which of them a URL names, and their content.

Settings and errors of requests are those of the artifact store (`registry.artifacts.s3`).
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from registry import RegistryError, Unreachable
from registry.artifacts.s3 import Missing, Refusal, Requests, Taken
from registry.artifacts.store import hide_secrets
from tasks.bundle.signature import Signature
from tasks.errors import InputChanged, InputError
from tasks.files import tables
from tasks.hashed import changed
from tasks.inputs import SUFFIXES, chosen

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
_MAGIC = re.compile(r"[*?[]")
_TRIES = 5
"""How often a download is resumed that breaks off without a byte."""


@dataclass(frozen=True)
class Object:
    """One object, as the server described it."""

    bucket: str
    key: str
    etag: str
    size: int
    """Bytes."""
    modified: float
    """Seconds since 1970."""

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Named:
    """What a URL names: a file, or a folder with those of its objects that are read."""

    place: str
    """BUCKET/KEY, without a final slash."""
    objects: Sequence[Object]
    prefix: str | None
    """Where they were listed; None of an object that was asked for alone."""


class Gone(InputChanged):
    """The object does not exist any more."""


def is_url(given: str) -> bool:
    """Whether an input is a URL, and not the path of a file. The URL may be wrong."""
    return _SCHEME.match(given) is not None and not Path(given).exists()


def parse(url: str) -> tuple[str, str]:
    """Bucket and key of a URL.

    Raises:
        InputError: it is not the URL of a bucket or of objects in one.
    """
    scheme, rest = url.split(":", 1)
    shown = hide_secrets(url)
    if scheme.lower() != "s3":
        raise InputError(
            f"{shown}: inputs are paths of this machine, or s3://BUCKET/KEY. Copy the files, or "
            "put them into a bucket"
        )
    found = re.fullmatch(r"//([\w.-]+)(?:/(.*))?", rest, re.ASCII | re.DOTALL)
    if scheme != "s3" or found is None:
        raise InputError(
            f"{shown} is not the URL of an input in S3; write s3://BUCKET/KEY, s3://BUCKET/FOLDER/ "
            "or a pattern such as s3://BUCKET/FOLDER/*.parquet. Credentials go into "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return found[1], found[2] or ""


class Objects:
    """Finds and reads objects of any bucket."""

    def __init__(self, say: Callable[[str], None] = lambda text: None) -> None:
        """`say` gets a line of progress, where something takes long."""
        self._requests: dict[str, Requests] = {}
        self._say = say

    def named_by(self, url: str, signature: Signature) -> list[Named]:
        """What a URL names, for a model: an object, a folder, or all that match a pattern.

        Raises:
            InputError: nothing that the model could read.
            Unreachable: the server does not answer.
        """
        bucket, key = parse(url)
        if key and not key.endswith("/"):
            found = self.one(bucket, key)
            if found is not None:
                return [Named(f"{bucket}/{key}", [_readable(found)], None)]
            if _MAGIC.search(key):
                return self._matching(bucket, key, signature)
        place, prefix = f"{bucket}/{key}".rstrip("/"), f"{key.rstrip('/')}/" if key else ""
        below = list(self.below(bucket, prefix))
        if not below:
            raise InputError(
                f"{url} is missing: there is no object of this name, and none below it. Name an "
                "object, a folder or a pattern of the bucket"
            )
        return [_folder(place, prefix, prefix, below, signature)]

    def one(self, bucket: str, key: str) -> Object | None:
        """The object of a key, or None. Raises as `named_by` does."""
        _refuse_odd(bucket, key)
        with _plainly():
            try:
                found = self._of(bucket).call("head_object", "ETag", "ContentLength", Key=key)
            except Missing:
                return None
        return _object(bucket, key, found, found["ContentLength"])

    def below(self, bucket: str, prefix: str) -> Iterator[Object]:
        """Every object whose key begins with `prefix`; those that only mark a folder are left out.

        Raises:
            InputError, Unreachable: as `named_by` does.
        """
        began, listed = time.monotonic(), 0
        with _plainly():
            for found in self._of(bucket).listed(prefix):
                listed += 1
                if not listed % 1_000 and time.monotonic() - began > 1:
                    self._say(f"{listed:,} objects listed in s3://{bucket}/{prefix}")
                if not found["Key"].endswith("/"):
                    yield _object(bucket, found["Key"], found, found["Size"])

    def content(self, found: Object) -> Iterator[bytes]:
        """The bytes of exactly this object. A download that breaks off goes on where it was.

        Raises:
            Gone: it was removed meanwhile.
            InputChanged: it was replaced meanwhile.
            InputError: it may not be read.
            Unreachable: the server does not answer.
        """
        s3, done, broken = self._of(found.bucket), 0, 0
        while done < found.size:
            rest = {"Range": f"bytes={done}-"} if done else {}
            with _plainly(found):
                given = {"Key": found.key, "IfMatch": found.etag, **rest}
                answer = s3.call("get_object", "ContentLength", **given)
            try:
                with s3.reading(answer) as pieces:
                    if answer["ContentLength"] != found.size - done:
                        raise Unreachable(f"{found.url}: the server sent another part of it")
                    for piece in pieces:
                        done, broken = done + len(piece), 0
                        yield piece
                if done < found.size:
                    raise Unreachable(f"{found.url}: the download broke off. Try again.")
            except Unreachable:
                broken += 1
                if broken > _TRIES:
                    raise
                time.sleep(0.1 * 2**broken)

    def _matching(self, bucket: str, pattern: str, signature: Signature) -> list[Named]:
        """Objects and folders that match a pattern, in the order of their names."""
        magic = _MAGIC.search(pattern)
        assert magic is not None
        prefix = pattern[: magic.start()]
        parts, matched = pattern.rstrip("/").split("/"), dict[str, list[Object]]()
        for found in self.below(bucket, prefix):
            names = found.key.split("/")
            length = _match(names, parts)
            if length is not None:
                matched.setdefault("/".join(names[:length]), []).append(found)
        if not matched:
            raise InputError(f"s3://{bucket}/{pattern} matches no object")
        return [
            Named(f"{bucket}/{key}", [_readable(objects[0])], prefix)
            if objects[0].key == key
            else _folder(f"{bucket}/{key}", f"{key}/", prefix, objects, signature)
            for key, objects in sorted(matched.items())
        ]

    def _of(self, bucket: str) -> Requests:
        if bucket not in self._requests:
            place = f"s3://{bucket}"
            self._requests[bucket] = Requests(bucket, place, "the input", "list and read objects")
        return self._requests[bucket]


@contextmanager
def _plainly(found: Object | None = None) -> Iterator[None]:
    """What a person must correct as an `InputError`; `found` is the object that is read."""
    try:
        yield
    except Missing as error:
        if found is None:
            raise
        raise Gone(f"{found.url} was removed before it was read") from error
    except Taken as error:
        raise changed("the object" if found is None else found.url) from error
    except Refusal as error:
        raise InputError(str(error)) from error
    except Unreachable:
        raise
    except RegistryError as error:  # the extra is not installed
        raise InputError(str(error)) from error


def _object(bucket: str, key: str, found: Any, size: int) -> Object:
    return Object(bucket, key, found["ETag"], size, found["LastModified"].timestamp())


def _readable(found: Object) -> Object:
    """The same. Raises `InputError` if no job reads such files, before it is downloaded."""
    _refuse_odd(found.bucket, found.key)
    if not tables.form(Path(found.key), SUFFIXES) and not found.key.lower().endswith(SUFFIXES):
        raise InputError(
            f"{found.url}: a file must end in {', '.join(SUFFIXES)}, to be read by that form"
        )
    return found


def _folder(
    place: str, prefix: str, listed: str, objects: Sequence[Object], signature: Signature
) -> Named:
    """A folder with those of its objects that `tasks.inputs.find` reads in it."""
    names = {found.key.removeprefix(prefix): found for found in objects}
    read = [names[name] for name in chosen(list(names), signature, f"s3://{place}")]
    for found in read:
        _refuse_odd(found.bucket, found.key)
    return Named(place, read, listed)


def _refuse_odd(bucket: str, key: str) -> None:
    """Raises `InputError` if a key cannot be the path of a file."""
    if cannot_be_a_file(key):
        raise InputError(
            f"s3://{bucket}/{key}: a part of the name is empty, '.', '..' or longer than 255 "
            "bytes, so it cannot be the name of a file. Copy the object to another key"
        )


def cannot_be_a_file(key: str) -> bool:
    """Whether a key cannot be the path of a file."""
    return "\0" in key or any(
        part in ("", ".", "..") or len(os.fsencode(part)) > 255 for part in key.split("/")
    )


def _match(names: Sequence[str], pattern: Sequence[str]) -> int | None:
    """How many of the names the whole pattern matches, from the first on; None if it does not.

    As in a shell, * and ? match no hidden names; ** matches any number of folders.
    """
    if not pattern:
        return 0
    if pattern[0] == "**":
        for skipped in range(len(names)):
            length = _match(names[skipped:], pattern[1:])
            if length is not None:
                return skipped + length
        return None
    if not names or not fnmatchcase(names[0], pattern[0]):
        return None
    if names[0].startswith(".") and not pattern[0].startswith("."):
        return None
    length = _match(names[1:], pattern[1:])
    return None if length is None else 1 + length
