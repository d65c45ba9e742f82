"""Stores for the files of a registry, in a folder and in a bucket on a real S3 server, and direct
access to those files without the registry.
"""

import shutil
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
        self._client, self._bucket = s3_client(endpoint), create_bucket(endpoint)
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
def s3_client(endpoint: str) -> Any:
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
def s3() -> Iterator[str]:
    """The endpoint of the session's S3 server."""
    from botocore.loaders import create_loader

    # Each registry has its own session of botocore, which would parse the same 3 MB of JSON.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", cache(create_loader))
        yield start_s3()


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


class Faulty:
    """An HTTP proxy to an S3 server. Of every `every` requests one fails: with status 500 or 503,
    or after half of its answer. A request whose path ends in `stall_at` is never answered.

    `asked` has the method and path of each request.
    """

    def __init__(self, endpoint: str, every: int | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.every, self.stall_at = every, "\0"
        self.stalled = threading.Event()
        self._server, self._lock = urlsplit(endpoint), threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy._answer(self)

            do_PUT = do_HEAD = do_POST = do_DELETE = do_GET

            def log_message(self, *_: object) -> None: ...

        self._listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._listener.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._listener.server_port}"
        threading.Thread(target=self._listener.serve_forever, daemon=True).start()

    @property
    def downloads(self) -> list[str]:
        """The keys of the objects that were asked for, each time."""
        parts = (path.split("?")[0].split("/", 2) for method, path in self.asked if method == "GET")
        return [part[2] for part in parts if len(part) > 2 and part[2]]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.asked.append((handler.command, handler.path))
            number = len(self.asked)
        if handler.path.split("?")[0].endswith(self.stall_at):
            self.stalled.set()
            threading.Event().wait()
        fault = number // self.every % 3 if self.every and number % self.every == 0 else None
        if fault in (0, 1):
            handler.send_response((500, 503)[fault])
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        length = int(handler.headers.get("Content-Length") or 0)
        connection = HTTPConnection(self._server.hostname or "", self._server.port)
        body = handler.rfile.read(length)
        connection.request(handler.command, handler.path, body, dict(handler.headers))
        found = connection.getresponse()
        content = found.read()
        handler.send_response(found.status)
        for name, value in found.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                handler.send_header(name, value)
        size = found.getheader("Content-Length") if handler.command == "HEAD" else len(content)
        handler.send_header("Content-Length", str(size))
        handler.end_headers()
        handler.wfile.write(content[: len(content) // 2] if fault == 2 else content)
        if fault == 2:
            handler.close_connection = True
