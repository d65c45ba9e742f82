"""Store and database belong together: no registry adds, replaces or removes another's files."""

import errno
import hashlib
import json
import os
import shutil
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from databases import execute, fetch, unguarded
from registry_helpers import (
    Place,
    in_processes,
    make_candidate,
    outcome,
    register_versions,
    together,
)
from sqlalchemy import create_engine, inspect
from stores import BehindFolder, Kept, flipped, place_of, store_file

from cli.main import main
from registry import (
    Conflict,
    Corrupt,
    NoRegistry,
    Policy,
    Refused,
    Registry,
    SchemaMismatch,
    Unreachable,
    ownership,
)
from registry.artifacts import MARKER
from registry.databases.database import create
from registry.integrity import verify
from registry.queries.identity import Identity
from registry.schema import metadata
from registry.transfer.backup import backup, restore
from registry.upkeep import gc, purge

LOST = r"not in .*ARTIFACTS to the store with these files.*`modelmint models init --lost-store`"

OLD = "UPDATE blobs SET touched = 0"
"""As if every file were there for years."""


def with_database(kept, url):
    """The same store under another database."""
    return replace(kept, url=url)


def is_missing(url):
    """Whether a database is still missing or empty."""
    if url.startswith("sqlite"):
        return not Path(url.removeprefix("sqlite:///")).exists()
    return inspect(create_engine(url)).get_table_names() == []


def collect(registry):
    return gc(registry, dry_run=False, grace_s=0)


def register(registry, folder, text="model bytes", name="digits"):
    return registry.register(name, make_candidate(folder / "b", text), actor="ada").version


def ids_of(url):
    return Identity(*fetch(url, "SELECT id, store FROM registry")[0])


# A database without a registry


def test_mistyped_database_is_not_created_and_gc_removes_nothing(kept, make_database):
    register_versions(kept, 2)
    before, url = kept.behind.names(), make_database()
    with with_database(kept, url).open() as registry:
        for call in (
            collect,
            lambda registry: gc(registry, dry_run=True, grace_s=0),
            lambda registry: purge(registry, actor="ada", dry_run=False),
            verify,
            Registry.models,
            Registry.check_store,
            lambda registry: registry.resolve("digits"),
            lambda registry: registry.alias("digits"),
            lambda registry: registry.search("digits"),
            lambda registry: registry.history("digits"),
            lambda registry: registry.jobs(),
            lambda registry: registry.tag("digits", 1, "a", "b", actor="ada"),
            lambda registry: registry.id,
        ):
            with pytest.raises(NoRegistry, match=r"MODELMINT_DATABASE_URL.*models init"):
                call(registry)
        # What could make a registry does not either, beside the files of another.
        for call in (
            lambda: register(registry, kept.folder),
            lambda: registry.set_policy("digits", Policy(), actor="ada"),
            registry.create,
            registry.reach,
        ):
            with pytest.raises(Refused, match=r"There is no registry in .* has the files"):
                call()
    assert kept.behind.names() == before
    assert is_missing(url)
    with kept.open() as registry:
        assert verify(registry).problems == []


def test_reading_creates_no_folder(tmp_path):
    url = f"sqlite:///{tmp_path}/a/b/registry.db"
    with Registry(url, tmp_path / "artifacts") as registry:
        with pytest.raises(NoRegistry):
            registry.models()
        registry.reach()
        assert list(tmp_path.iterdir()) == []
        assert register(registry, tmp_path).version == 1
    assert ids_of(url).store


def test_empty_database_file_is_not_a_registry_and_stays_empty(tmp_path):
    (tmp_path / "registry.db").touch()
    with Place(tmp_path).open() as registry, pytest.raises(NoRegistry):
        registry.models()
    assert (tmp_path / "registry.db").stat().st_size == 0


@pytest.mark.parametrize("by", ["create", "register", "refuse", "policy"])
def test_registry_created_later_is_seen_by_open_readers(tmp_path, make_database, by):
    place = Place(tmp_path, make_database())
    with place.open() as early, place.open() as registry:
        assert outcome(early.models) == "NoRegistry"
        if by == "create":
            assert registry.create()
        elif by == "register":
            register(registry, tmp_path)
        elif by == "refuse":
            candidate = make_candidate(tmp_path / "b")
            registry.refuse("digits", candidate, actor="ada", reason="bad")
        else:
            registry.set_policy("digits", Policy(four_eyes=True), actor="ada")
        assert [m.name for m in early.models()] == ([] if by == "create" else ["digits"])
        assert not early.create()
        assert early.id == registry.id == ids_of(place.url).registry


def test_reach_detects_a_database_that_cannot_be_created(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "sub", Path("/proc/none")):
        told = pytest.raises(Unreachable, match="cannot be created or written")
        with Registry(f"sqlite:///{folder}/registry.db", tmp_path / "artifacts") as registry, told:
            registry.reach()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# Two registries, one store


def test_second_registry_on_a_store_is_refused(kept, make_database):
    second = with_database(kept, make_database())
    create(second.url)
    register_versions(kept, 2)
    execute(kept.url, OLD)
    before = kept.behind.names()
    with second.open() as registry, kept.open() as first:
        for call in (
            lambda: register(registry, kept.folder, "another"),
            registry.reach,
            registry.check_store,
            lambda: collect(registry),
            lambda: purge(registry, actor="ada", dry_run=False),
        ):
            with pytest.raises(Refused, match=r"[Ss]et MODELMINT_ARTIFACTS") as said:
                call()
            assert first.id in str(said.value)
            assert registry.id in str(said.value)
        assert registry.models() == []
        assert collect(first) == []
        assert verify(first).problems == []
    assert kept.behind.names() == before


