"""Failures that only a bucket has: network, credentials, and the local cache."""

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from registry_helpers import make_candidate, register_versions
from servers import start_s3
from stores import BehindBucket, Line, flipped, place_of

from registry import Conflict, InvalidCandidate, Unreachable
from registry.artifacts import Bucket
from registry.integrity import verify
from registry.upkeep import gc

ROOT = Path(__file__).parents[2]
LARGE = 20_000_000  # bytes; sent in two parts
PART = 16 << 20

NOBODY = "http://127.0.0.1:9"


def stage(store, folder, content):
    (folder / "source").write_bytes(content)
    return store.stage(folder / "source")


def copies(kept):
    cache = kept.folder / "cache"
    return {str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()}


def test_fetch_from_a_bucket_uses_the_local_cache(bucket, monkeypatch):
    store = bucket.store()
    staged = stage(store, bucket.folder, b"hello")
    store.publish(staged)
    assert copies(bucket) == set()
    path = store.fetch(staged.sha256, 5)
    assert path == bucket.folder / "cache" / place_of(staged.sha256)
    assert copies(bucket) == {place_of(staged.sha256)}
    monkeypatch.setenv("AWS_ENDPOINT_URL", NOBODY)
    assert bucket.store().fetch(staged.sha256, 5) == path  # the next one needs no network


@pytest.mark.parametrize("damaged", [b"hallo", b"hell", b""])
def test_changed_cache_copy_is_fetched_again(bucket, monkeypatch, damaged):
    store = bucket.store()
    staged = stage(store, bucket.folder, b"hello")
    store.publish(staged)
    path = store.fetch(staged.sha256, 5)
    path.chmod(0o644)
    path.write_bytes(damaged)
    assert store.fetch(staged.sha256, 5).read_bytes() == b"hello"
    path.chmod(0o644)
    path.write_bytes(damaged)
    monkeypatch.setenv("AWS_ENDPOINT_URL", NOBODY)
    with pytest.raises(Unreachable):
        bucket.store().fetch(staged.sha256, 5)


def test_unwritable_cache_error_names_modelmint_cache(bucket):
    (bucket.folder / "cache").write_text("a file where the folder should be")
    register_versions(bucket, 1)
    with bucket.open() as registry:
        version = registry.resolve("digits:1").version
        with pytest.raises(Unreachable, match=r"cannot be written .* Point MODELMINT_CACHE to"):
            registry.open(version)


@pytest.mark.parametrize("size", [5, LARGE])
def test_bytes_that_change_between_hash_and_upload_are_refused(bucket, size):
    store = bucket.store()
    content = os.urandom(size)
    staged = stage(store, bucket.folder, content)
    for other in (flipped(content), content[:-1], content + b"!"):
        (bucket.folder / "source").write_bytes(other)
        with pytest.raises(Conflict, match="source was changed while it was registered"):
            store.publish(staged)
    (bucket.folder / "source").unlink()
    with pytest.raises(InvalidCandidate, match="source cannot be read"):
        store.publish(staged)
    assert bucket.behind.names() == set()
    assert list(store.leftovers()) == []


def test_two_prefixes_of_a_bucket_are_two_stores(bucket):
    ours = bucket.store()
    theirs = Bucket(bucket.behind.root + "-too", bucket.folder / "their cache")
    staged = stage(ours, bucket.folder, b"hello")
    ours.publish(staged)
    assert not theirs.has(staged.sha256, 5)
    assert list(theirs.files()) == []
    assert [sha256 for sha256, _ in ours.files()] == [staged.sha256]


def test_bucket_listing_reads_all_pages(bucket, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "7")
    behind = BehindBucket(start_s3())
    monkeypatch.setenv("AWS_ENDPOINT_URL", behind.endpoint)
    digests = {f"{number:064x}" for number in range(30)}
    for sha256 in digests:
        behind.write(place_of(sha256), b"")
    assert len(behind.names()) == 7
    assert {sha256 for sha256, _ in replace(bucket, behind=behind).store().files()} == digests


def test_broken_upload_leaves_no_object(bucket, monkeypatch):
    with bucket.open() as registry:
        before = registry.register("digits", make_candidate(bucket.folder / "a"), actor="ada")
    there = bucket.behind.names()
    large = make_candidate(bucket.folder / "b")
    large.files["model.onnx"].write_bytes(os.urandom(LARGE))
    line = Line(bucket.behind.endpoint, up=PART + 1_000_000)
    monkeypatch.setenv("AWS_ENDPOINT_URL", line.endpoint)
    with bucket.open() as registry:
        with pytest.raises(Unreachable, match="MODELMINT_ARTIFACTS, AWS_ENDPOINT_URL"):
            registry.register("digits", large, actor="ada")
        assert line.broken.is_set()
        assert registry.model("digits").last_version == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.behind.endpoint)
    with bucket.open() as registry:
        assert verify(registry).problems == []
        (leftover, *_) = registry.files.leftovers()
        assert leftover.size == PART  # the part that arrived
        gc(registry, dry_run=False, grace_s=0)
        assert list(registry.files.leftovers()) == []
        assert bucket.behind.names() == there
        again = registry.register("digits", large, actor="ada")
        assert (again.created, again.version.version) == (True, before.version.version + 1)
        assert verify(registry).problems == []


