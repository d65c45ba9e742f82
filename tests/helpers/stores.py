"""Stores for the files of a registry, in a folder and in a bucket on a real S3 server, and direct
access to those files without the registry.
"""

import shutil
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from registry_helpers import Place
from servers import create_bucket, s3_environment, start_s3

from registry import Registry
from registry.artifacts import MARKER, NOTE, Store, open_store


class Behind(Protocol):
    """A store as seen without the registry."""

    root: str

    def names(self) -> set[str]:
        """Paths below the root, without the marker, notes and unfinished uploads."""

    def read(self, name: str) -> bytes: ...
    def write(self, name: str, content: bytes) -> None: ...
    def delete(self, name: str) -> None: ...

    def abandon(self, content: bytes) -> str:
        """Leave the file of a killed registration. Returns its path."""


def files_among(names: Iterable[str]) -> set[str]:
    return {name for name in names if name != MARKER and not name.endswith(NOTE)}


class BehindFolder:
    def __init__(self, folder: Path) -> None:
        self._folder, self.root = folder, str(folder)

    def names(self) -> set[str]:
        files = (path for path in self._folder.rglob("*") if path.is_file())
        return files_among(str(path.relative_to(self._folder)) for path in files)

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it is read-only
        path.write_bytes(content)

    def delete(self, name: str) -> None:
        (self._folder / name).unlink()

    def abandon(self, content: bytes) -> str:
        name = f"tmp/{'0' * 32}"
        self.write(name, content)
        return f"{self.root}/{name}"


class BehindBucket:
    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._client, self._bucket = _client(endpoint), create_bucket(endpoint)
        self.root = f"s3://{self._bucket}/of/ours"

    def names(self) -> set[str]:
        listed = self._client.list_objects_v2(Bucket=self._bucket, Prefix="of/ours/")
        listed = listed.get("Contents", ())
        return files_among(found["Key"].removeprefix("of/ours/") for found in listed)

    def read(self, name: str) -> bytes:
        return self._client.get_object(**self._object(name))["Body"].read()

    def write(self, name: str, content: bytes) -> None:
        self._client.put_object(**self._object(name), Body=content)

    def delete(self, name: str) -> None:
        self._client.delete_object(**self._object(name))

    def abandon(self, content: bytes) -> str:
        name = f"sha256/00/{'0' * 64}"
        begun = self._client.create_multipart_upload(**self._object(name))["UploadId"]
        part = {"PartNumber": 1, "UploadId": begun, "Body": content}
        self._client.upload_part(**self._object(name), **part)
        return f"{self.root}/{name}?uploadId={begun}"

    def _object(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"of/ours/{name}"}


@cache
def _client(endpoint: str) -> Any:
    """A client that is independent of the registry's; making one takes half a second."""
    import boto3

    given = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **given)


@dataclass(frozen=True)
class Kept(Place):
    """A registry with its files in one of the two kinds of store."""

    behind: Behind | None = None

    def open(self) -> Registry:
        return Registry(self.url, self.behind.root, self.folder / "cache")

    def store(self) -> Store:
        return open_store(self.behind.root, self.folder / "cache")


@pytest.fixture(scope="session")
def s3() -> str:
    """The endpoint of the session's S3 server."""
    return start_s3()


@pytest.fixture
def bucket(s3: str, tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """An empty registry that keeps its files in an empty bucket."""
    for name, value in s3_environment(s3).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # without retries, failures are immediate
    shutil.copy(sqlite_template, tmp_path)
    return Kept(tmp_path, behind=BehindBucket(s3))


@pytest.fixture(params=["folder", "bucket"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> Kept:
    """An empty registry; the test runs once for each kind of store."""
    if request.param == "bucket":
        return request.getfixturevalue("bucket")
    shutil.copy(sqlite_template, tmp_path)
    return Kept(tmp_path, behind=BehindFolder(tmp_path / "artifacts"))


def store_file(
    store: Store, folder: Path, content: bytes = b"nobody's", *, noted: bool = True
) -> str:
    """Store a file that no version refers to, by default with a note. Returns its SHA-256."""
    source = folder / "source"
    source.write_bytes(content)
    staged = store.stage(source)
    if noted:
        store.note([staged.sha256])
    store.publish(staged)
    store.discard(staged)
    return staged.sha256


def place_of(sha256: str) -> str:
    """The name of a stored file, as the documentation of the store gives it."""
    return f"sha256/{sha256[:2]}/{sha256}"


def flipped(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


class Line:
    """A TCP proxy to a server that fails after so many bytes in one direction, permanently.

    With `stall` it keeps its connections open but transfers nothing more.
    """

    def __init__(
        self, endpoint: str, *, up: int | None = None, down: int | None = None, stall: bool = False
    ) -> None:
        self._server = urlsplit(endpoint)
        self._left = {"up": up, "down": down}
        self._stall = stall
        self.broken = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self.broken.is_set():
            client, _ = self._listener.accept()
            server = socket.create_connection((self._server.hostname, self._server.port))
            for direction, ends in {"up": (client, server), "down": (server, client)}.items():
                threading.Thread(target=self._pump, args=(direction, *ends), daemon=True).start()

    def _pump(self, direction: str, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError), source, target:
            while content := source.recv(1 << 16):
                left = self._left[direction]
                if left is not None and len(content) > left:
                    self.broken.set()
                    self._listener.close()
                    if self._stall:
                        threading.Event().wait()
                if self.broken.is_set():
                    break
                if left is not None:
                    self._left[direction] = left - len(content)
                target.sendall(content)
            for end in (source, target):
                end.shutdown(socket.SHUT_RDWR)