def register_alone(index, places):
    def call():
        with places[index].open() as registry:
            return register(registry, places[index].folder / str(index), f"model {index}").ref

    return outcome(call)


def at_once(kept, count, places, monkeypatch):
    """Concurrent registrations: processes for a folder, threads for the bucket of this process."""
    if isinstance(kept.behind, BehindFolder):
        return in_processes(count, register_alone, places)
    # moto answers 500 if an object is deleted while it is read, as a note is. Clients try again,
    # unless a test switches that off, as the fixture of the bucket does.
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    return together(*(partial(register_alone, index, places) for index in range(count)))


def test_concurrent_first_registrations_of_two_registries_give_the_store_to_one(
    kept, make_database, monkeypatch
):
    places = [with_database(kept, make_database()) for _ in range(4)]
    for place in places:
        create(place.url)
    said = at_once(kept, 4, places, monkeypatch)
    assert said.count("digits:1") == 1
    assert [found for found in said if found != "digits:1"] == ["Refused"] * 3
    owner = json.loads(kept.behind.read(MARKER))["registry"]
    assert owner in {ids_of(place.url).registry for place in places}
    assert len(kept.behind.names()) == 3


def test_concurrent_first_registrations_of_one_registry_agree_on_the_marker(
    kept, make_database, monkeypatch
):
    place = with_database(kept, make_database())
    said = at_once(kept, 6, [place] * 6, monkeypatch)
    assert sorted(said) == [f"digits:{number}" for number in range(1, 7)]
    marker = json.loads(kept.behind.read(MARKER))
    assert Identity(marker["registry"], marker["store"]) == ids_of(place.url)
    with place.open() as registry:
        registry.check_store()
        assert verify(registry).problems == []


def test_restored_copy_is_refused_the_store_of_the_original(kept, make_database):
    register_versions(kept, 1)
    with kept.open() as registry:
        backup(registry, kept.folder / "backup")
    copy = with_database(kept, make_database())
    create(copy.url)
    # The same id; its files elsewhere, or nowhere yet.
    for store in (f"'{'5' * 32}'", "NULL"):
        with unguarded(copy.url) as c:
            c.exec_driver_sql(
                f"UPDATE registry SET id = '{ids_of(kept.url).registry}', store = {store}"
            )
        with copy.open() as registry:
            for call in (
                lambda: collect(registry),
                lambda: register(registry, kept.folder, "more"),
                registry.reach,
                registry.check_store,
            ):
                with pytest.raises(Refused, match="another copy of this registry"):
                    call()
    assert len(kept.behind.names()) == 3


# A database that lost its rows, a store that lost its files or its marker


def test_gc_refuses_an_emptied_database(kept, make_database):
    register_versions(kept, 2)
    before, emptied = kept.behind.names(), with_database(kept, make_database())
    create(emptied.url)
    own = ids_of(kept.url)
    with unguarded(emptied.url) as c:
        c.exec_driver_sql(f"UPDATE registry SET id = '{own.registry}', store = '{own.store}'")
    with emptied.open() as registry:
        for call in (
            lambda: collect(registry),
            lambda: gc(registry, dry_run=True),
            lambda: purge(registry, actor="ada", dry_run=False),
            registry.check_store,
        ):
            with pytest.raises(Refused, match=r"knows none of the 4 files.*MODELMINT_DATABASE_URL"):
                call()
    assert kept.behind.names() == before


@pytest.mark.parametrize("count", [1, 3])
def test_gc_refuses_a_database_with_file_rows_but_no_version(kept, count):
    register_versions(kept, count)
    before = kept.behind.names()
    with unguarded(kept.url) as c:
        for table in reversed(metadata.sorted_tables):
            if table.name not in ("registry", "blobs"):
                c.exec_driver_sql(f"DELETE FROM {table.name}")
    execute(kept.url, OLD)
    with kept.open() as registry:
        for call in (
            lambda: collect(registry),
            lambda: gc(registry, dry_run=True),
            lambda: gc(registry, dry_run=False, grace_s=0, unknown=True),
            lambda: purge(registry, actor="ada", dry_run=False),
            registry.check_store,
        ):
            with pytest.raises(Refused, match=rf"knows none of the {count + 2} files"):
                call()
        assert "knows none of the" in [p.what for p in verify(registry).problems][-1]
    assert kept.behind.names() == before


class Dead(BaseException):
    """Stands for a kill: nothing catches it and nothing is cleaned up."""


def die(*_):
    raise Dead


def test_gc_removes_files_of_a_killed_first_registration(kept):
    with kept.open() as registry:
        registry._add = die
        with pytest.raises(Dead):
            register(registry, kept.folder)
        assert len(kept.behind.names()) == 3
        found = verify(registry)
        assert (found.problems, found.unknown) == ([], 3)
        assert len(gc(registry, dry_run=False, grace_s=0)) == 3
        assert kept.behind.names() == set()
        # The note stays for a day: it may be that the files come yet.
        assert len(list(registry.files.notes())) == 1
        del registry._add
        register(registry, kept.folder, "others")
        assert len(list(registry.files.notes())) == 1
        assert verify(registry).problems == []


