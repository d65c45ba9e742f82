"""`gc` of files that no version needs, in a folder and in a bucket."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from registry_helpers import Place, make_candidate, register_versions
from stores import place_of, store_file

from registry import Conflict, Refused, Registry
from registry.artifacts import Folder
from registry.integrity import verify
from registry.queries import blobs, models
from registry.upkeep import gc, purge

ROOT = Path(__file__).parents[2]


def test_gc_dry_run_lists_files_and_removes_none(kept):
    register_versions(kept, 1)
    with kept.open() as registry:
        stray = store_file(registry.files, kept.folder)
        leftover = kept.behind.abandon(b"ha")
        before = kept.behind.names()
        found = gc(registry, dry_run=True, grace_s=0)
        assert {(s.path, s.size, s.removable) for s in found} == {
            (registry.files.path_of(stray), len("nobody's"), True),
            (leftover, len("ha"), True),
        }
        assert gc(registry, dry_run=True, grace_s=0) != []
    assert kept.behind.names() == before


def test_gc_removes_unreferenced_files_and_keeps_files_of_versions(kept):
    register_versions(kept, 2)
    needed = kept.behind.names()
    with kept.open() as registry:
        store_file(registry.files, kept.folder)
        kept.behind.abandon(b"ha")
        assert len(gc(registry, dry_run=False, grace_s=0)) == 2
        assert kept.behind.names() == needed
        assert verify(registry).problems == []
        assert gc(registry, dry_run=True, grace_s=0) == []


def test_gc_keeps_and_lists_files_younger_than_the_grace_period(kept):
    register_versions(kept, 1)
    needed = kept.behind.names()
    with kept.open() as registry:
        name = place_of(store_file(registry.files, kept.folder))
        for dry_run in (False, True):
            (found,) = gc(registry, dry_run=dry_run, grace_s=1800)
            assert (found.path, found.removable) == (f"{kept.behind.root}/{name}", False)
        assert kept.behind.names() == {name, *needed}


def test_gc_removes_files_older_than_the_grace_period_only(tmp_path):
    register_versions(tmp_path, 1)
    young = store_file(Folder(tmp_path / "artifacts"), tmp_path)
    orphan = tmp_path / "artifacts" / "tmp" / ("0" * 32)
    orphan.write_bytes(b"ha")
    an_hour_ago = time.time() - 3600
    os.utime(orphan, (an_hour_ago, an_hour_ago))
    with Registry(f"sqlite:///{tmp_path}/registry.db", tmp_path / "artifacts") as registry:
        found = gc(registry, dry_run=False, grace_s=1800)
        assert [(s.path, s.removable) for s in found] == [
            (str(orphan), True),
            (registry.files.path_of(young), False),
        ]
        assert 3599 < found[0].age_s < 3700
        assert not orphan.exists()
        assert registry.files.has(young, len("nobody's"))


def test_gc_ignores_files_that_the_store_did_not_write(kept):
    strangers = {
        "sha256/ab/README.txt",
        f"sha256/{'a' * 64}",
        f"sha256/ab/{'cd' * 32}",
        f"sha256/ab/of/{'ab' * 32}",
        "notes",
        "tmp/thesis.tex",
        "tmp/registry.db",
        f"tmp/{'a' * 31}",
        f"tmp/of/{'a' * 32}",
    }
    for name in (*strangers, "tmp/x.files", f"tmp/of/{'a' * 32}.files"):
        kept.behind.write(name, b"from the big disk")
    with kept.open() as registry:
        assert gc(registry, dry_run=False, grace_s=0) == []
        assert list(registry.files.notes()) == []
        assert verify(registry).problems == []
    assert kept.behind.names() == strangers
    assert kept.behind.read("tmp/x.files") == b"from the big disk"


def test_gc_ignores_folders_and_links_in_the_store(tmp_path):
    register_versions(tmp_path, 1)
    for name in (f"tmp/{'a' * 32}", f"tmp/{'a' * 32}.files", place_of("ab" * 32)):
        path = tmp_path / "artifacts" / name
        path.parent.mkdir(exist_ok=True)
        path.mkdir()
        for number, target in enumerate((path.name[:-1] + "0", "/nowhere")):
            link = path.with_name(path.name[:-1] + str(number))
            link.symlink_to(target)
    with Place(tmp_path).open() as registry:
        assert gc(registry, dry_run=False, grace_s=0) == []
        assert verify(registry).problems == []


class Dead(BaseException):
    """Stands for a kill: nothing catches it and nothing is cleaned up."""


def test_purged_file_stays_purged_if_its_new_upload_is_killed(bucket):
    def die(_offer):
        raise Dead

    register_versions(bucket, 1)
    with bucket.open() as registry:
        registry.archive("digits", 1, actor="ada", reason="old")
        registry.register("words", make_candidate(bucket.folder / "b", "other"), actor="ada")
        assert len(purge(registry, actor="ada", dry_run=False)) == 1
        registry._send = die
        with pytest.raises(Dead):
            registry.register("words", make_candidate(bucket.folder / "b", "model 1"), actor="ada")
        with pytest.raises(Refused, match="were purged"):
            registry.unarchive("digits", 1, actor="ada", reason="back")
        assert verify(registry).problems == []
        del registry._send
        registry.register("words", make_candidate(bucket.folder / "b", "model 1"), actor="ada")
        registry.unarchive("digits", 1, actor="ada", reason="back")
        assert registry.open(registry.resolve("digits:1").version)["model.onnx"].exists()


class Swept:
    """A store that `gc` with too short a grace period empties once after files were published."""

    def __init__(self, files):
        self._files, self.swept = files, False

    def __getattr__(self, name):
        return getattr(self._files, name)

    def publish(self, *staged):
        self._files.publish(*staged)
        if not self.swept:
            self.swept = True
            for _, stray in list(self._files.files()):
                self._files.remove(stray.path)


def test_register_raises_conflict_or_uploads_again_if_files_vanish(kept):
    with kept.open() as registry:
        registry.files = Swept(registry.files)
        candidate = make_candidate(kept.folder / "b")
        if registry.files.remote:
            registry.register("digits", candidate, actor="ada")
            assert len(kept.behind.names()) == 3
        else:
            with pytest.raises(Conflict, match="vanished before it was stored"):
                registry.register("digits", candidate, actor="ada")
            assert registry.models() == []
        assert verify(registry).problems == []


def test_a_registration_that_waits_does_not_stop_one_of_another_model(tmp_path, make_database):
    url = make_database()
    if url.startswith("sqlite"):
        pytest.skip("SQLite has one writer at a time")
    candidate = make_candidate(tmp_path / "candidate")
    other = make_candidate(tmp_path / "other", model="other bytes")
    with Registry(url, tmp_path / "artifacts") as registry, ThreadPoolExecutor(2) as pool:
        registry.register("first", candidate, actor="ada")
        with registry.database.write() as c:
            models.lock(c, "first")
            waits = pool.submit(registry.register, "first", other, actor="ada")
            while not _waiting(registry):
                time.sleep(0.02)
            # Most of its files are those of the registration that waits.
            second = pool.submit(registry.register, "second", candidate, actor="ada")
            assert second.result(timeout=60).version.ref == "second:1"
            assert not waits.done()
        assert waits.result(timeout=60).version.ref == "first:2"
        assert verify(registry).problems == []


@pytest.mark.parametrize("change", ["purge", "unarchive"])
def test_archived_files_are_locked_before_their_model(tmp_path, make_database, change):
    # As a registration does. With another order, the two could wait for each other.
    url = make_database()
    if url.startswith("sqlite"):
        pytest.skip("SQLite has one writer at a time")
    with Registry(url, tmp_path / "artifacts") as registry, ThreadPoolExecutor(1) as pool:
        candidate = make_candidate(tmp_path / "candidate")
        files = registry.register("digits", candidate, actor="ada").version.artifacts
        registry.archive("digits", 1, actor="ada", reason="old")
        calls = {
            "purge": lambda: len(purge(registry, actor="ada", dry_run=False)),
            "unarchive": lambda: registry.unarchive("digits", 1, actor="ada", reason="needed"),
        }
        with registry.database.write() as c:
            rows = [(file.sha256, file.size) for file in files]
            blobs.keep(c, rows, registry.database.dialect.CLOCK)  # as a registration
            if change == "unarchive":  # shares that lock; a removal does not
                c.exec_driver_sql("SELECT 1 FROM blobs FOR UPDATE")
            waits = pool.submit(calls[change])
            while not _waiting(registry):
                time.sleep(0.02)
            models.lock(c, "digits")  # it would wait for ever if the other had it
            assert not waits.done()
        waits.result(timeout=60)
        assert verify(registry).problems == []


def _waiting(registry):
    """Whether a transaction of PostgreSQL waits for a lock."""
    with registry.database.read() as c:
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        return c.exec_driver_sql(query).scalar_one() > 0


@pytest.mark.whole
def test_gc_without_grace_during_registrations_damages_no_version(kept):
    done = threading.Event()

    def collect():
        with kept.open() as registry:
            while not done.is_set():
                gc(registry, dry_run=False, grace_s=0)

    # Before the first version is there, no collection knows that the files are of this registry.
    register_versions(kept, 1, "words")
    with ThreadPoolExecutor(1) as thread:
        collecting = thread.submit(collect)
        conflicts = 0
        with kept.open() as registry:
            for number in range(20):
                candidate = make_candidate(kept.folder / "bundle", f"model {number}")
                try:
                    registry.register("digits", candidate, actor="ada")
                except Conflict:
                    conflicts += 1
            done.set()
            collecting.result()
            assert verify(registry).problems == []
            registry.register("digits", make_candidate(kept.folder / "bundle"), actor="ada")
            gc(registry, dry_run=False, grace_s=0)
            found = verify(registry)
            assert found.problems == []
            assert found.versions == 22 - conflicts
            assert len(kept.behind.names()) == found.files


KILLED = """
import os, signal, sys
from pathlib import Path
from registry import Registry
from registry_helpers import make_candidate

def die(*staged):
    os.kill(os.getpid(), signal.SIGKILL)

url, root, folder = sys.argv[1:]
with Registry(url, root, Path(folder) / "cache") as registry:
    registry.files.publish = die
    registry.register("digits", make_candidate(Path(folder) / "bundle"), actor="victim")
"""


@pytest.mark.whole
def test_registration_killed_before_publishing_leaves_no_problem(kept):
    victim = subprocess.run(
        [sys.executable, "-c", KILLED, kept.url, kept.behind.root, str(kept.folder)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests/helpers"},
    )
    assert victim.returncode == -9
    with kept.open() as registry:
        assert registry.models() == verify(registry).problems == []
        left = gc(registry, dry_run=True)
        assert {s.removable for s in left} == {False}
        assert len(gc(registry, dry_run=False, grace_s=0)) == len(left) == 3
        assert gc(registry, dry_run=True, grace_s=0) == []
        assert kept.behind.names() == set()
        assert registry.register("digits", make_candidate(kept.folder / "b"), actor="ada").created
        assert verify(registry).problems == []