def test_broken_download_leaves_no_cache_file(bucket, monkeypatch):
    store, content = bucket.store(), os.urandom(LARGE)
    staged = stage(store, bucket.folder, content)
    store.publish(staged)
    for need in ("fetch", "verify"):
        line = Line(bucket.behind.endpoint, down=LARGE // 2)
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.endpoint)
        with pytest.raises(Unreachable, match="MODELMINT_ARTIFACTS, AWS_ENDPOINT_URL"):
            getattr(bucket.store(), need)(staged.sha256, LARGE)
        assert line.broken.is_set()
        assert copies(bucket) == set()
    assert store.fetch(staged.sha256, LARGE).read_bytes() == content


SENDING = """
import sys
from pathlib import Path
from registry import Registry
from registry_helpers import make_candidate

url, root, folder = sys.argv[1:]
candidate = make_candidate(Path(folder) / "bundle")
candidate.files["model.onnx"].write_bytes(bytes(20_000_000))
with Registry(url, root, Path(folder) / "cache") as registry:
    registry.register("digits", candidate, actor="victim")
"""


def test_gc_removes_uploads_of_a_killed_registration(bucket):
    line = Line(bucket.behind.endpoint, up=PART + 1_000_000, stall=True)
    victim = subprocess.Popen(
        [sys.executable, "-c", SENDING, bucket.url, bucket.behind.root, str(bucket.folder)],
        env=os.environ
        | {
            "PYTHONPATH": f"{ROOT}:{ROOT}/tests/helpers",
            "AWS_ENDPOINT_URL": line.endpoint,
        },
    )
    assert line.broken.wait(60)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -9
    with bucket.open() as registry:
        assert registry.models() == verify(registry).problems == []
        (unfinished,) = registry.files.leftovers()
        assert unfinished.size == PART
        assert unfinished.path in {s.path for s in gc(registry, dry_run=False, grace_s=0)}
        assert list(registry.files.leftovers()) == gc(registry, dry_run=True, grace_s=0) == []
        assert bucket.behind.names() == set()


def locked_server():
    """A bucket on a server of its own that accepts no credentials."""
    behind = BehindBucket(start_s3())
    urllib.request.urlopen(
        urllib.request.Request(
            f"{behind.endpoint}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}
        )
    ).close()
    return behind


MISTAKES = {
    "no server": ({"AWS_ENDPOINT_URL": NOBODY}, r"cannot be used \(Could not connect"),
    "no URL": ({"AWS_ENDPOINT_URL": "127.0.0.1"}, r"cannot be used \(Invalid endpoint"),
    "no credentials": ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "needs credentials"),
    "half of them": ({"AWS_SECRET_ACCESS_KEY": ""}, "missing: AWS_SECRET_ACCESS_KEY"),
    "no profile": ({"AWS_PROFILE": "nobody"}, "The config profile .nobody. could not be found"),
}


def assert_unreachable(kept, says):
    """Every operation on the files fails with this message, and nothing is lost."""
    with kept.open() as registry:
        candidate = make_candidate(kept.folder / "bundle", "another model")
        version = registry.resolve("digits:1").version
        for need in (
            lambda: registry.register("digits", candidate, actor="ada"),
            lambda: registry.open(version),
            lambda: verify(registry),
            lambda: gc(registry, dry_run=False, grace_s=0),
        ):
            with pytest.raises(Unreachable, match=says) as caught:
                need()
            assert "MODELMINT_ARTIFACTS" in str(caught.value)
            assert "hush-hush" not in str(caught.value)
        assert registry.model("digits").last_version == 1


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_s3_settings_are_a_readable_error(bucket, monkeypatch, mistake):
    register_versions(bucket, 1)
    variables, says = MISTAKES[mistake]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert_unreachable(bucket, says)


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A page</title>")

    do_PUT = do_HEAD = do_GET

    def log_message(self, *_): ...


def test_endpoint_that_is_not_s3_is_a_readable_error(bucket, monkeypatch):
    register_versions(bucket, 1)
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        assert_unreachable(bucket, "AWS_ENDPOINT_URL")
        server.shutdown()


def test_missing_bucket_is_unreachable_and_not_corrupt(bucket):
    register_versions(bucket, 1)
    elsewhere = replace(bucket, behind=BehindBucket(bucket.behind.endpoint))
    elsewhere.behind.root = "s3://nobodys-bucket/of/ours"
    assert_unreachable(elsewhere, "there is no bucket 'nobodys-bucket'")


def test_invalid_s3_key_is_not_repeated_in_the_error(bucket, monkeypatch):
    register_versions(bucket, 1)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    locked = replace(bucket, behind=locked_server())
    monkeypatch.setenv("AWS_ENDPOINT_URL", locked.behind.endpoint)
    assert_unreachable(locked, r"refuses access \((InvalidAccessKeyId|403)\)\. Check")


IMPORTS = "import sys, registry; print([m for m in ('s3fs', 'botocore') if m in sys.modules])"


def test_folder_store_does_not_import_s3_packages():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n"