def test_repeated_registration_removes_the_note_of_the_killed_one(tmp_path):
    with Place(tmp_path).open() as registry:
        registry._add = die
        for text in ("one", "one", "two"):
            with pytest.raises(Dead):
                register(registry, tmp_path, text)
        del registry._add
        assert len(list(registry.files.notes())) == 3
        begun = Path(registry.files.note([]))  # of one that has not written it yet
        register(registry, tmp_path, "one")
        left = {note.path: digests for note, digests in registry.files.notes()}
        assert (len(left), left.pop(str(begun))) == (2, set())
        assert hashlib.sha256(b"two").hexdigest() in next(iter(left.values()))


def test_gc_removes_a_note_after_a_day_and_after_its_files(tmp_path):
    register_versions(tmp_path, 1)
    with Place(tmp_path).open() as registry:
        registry._add = die
        for text in ("one", "two"):
            with pytest.raises(Dead):
                register(registry, tmp_path, text)
        aged, _ = (Path(note.path) for note, _ in registry.files.notes())
        os.utime(aged, (time.time() - 90_000,) * 2)
        assert [s.removable for s in gc(registry, dry_run=False)] == [False, False]
        assert len(list(registry.files.notes())) == 2
        assert len(gc(registry, dry_run=True, grace_s=0)) == 2
        assert len(list(registry.files.notes())) == 2
        assert len(gc(registry, dry_run=False, grace_s=0)) == 2
        (young,) = registry.files.notes()
        assert young[0].path != str(aged)


# A database older than its store


@pytest.fixture
def older(kept, tmp_path):
    """A registry with last week's copy of its database, and this week's champion."""
    register_versions(kept, 2)
    with kept.open() as registry:
        registry.archive("digits", 1, actor="ada", reason="old")
        registry.close()
        path = Path(kept.url.removeprefix("sqlite:///"))
        shutil.copy(path, tmp_path / "last-week.db")
        champion = register(registry, kept.folder, "champion")
        registry.promote("digits", 3, actor="ada", reason="better", expect_revision=None)
        registry.unarchive("digits", 1, actor="ada", reason="needed again")
    copy = with_database(kept, f"sqlite:///{tmp_path}/last-week.db")
    execute(copy.url, OLD)
    return copy, champion


def test_gc_with_an_old_copy_of_the_database_removes_no_unknown_file(kept, older):
    copy, champion = older
    before = kept.behind.names()
    unknown = f"{kept.behind.root}/{place_of(champion.artifacts[1].sha256)}"
    with copy.open() as registry:
        # Also once it was used again, and has newer events than those files.
        for text in (None, "by the copy"):
            if text:
                register(registry, kept.folder, text)
            for call in (
                lambda: collect(registry),
                lambda: gc(registry, dry_run=True),
                lambda: purge(registry, actor="ada", dry_run=True),
                lambda: purge(registry, actor="ada", dry_run=False),
            ):
                with pytest.raises(Refused, match=r"last-week\.db does not know.*\(1\)") as said:
                    call()
                assert unknown in str(said.value)
                assert "older copy" in str(said.value)
            (problem,) = verify(registry).problems
            assert (problem.ref, unknown in problem.what) == ("the store", True)
            assert "models gc" not in problem.what
    assert kept.behind.names() > before
    with kept.open() as registry:
        assert registry.open(champion)["model.onnx"].read_text() == "champion"


def test_gc_removes_unknown_files_only_with_unknown(kept, older):
    copy, champion = older
    model = place_of(champion.artifacts[1].sha256)
    with copy.open() as registry:
        young = gc(registry, dry_run=False, unknown=True)
        assert [(s.removable, s.unknown) for s in young] == [(False, True)]
        (listed,) = gc(registry, dry_run=True, grace_s=0, unknown=True)
        assert (listed.removable, model in kept.behind.names()) == (True, True)
        assert gc(registry, dry_run=False, grace_s=0, unknown=True)[0].path == listed.path
        assert model not in kept.behind.names()
        assert verify(registry).problems == []


def test_registry_id_cannot_be_changed(place):
    register_versions(place, 1)
    for statement in (
        "DELETE FROM registry",
        f"UPDATE registry SET id = '{'0' * 32}'",
        f"UPDATE registry SET store = '{'0' * 32}'",
        "UPDATE registry SET store = NULL",
        f"INSERT INTO registry (id, created_at) VALUES ('{'0' * 32}', 0)",
    ):
        with pytest.raises(Exception, match=r"registry (keeps|has one id)|a registry has one id"):
            execute(place.url, statement)
    with unguarded(place.url) as c:
        c.exec_driver_sql("DELETE FROM registry")
    with place.open() as registry, pytest.raises(Corrupt, match="0 rows instead of one"):
        collect(registry)


class Killed(Exception):
    pass


class DiesMarking:
    """A store at which the process dies while writing the marker."""

    def __init__(self, files):
        self._files = files

    def __getattr__(self, name):
        return getattr(self._files, name)

    def mark(self, _content, *, anew=False):
        raise Killed


@pytest.mark.parametrize("begins", ["empty", "of before"])
def test_crash_before_the_marker_is_written_is_repaired_by_the_next_command(kept, begins):
    if begins == "of before":
        register_versions(kept, 1)
        make_old(kept)
    with kept.open() as registry:
        registry.files = DiesMarking(registry.files)
        with pytest.raises(Killed):
            register(registry, kept.folder, "more")
    assert ids_of(kept.url).store is not None
    with kept.open() as registry:
        registry.reach()
        register(registry, kept.folder, "more")
        registry.check_store()
        assert collect(registry) == []
        assert verify(registry).problems == []


def make_old(kept):
    """An upgraded registry from before there were markers."""
    kept.behind.delete(MARKER)
    with unguarded(kept.url) as c:
        c.exec_driver_sql("UPDATE registry SET store = NULL")


def test_unmarked_store_is_marked_by_the_first_writer_that_knows_its_files(kept):
    register_versions(kept, 2)
    make_old(kept)
    with kept.open() as registry:
        gc(registry, dry_run=True)
        registry.check_store()
        registry.reach()
        with pytest.raises(Exception, match=r"registry.json|NoSuchKey"):
            kept.behind.read(MARKER)  # looking marks nothing
        assert gc(registry, dry_run=False) == []
        assert json.loads(kept.behind.read(MARKER))["registry"] == registry.id
        assert verify(registry).problems == []


def test_gc_keeps_files_from_before_a_shared_store_was_marked(kept, make_database):
    """Two registries of the previous release in one store: the first writer gets it."""
    register_versions(kept, 2)
    make_old(kept)
    other = with_database(kept, make_database())
    create(other.url)
    foreign = hashlib.sha256(b"of the other registry").hexdigest()
    kept.behind.write(f"sha256/{foreign[:2]}/{foreign}", b"of the other registry")
    with kept.open() as registry:
        for dry_run in (True, False, False):
            (stray,) = gc(registry, dry_run=dry_run, grace_s=0)
            assert foreign in stray.path
            assert (stray.removable, stray.perhaps_foreign) == (False, True)
        time.sleep(1.1)  # S3 says by the second when an object was written
        later = store_file(registry.files, kept.folder, b"of a killed registration")
        removed = [s for s in gc(registry, dry_run=False, grace_s=0) if s.removable]
        assert [later in stray.path for stray in removed] == [True]
    with other.open() as registry, pytest.raises(Refused, match="belongs to another registry"):
        register(registry, kept.folder, "another")
    assert kept.behind.read(f"sha256/{foreign[:2]}/{foreign}") == b"of the other registry"


def test_purge_keeps_files_from_before_a_shared_store_was_marked(kept):
    register_versions(kept, 2)
    make_old(kept)
    other = with_database(kept, f"sqlite:///{kept.folder}/other.db")
    create(other.url)
    with other.open() as registry:
        # As both did before there were markers: the same bytes, and files that nobody else has.
        registry.files = Unmarked(registry.files)
        shared = register(registry, kept.folder, "model 1")
    before = kept.behind.names()
    with kept.open() as registry:
        registry.archive("digits", 1, actor="ada", reason="old")
        for dry_run in (True, False, False):
            (stray,) = purge(registry, actor="ada", dry_run=dry_run)
            assert (stray.removable, stray.perhaps_foreign) == (False, True)
            assert gc(registry, dry_run=dry_run, grace_s=0) == []
        assert registry.history("digits")[0].kind == "archived"
        assert verify(registry).problems == []
        # What came since is this registry's alone.
        time.sleep(1.1)
        register(registry, kept.folder, "since")
        registry.archive("digits", 3, actor="ada", reason="old")
        purged = purge(registry, actor="ada", dry_run=False)
        assert sorted(stray.removable for stray in purged) == [False, True]
        assert kept.behind.names() == before
    with other.open() as registry:
        assert registry.open(shared)["model.onnx"].read_text() == "model 1"


class Unmarked:
    """A store as the previous release used it, without checking its owner."""

    def __init__(self, files):
        self._files = files

    def __getattr__(self, name):
        return getattr(self._files, name)

    def files(self):
        return iter(())

    def mark(self, content, *, anew=False):
        self.marker = lambda name=MARKER: content if name == MARKER else None


def test_unmarked_store_is_refused_by_a_registry_that_knows_none_of_its_files(kept, make_database):
    register_versions(kept, 2)
    make_old(kept)
    before, other = kept.behind.names(), with_database(kept, make_database())
    create(other.url)
    with other.open() as registry:
        for call in (
            lambda: collect(registry),
            lambda: register(registry, kept.folder, "another"),
            registry.reach,
            registry.check_store,
        ):
            with pytest.raises(Refused, match="knows none of the 4 files"):
                call()
    assert kept.behind.names() == before


def test_register_refuses_an_empty_store_if_the_registry_has_files(kept):
    register_versions(kept, 1)
    for name in [*kept.behind.names(), MARKER]:
        kept.behind.delete(name)
    with kept.open() as registry:
        for call in (registry.reach, lambda: register(registry, kept.folder, "another")):
            with pytest.raises(Refused, match=LOST):
                call()
        assert kept.behind.names() == set()
        # What was lost may be put back, if this is the place.
        with pytest.raises(Refused, match=LOST):
            register(registry, kept.folder, "model 1")
        registry.adopt_store(lost=True)
        assert len(verify(registry).problems) == 3
        register(registry, kept.folder, "model 1")
        registry.reach()
        assert register(registry, kept.folder, "another").version == 2
        assert verify(registry).problems == []


def test_upgraded_registry_refuses_an_empty_store(kept):
    register_versions(kept, 1)
    make_old(kept)
    for name in kept.behind.names():
        kept.behind.delete(name)
    with kept.open() as registry:
        for call in everything_that_needs_files(registry, kept.folder):
            with pytest.raises(Refused, match=LOST):
                call()
        (problem,) = verify(registry).problems
        assert problem.ref == "the store"
        assert "of the 3 files of its versions 3 are not in" in problem.what
        assert verify(registry).not_looked_at == ["the files"]
    assert ids_of(kept.url).store is None


@pytest.mark.parametrize("upgraded", [True, False])
def test_store_with_one_common_file_is_refused(kept, upgraded):
    """Two models often have an equal file, such as an empty one or a card."""
    register_versions(kept, 1)
    if upgraded:
        make_old(kept)
    else:
        kept.behind.delete(MARKER)
    kept.behind.delete(place_of(hashlib.sha256(b"model 1").hexdigest()))
    before = kept.behind.names()
    assert len(before) == 2
    with kept.open() as registry:
        for call in everything_that_needs_files(registry, kept.folder):
            with pytest.raises(Refused, match="of the 3 files of its versions 1 are not in"):
                call()
        assert kept.behind.names() == before
        registry.adopt_store(lost=True)
        assert register(registry, kept.folder, "another").version == 2


def everything_that_needs_files(registry, folder):
    return (
        lambda: collect(registry),
        lambda: gc(registry, dry_run=True),
        lambda: purge(registry, actor="ada", dry_run=True),
        lambda: register(registry, folder, "another"),
        lambda: backup(registry, folder / "backup"),
        registry.adopt_store,
        registry.reach,
    )


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"", Corrupt, "does not say which registry"),
        (b"[1]", Corrupt, "does not say which registry"),
        (b'{"format": 1, "registry": "a"}', Corrupt, "does not say which registry"),
        (b'{"format": 2, "registry": "a", "store": "b"}', SchemaMismatch, "upgrade modelmint"),
    ],
)
def test_unreadable_marker_stops_every_command(kept, content, error, says):
    register_versions(kept, 1)
    kept.behind.write(MARKER, content)
    with kept.open() as registry:
        for call in (lambda: collect(registry), lambda: register(registry, kept.folder, "more")):
            with pytest.raises(error, match=says):
                call()
    assert len(kept.behind.names()) == 3


def test_malformed_marker_is_corrupt_and_a_newer_one_a_schema_mismatch(tmp_path):
    register_versions(tmp_path, 1)
    marker = tmp_path / "artifacts" / MARKER
    good = json.loads(marker.read_text())
    edited = [
        {"format": value} for value in ("1", 0, 0.5, -3, True, None, float("inf"), float("nan"))
    ]
    edited += [
        {"adopted": value}
        for value in (float("nan"), float("inf"), -1, 1e300, int("9" * 400), True, "1", [1])
    ]
    edited += [{name: value} for name in ("registry", "store") for value in (None, "", 5, ["a"])]
    edited += [{"restoring": 5}, {"restoring": ["a"]}]
    contents = [json.dumps(good | one) for one in edited]
    contents += ["[" * 100_000, '{"format":' * 100_000, "\ufeff" + json.dumps(good), "null", "5"]
    with Place(tmp_path).open() as registry:
        for content in contents:
            marker.write_text(content)
            for call in (registry.check_store, lambda: register(registry, tmp_path, "more")):
                with pytest.raises(Corrupt, match="does not say which registry"):
                    call()
        for number in (2, int("9" * 400)):
            marker.write_text(json.dumps({"format": number, "registry": ["of", "later"]}))
            with pytest.raises(SchemaMismatch, match="upgrade modelmint"):
                registry.check_store()
        marker.write_text(json.dumps(good | {"adopted": 17.5}))
        registry.check_store()


def test_dangling_link_as_marker_is_a_readable_error(tmp_path):
    register_versions(tmp_path, 1)
    marker = tmp_path / "artifacts" / MARKER
    marker.unlink()
    marker.symlink_to("/nowhere/at/all")
    with Place(tmp_path).open() as registry:
        for call in (
            registry.check_store,
            registry.adopt_store,
            lambda: collect(registry),
            lambda: register(registry, tmp_path, "more"),
        ):
            with pytest.raises(Unreachable, match=rf"{marker} is a link to /nowhere/at/all"):
                call()
        marker.unlink()
        registry.adopt_store()
        assert verify(registry).problems == []


@pytest.mark.parametrize("column", ["id", "store"])
def test_registry_id_that_is_not_text_is_corrupt(tmp_path, sqlite_template, column):
    register_versions(tmp_path, 1)
    place, marker = Place(tmp_path), tmp_path / "artifacts" / MARKER
    value = f"X'{'00' * 32}'" if column == "id" else "X'00ff'"
    with unguarded(place.url) as c:
        c.exec_driver_sql(f"UPDATE registry SET {column} = {value}")
    with place.open() as registry:
        for _ in range(2):
            for call in (
                lambda: collect(registry),
                registry.adopt_store,
                registry.check_store,
                lambda: register(registry, tmp_path, "more"),
            ):
                with pytest.raises(Corrupt, match=r"table `registry` .* somebody edited it"):
                    call()
            marker.unlink(missing_ok=True)
    assert not marker.exists()


# A restore that was killed once the database was full


def test_marker_ends_its_restore_once_the_database_is_filled(tmp_path, monkeypatch):
    register_versions(tmp_path / "of", 1)
    with Place(tmp_path / "of").open() as registry:
        backup(registry, tmp_path / "backup")
    write = ownership.write

    def die_when_done(files, marker, *, anew=False):
        if anew:
            raise Dead
        return write(files, marker)

    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    with monkeypatch.context() as patched:
        patched.setattr(ownership, "write", die_when_done)
        with pytest.raises(Dead):
            restore(tmp_path / "backup", "sqlite:///r.db", tmp_path / "artifacts")
    marker = tmp_path / "artifacts" / MARKER
    left = marker.read_text()
    assert json.loads(left)["restoring"] == f"sqlite:///{tmp_path}/one/r.db"
    monkeypatch.chdir(tmp_path / "two")  # where there is no r.db
    with pytest.raises(Conflict, match="belongs to a registry already"):
        restore(tmp_path / "backup", "sqlite:///r.db", tmp_path / "artifacts")
    with Registry(f"sqlite:///{tmp_path}/one/r.db", tmp_path / "artifacts") as registry:
        registry.check_store()
        assert verify(registry).problems == []
        for call in (
            lambda: collect(registry),
            lambda: purge(registry, actor="ada", dry_run=False),
            lambda: register(registry, tmp_path, "more"),
            registry.adopt_store,
        ):
            marker.write_text(left)
            call()
            assert json.loads(marker.read_text())["restoring"] is None
    shutil.move(tmp_path / "one" / "r.db", tmp_path / "moved.db")
    monkeypatch.chdir(tmp_path / "one")
    with pytest.raises(Conflict, match="belongs to a registry already"):
        restore(tmp_path / "backup", "sqlite:///r.db", tmp_path / "artifacts")
    with Registry(f"sqlite:///{tmp_path}/moved.db", tmp_path / "artifacts") as registry:
        assert verify(registry).problems == []


def test_store_on_a_file_share_without_links_is_marked(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    register_versions(tmp_path, 2)
    with Place(tmp_path).open() as registry:
        registry.check_store()
        assert verify(registry).problems == list(registry.files.leftovers()) == []
        assert json.loads((tmp_path / "artifacts" / MARKER).read_bytes())["registry"] == registry.id


# A damaged file of the right size


@pytest.mark.parametrize("size", [30, 300_000])
def test_registering_another_version_repairs_a_damaged_shared_file(kept, size):
    shared = "x" * size

    def offer(model):
        candidate = make_candidate(kept.folder / "b", model)
        candidate.files["card.md"].write_text(shared)
        candidate.files["signature.json"].write_text(f'{{"of": "{shared}"}}')
        return candidate

    with kept.open() as registry:
        first = registry.register("digits", offer("one"), actor="ada").version
        for artifact in first.artifacts:
            if artifact.path != "model.onnx":
                name = place_of(artifact.sha256)
                kept.behind.write(name, flipped(kept.behind.read(name)))
        second = registry.register("digits", offer("two"), actor="ada").version
        assert second.version == 2
        for version in (first, second):
            opened = registry.open(version)
            assert opened["card.md"].read_text() == shared
        assert verify(registry).problems == []


def test_registering_the_same_version_repairs_a_damaged_file(kept):
    with kept.open() as registry:
        version = register(registry, kept.folder)
        for artifact in version.artifacts:
            name = place_of(artifact.sha256)
            kept.behind.write(name, flipped(kept.behind.read(name)))
        assert register(registry, kept.folder) == version
        assert verify(registry).problems == []


# A file that a living version needs


def test_gc_keeps_files_of_active_versions_marked_as_purged(place):
    register_versions(place, 1)
    with unguarded(place.url) as c:
        c.exec_driver_sql("UPDATE blobs SET purged_at = 1, touched = 0")
    with place.open() as registry:
        assert collect(registry) == []
        registry.open(registry.resolve("digits:1").version)
        assert {p.what.count("purged") for p in verify(registry).problems} == {1}


# Who may only read


def as_nobody(folder, function, *arguments):
    """Call a function in a process of a user without write permission there."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    return in_processes(1, _as_nobody, function, *arguments)[0]


def _as_nobody(_index, function, *arguments):
    # What is imported late may lie where nobody may read.
    "".encode("utf-16be")
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    return function(*arguments)


@pytest.fixture
def readable(tmp_path_factory, sqlite_template):
    """A registry that everybody may read, in a folder that everybody may list."""
    folder = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp")
    folder = folder / f"modelmint-{tmp_path_factory.mktemp('of').name}-{os.getpid()}"
    folder.mkdir(mode=0o755)
    shutil.copy(sqlite_template, folder)
    yield Kept(folder, behind=BehindFolder(folder / "artifacts"))
    shutil.rmtree(folder)


def use_to_read(place, target):
    with place.open() as registry:
        registry.history("digits")
        tags = registry.resolve("digits:1").version.tags
        found = registry.search("digits").versions
        problems = verify(registry).problems
        made = backup(registry, target)
        refused = outcome(lambda: registry.tag("digits", 1, "a", "b", actor="eve"))
        return tags, len(found), problems, made.files, refused


@pytest.mark.parametrize("state", ["closed", "open", "killed"])
def test_read_only_registry_can_be_listed_verified_and_backed_up(readable, state):
    register_versions(readable, 2)
    target = readable.folder / "backup"
    target.mkdir()
    os.chown(target, 65534, 65534)
    if state == "killed":
        in_processes(1, tag_and_die, readable)
    with readable.open() as registry:
        if state != "killed":
            registry.tag("digits", 1, "team", "risk", actor="ada")
        if state == "closed":
            registry.close()
        before = sorted(path.name for path in readable.folder.iterdir())
        found = as_nobody(readable.folder, use_to_read, readable, target)
        assert found == ({"team": "risk"}, 2, [], 4, "Unreachable")
        assert sorted(path.name for path in readable.folder.iterdir()) == before


def test_unreadable_folder_is_an_error_and_not_an_empty_store(readable):
    register_versions(readable, 1)
    with readable.open() as registry:
        registry.files.note(["a" * 64])
    places, expected = [readable], ["0"]
    for what in ("sha256", "sha256/??", "tmp", "tmp/*.files"):
        copy = readable.folder / str(len(places))
        shutil.copytree(readable.folder / "artifacts", copy)
        hidden = next(copy.glob(what))
        hidden.chmod(0o600)
        places.append(replace(readable, behind=BehindFolder(copy)))
        expected.append(f"{hidden} cannot be read (Permission denied)")
    found = as_nobody(readable.folder, look_for_strays, places)
    assert [said.startswith(start) for said, start in zip(found, expected, strict=True)] == [
        True
    ] * 5


def look_for_strays(places):
    said = []
    for place in places:
        with place.open() as registry:
            try:
                said.append(str(len(gc(registry, dry_run=True, grace_s=0))))
            except Unreachable as error:
                said.append(str(error))
    return said


def tag_and_die(_index, place):
    registry = place.open()
    registry.tag("digits", 1, "team", "risk", actor="ada")
    if os.fork() == 0:
        os._exit(0)
    return "never closed"


def test_read_only_user_is_refused_if_the_wal_cannot_be_read(readable):
    register_versions(readable, 1)
    # As a copy of the files of a running registry: the index to the newest changes is not there.
    with readable.open() as registry:
        registry.tag("digits", 1, "team", "risk", actor="ada")
        copied = readable.folder / "copied"
        copied.mkdir()
        for name in ("registry.db", "registry.db-wal"):
            shutil.copy(readable.folder / name, copied)
    place = replace(readable, url=f"sqlite:///{copied}/registry.db")
    error, said = as_nobody(readable.folder, look_at, place)
    assert error == "Unreachable"
    assert "The newest changes" in said
    assert "models list" in said
    with place.open() as registry:
        assert registry.resolve("digits:1").version.tags == {"team": "risk"}
    assert as_nobody(readable.folder, look_at, place) == {"team": "risk"}


def look_at(place):
    with place.open() as registry:
        return registry.resolve("digits:1").version.tags


def look_while_it_is_written(place, asked, written):
    with place.open() as registry:
        with registry.database.read() as c:
            c.exec_driver_sql("SELECT * FROM models").all()
            asked.touch()
            while not written.exists():
                pass
        return "an old answer"


def test_read_only_reader_detects_a_concurrent_write(readable):
    register_versions(readable, 1)
    asked, written = readable.folder / "signals" / "asked", readable.folder / "signals" / "written"
    asked.parent.mkdir()
    asked.parent.chmod(0o777)

    def write():
        while not asked.exists():
            pass
        with readable.open() as registry:
            registry.tag("digits", 1, "team", "risk", actor="ada")
        written.touch()

    thread = threading.Thread(target=write)
    thread.start()
    found = as_nobody(readable.folder, look_while_it_is_written, readable, asked, written)
    thread.join()
    assert found[0] == "Conflict"
    assert as_nobody(readable.folder, look_at, readable) == {"team": "risk"}


@pytest.fixture
def of_postgresql(place):
    if place.url.startswith("sqlite"):
        pytest.skip("SQLite has no server")
    register_versions(place, 1)
    return place


def test_select_only_role_can_list_verify_and_back_up(of_postgresql, tmp_path):
    place = of_postgresql
    role = f"only_{place.url.rpartition('_')[2]}"
    execute(
        place.url,
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
    )
    try:
        theirs = replace(place, url=place.url.replace("postgres@", f"{role}@"))
        with theirs.open() as registry:
            assert verify(registry).problems == []
            assert backup(registry, tmp_path / "backup").files == 3
            assert outcome(lambda: registry.tag("digits", 1, "a", "b", actor="eve")) == "Refused"
    finally:
        execute(place.url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_closed_postgresql_connection_is_replaced(of_postgresql):
    end = (
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with of_postgresql.open() as registry:
        for use in (
            lambda: registry.resolve("digits:1"),
            lambda: registry.tag("digits", 1, "a", "b", actor="ada"),
            registry.models,
        ):
            use()
            assert fetch(of_postgresql.url, end)
            use()


# The command line


@pytest.fixture
def modelmint(tmp_path, monkeypatch, capsys):
    """Run a command outside of any project; returns its exit status and output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELMINT_DATABASE_URL", f"sqlite:///{tmp_path}/a/registry.db")
    monkeypatch.setenv("MODELMINT_ARTIFACTS", str(tmp_path / "artifacts"))

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["modelmint", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, " ".join((said.out + said.err).split())

    return run


@pytest.mark.parametrize(
    "command",
    [
        "models list",
        "models show digits",
        "models search digits",
        "models history digits",
        "models trace digits",
        "models jobs",
        "models verify",
        "models gc",
        "models gc --purge --grace 0",
        "models gc --dry-run",
        "models retain",
        "models promote digits:1",
        "models tag digits:1 a=b",
        "models upgrade",
        "models export digits:1 x.tar",
        "models backup backed-up",
        "models ui",
        "predict digits x.csv --output out",
    ],
)
def test_read_commands_create_no_registry(tmp_path, modelmint, command):
    status, said = modelmint(*command.split())
    assert status == 1
    assert "There is no registry in sqlite:///" in said
    assert "modelmint models init" in said
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "artifacts").exists()


def test_models_init_creates_a_registry_once(tmp_path, modelmint):
    status, said = modelmint("models", "init", "--json")
    made = json.loads(said)
    assert (status, made["created"]) == (0, True)
    assert made["id"] == ids_of(f"sqlite:///{tmp_path}/a/registry.db").registry
    status, said = modelmint("models", "init")
    assert (status, made["id"] in said, "already exists" in said) == (0, True, True)
    assert modelmint("models", "list")[0] == 0
    assert modelmint("models", "upgrade")[0] == 0
    assert modelmint("config")[0] == 0


def test_mistyped_store_is_marked_only_with_lost_store(tmp_path, modelmint, monkeypatch):
    with Registry(f"sqlite:///{tmp_path}/a/registry.db", tmp_path / "artifacts") as registry:
        register(registry, tmp_path)
    monkeypatch.setenv("MODELMINT_ARTIFACTS", str(tmp_path / "artefacts"))
    for command in ("init", "gc", "gc --dry-run", "gc --purge --dry-run", "backup b"):
        status, said = modelmint("models", *command.split())
        assert status == 3, command
        assert "of the 3 files of its versions 3 are not in" in said
        assert "models init --lost-store" in said
    status, said = modelmint("models", "verify")
    assert status == 1
    assert "3 are not in" in said
    assert "is missing" not in said
    assert "not checked: the files" in said
    assert not (tmp_path / "artefacts").exists()
    status, said = modelmint("models", "init", "--lost-store")
    assert status == 0
    assert f"{tmp_path}/artefacts is now its artifact store" in said
    assert modelmint("models", "gc")[0] == 0
    status, said = modelmint("models", "verify")
    assert (status, said.count("cannot be read")) == (1, 3)


def test_gc_and_verify_detect_an_old_copy_of_the_database(older, modelmint, monkeypatch):
    copy, _ = older
    monkeypatch.setenv("MODELMINT_DATABASE_URL", copy.url)
    monkeypatch.setenv("MODELMINT_ARTIFACTS", copy.behind.root)
    for command in ("gc", "gc --dry-run", "gc --purge"):
        status, said = modelmint("models", *command.split())
        assert (status, "older copy" in said) == (3, True)
    status, said = modelmint("models", "verify")
    assert (status, "older copy" in said, "gc --dry-run" in said) == (1, True, False)
    assert modelmint("models", "gc", "--unknown", "--grace", "0")[0] == 0
    assert modelmint("models", "verify")[0] == 0


def test_gc_with_a_mistyped_database_fails_and_keeps_every_file(tmp_path, modelmint, monkeypatch):
    with Registry(f"sqlite:///{tmp_path}/a/registry.db", tmp_path / "artifacts") as registry:
        register(registry, tmp_path)
    before = sorted((tmp_path / "artifacts").rglob("*"))
    assert modelmint("models", "gc", "--grace", "0")[0] == 0
    monkeypatch.setenv("MODELMINT_DATABASE_URL", f"sqlite:///{tmp_path}/a/registy.db")
    assert modelmint("models", "gc", "--grace", "0")[0] == 1
    assert modelmint("models", "init")[0] == 3
    create(f"sqlite:///{tmp_path}/a/registy.db")
    status, said = modelmint("models", "gc", "--grace", "0")
    assert status == 3
    assert "belongs to another registry" in said
    assert sorted((tmp_path / "artifacts").rglob("*")) == before


def test_registry_commands_need_no_project(tmp_path, modelmint, monkeypatch):
    with Registry(f"sqlite:///{tmp_path}/a/registry.db", tmp_path / "artifacts") as registry:
        register(registry, tmp_path)
    for command in ("list", "show digits:1", "verify", "gc", "promote digits:1"):
        assert modelmint("models", *command.split())[0] == 0, command
    monkeypatch.delenv("MODELMINT_ARTIFACTS")
    assert modelmint("models", "show", "digits")[0] == 0
    status, said = modelmint("models", "verify")
    assert status == 1
    assert "Set MODELMINT_ARTIFACTS" in said
    monkeypatch.delenv("MODELMINT_DATABASE_URL")
    for command in (["models", "list"], ["config"], ["predict", "digits", "x", "--output", "y"]):
        status, said = modelmint(*command)
        assert status == 2
        assert "dvc.yaml" in said
        assert "set MODELMINT_DATABASE_URL" in said
