"""Backup and restore: one state of a registry, completely or not at all."""

import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from databases import (
    execute,
    fill_with_kept,
    kept,
    raw_engine,
    rows_of,
    schema_of,
    unguarded,
)
from fork_context import fork_context
from registry_helpers import LINEAGE, drift_document, make_candidate
from servers import create_database, drop_database
from sqlalchemy import Engine, MetaData, event, insert, text

from registry import (
    Conflict,
    Corrupt,
    JobInput,
    Policy,
    Refused,
    Registry,
    SchemaMismatch,
    Unreachable,
)
from registry.artifacts import MARKER
from registry.databases.database import restore_transaction, upgrade
from registry.digests import seal_json
from registry.integrity import verify
from registry.schema import HEAD, VERSION_TABLE
from registry.signing import add_signature
from registry.transfer.backup import backup, restore, verify_backup
from registry.transfer.backup_folder import _EXPLANATION as EXPLANATION
from registry.upkeep import gc, purge

pytest_plugins = ["stores"]

KINDS = ["sqlite", "postgresql"]


@pytest.fixture(scope="module")
def new_url(request, tmp_path_factory) -> Iterator[Callable[[str], str]]:
    """A function that creates an empty database of a kind and returns its URL."""
    made = []

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path_factory.mktemp('database')}/registry.db"
        made.append(create_database(request.getfixturevalue("postgres")))
        return made[-1]

    yield make
    for url in made:
        drop_database(url)


def fill(url: str, folder: Path) -> None:
    """Fill a registry with every kind of row; its files are in folder/artifacts.

    digits: 1 archived and purged; 2 archived with files; 3 the parent of 4, with jobs; 4 champion
    since before four eyes was required; 5 approved by somebody else; 6 rejected. words: 1, unused.
    """
    with Registry(url, folder / "artifacts") as registry:
        for number in range(1, 7):
            parent = "digits:3" if number == 4 else None
            candidate = make_candidate(
                folder / "bundle",
                f"model {number}",
                metrics={"accuracy": number / 7, "rows": 3.0},
                params={"z": {"größe": [1, None, 2.5]}, "a": "first? no: second"},
                tags={"team": "risk", "line": "two\nlines\u2028and more"},
                lineage=replace(LINEAGE, parent=parent, data={"data/raw.csv": "9" * 32}),
            )
            registry.register("digits", candidate, actor="ada", request_id=f"run {number}")
        registry.archive("digits", 1, actor="bo", reason="old")
        assert purge(registry, actor="bo", dry_run=False)
        registry.archive("digits", 2, actor="bo", reason="old")
        move = {"actor": "bo", "reason": "better", "expect_revision": None}
        for version in (3, 4):
            registry.promote("digits", version, **move)
            job = registry.start_job(
                registry.resolve("digits"), input_sha256="1" * 64, output=f"out {version}"
            )
            if version == 3:
                found = {"größe": {"rows": 7, "unknown": 1, "outside": None}}
                ran = {"provider": "CPU", "onnxruntime": "1.31", "substituted": found}
                ran["drift"] = drift_document(name="größe")
                read = [JobInput("2" * 64, "/in/größe.csv", 9)]
                registry.finish_job(job, rows=7, quarantined=2, inputs=read, **ran)
        policy = Policy(four_eyes=True, keep_last=9, protected=("production",))
        registry.set_policy("digits", policy, actor="cy")
        registry.approve("digits", 5, actor="bo", reason="looked at it")
        registry.reject("digits", 6, actor="bo", reason="slow")
        registry.promote("digits", 5, "challenger", **move)
        registry.promote("digits", 5, "canary", **move)
        registry.unset("digits", "canary", actor="bo", reason="done")
        registry.tag("digits", 5, "team", None, actor="cy")
        registry.register("words", make_candidate(folder / "bundle", "words"), actor="ada")
        add_signature(registry, registry.resolve("digits:4").version, "7" * 64, "{}", actor="bo")


@pytest.fixture(scope="module")
def filled(new_url, tmp_path_factory) -> Callable[[str], tuple[str, Path]]:
    """URL and folder of a filled registry of a kind, shared by tests that only read it."""
    made: dict[str, tuple[str, Path]] = {}

    def make(kind: str) -> tuple[str, Path]:
        if kind not in made:
            made[kind] = new_url(kind), tmp_path_factory.mktemp(f"filled-{kind}")
            fill(*made[kind])
        return made[kind]

    return make


def opened(url: str, folder: Path) -> Registry:
    return Registry(url, folder / "artifacts")


@pytest.fixture
def origin(filled) -> Iterator[Registry]:
    """A filled registry, for reading only."""
    with opened(*filled("sqlite")) as registry:
        yield registry


@pytest.fixture(scope="module")
def full(filled, tmp_path_factory) -> Iterator[tuple[Registry, Path]]:
    """A filled registry and the folder of its backup, both for reading only."""
    folder = tmp_path_factory.mktemp("full") / "backup"
    with opened(*filled("sqlite")) as registry:
        backup(registry, folder)
        yield registry, folder


@pytest.fixture
def own(filled, tmp_path) -> Iterator[Registry]:
    """A filled registry that the test may change."""
    url, folder = filled("sqlite")
    shutil.copytree(folder / "artifacts", tmp_path / "own" / "artifacts")
    shutil.copytree(Path(url.removeprefix("sqlite:///")).parent, tmp_path / "own" / "database")
    with opened(f"sqlite:///{tmp_path}/own/database/registry.db", tmp_path / "own") as registry:
        yield registry


def all_rows(url: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, without the store id, which a restored registry does not keep."""
    rows = rows_of(raw_engine(url))
    for row in rows.get("registry", []):
        row["store"] = None
    return rows


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file by its path."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_bytes())


def segments_of(folder: Path) -> dict[str, str]:
    """Table by SHA-256 of its files in a backup."""
    return {one["sha256"]: one["table"] for one in manifest_of(folder)["segments"]}


def rows_file(folder: Path, table: str = "events") -> Path:
    """The file with the first rows of a table."""
    segments = manifest_of(folder)["segments"]
    sha256 = next(one["sha256"] for one in segments if one["table"] == table)
    return folder / "sha256" / sha256[:2] / sha256


# Both ways


def empty_cells(url: str) -> int:
    """Jobs whose `substituted` is SQL's NULL, which differs from JSON's null."""
    with raw_engine(url).connect() as connection:
        query = "SELECT count(*) FROM jobs WHERE substituted IS NULL"
        return connection.execute(text(query)).scalar_one()


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_restore_gives_the_same_rows_on_any_database(source, target, filled, new_url, tmp_path):
    url, folder = filled(source)
    with opened(url, folder) as registry:
        made = backup(registry, tmp_path / "backup")
        expected = registry.history("digits"), registry.search("digits"), registry.jobs()
    restored_url = new_url(target)
    verified = restore(tmp_path / "backup", restored_url, tmp_path / "artifacts")
    assert verified.problems == []
    assert (verified.versions, verified.purged, verified.files) == (7, 1, made.files)
    assert all_rows(restored_url) == all_rows(url)
    assert all(rows_of(raw_engine(url)).values()), "a table without a row proves nothing"
    assert empty_cells(restored_url) == empty_cells(url) == 1, "of two jobs one says nothing"
    assert files_in(tmp_path / "artifacts" / "sha256") == files_in(folder / "artifacts" / "sha256")
    with opened(restored_url, tmp_path) as registry:
        found = registry.history("digits"), registry.search("digits"), registry.jobs()
        assert found == expected
        assert made.heads["digits"] == expected[0][0].hash
        champion = registry.resolve("digits").version
        assert registry.open(champion)["model.onnx"].read_text() == "model 4"


@pytest.mark.parametrize("kind", KINDS)
def test_restored_registry_continues_numbers_and_history(kind, origin, new_url, tmp_path):
    backup(origin, tmp_path / "backup")
    url = new_url(kind)
    restore(tmp_path / "backup", url, tmp_path / "artifacts")
    with opened(url, tmp_path) as registry:
        new = registry.register("digits", make_candidate(tmp_path / "b", "new"), actor="ada")
        assert new.version.version == 7
        registry.approve("digits", 7, actor="bo", reason="good")
        assert (
            registry.promote("digits", 7, expect_revision=2, actor="bo", reason="better").version
            == 7
        )
        again = make_candidate(tmp_path / "b", "model 1")
        assert not registry.register("digits", again, actor="ada").created
        registry.unarchive("digits", 1, actor="bo", reason="its files are back")
        assert verify(registry).problems == []
    with pytest.raises(Exception, match="events is append-only"):
        execute(url, "UPDATE events SET actor = 'eve'")


def test_backup_reports_its_content(origin, tmp_path):
    told = []
    made = backup(origin, tmp_path / "backup", progress=lambda *so_far: told.append(so_far))
    manifest = manifest_of(tmp_path / "backup")
    rows = all_rows(str(origin.database._engine.url))
    del rows["registry_alembic_version"]
    assert manifest["tables"] == {name: len(rows[name]) for name in rows}
    assert manifest["schema"] == HEAD
    assert manifest["heads"] == {row["name"]: row["last_event"] for row in rows["models"]}
    stored = [row["sha256"] for row in rows["blobs"] if row["purged_at"] is None]
    assert len(stored) == len(rows["blobs"]) - 1
    assert manifest["files"]["count"] == made.files == made.copied == len(stored)
    names = {path.name for path in (tmp_path / "backup" / "sha256").rglob("*") if path.is_file()}
    assert names == {*stored, *(segment["sha256"] for segment in manifest["segments"])}
    assert manifest["registry"] == rows["registry"][0]["id"]
    assert (made.models, made.versions) == (2, 7)
    assert told == [("copied", done, made.files) for done in range(1, made.files + 1)]
    found = verify_backup(tmp_path / "backup")
    assert found == replace(made, copied=0)


def test_restore_moves_files_between_a_bucket_and_a_folder(bucket, tmp_path):
    with bucket.open() as registry:
        version = registry.register("digits", make_candidate(tmp_path / "b"), actor="ada").version
        assert backup(registry, tmp_path / "backup").files == 3
    other = f"{bucket.behind.root}/other"
    for number, artifacts in enumerate((tmp_path / "files", other)):
        url = f"sqlite:///{tmp_path}/restored-{number}.db"
        verified = restore(tmp_path / "backup", url, artifacts, tmp_path / "fresh cache")
        assert (verified.problems, verified.files) == ([], 3)
        with Registry(url, artifacts, tmp_path / "fresh cache") as registry:
            assert registry.open(version)["model.onnx"].read_text() == "model bytes"


# Again into the same folder


def test_second_backup_copies_new_files_and_removes_purged_ones(own, tmp_path):
    folder = tmp_path / "backup"
    first = backup(own, folder)
    old_rows, segments = rows_file(folder), set(segments_of(folder))
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("sha256/*/*")}
    own.register("words", make_candidate(tmp_path / "b", "new words"), actor="ada")
    assert len(purge(own, actor="bo", dry_run=False)) == 1
    second = backup(own, folder)
    assert (second.files, second.copied) == (first.files, 1)
    assert verify_backup(folder).problems == []
    assert not old_rows.exists()
    kept = [path for path in folder.rglob("sha256/*/*") if path in times]
    assert len([path for path in kept if path.name not in segments]) == first.files - 1
    assert all(path.stat().st_mtime_ns == times[path] for path in kept)
    again = {path.name for path in kept} & segments
    assert {segments_of(folder)[sha256] for sha256 in again} >= {"jobs", "approvals", "aliases"}


def test_backup_of_an_unchanged_registry_copies_nothing(origin, tmp_path):
    backup(origin, tmp_path / "backup")
    before = files_in(tmp_path / "backup" / "sha256")
    assert backup(origin, tmp_path / "backup").copied == 0
    assert files_in(tmp_path / "backup" / "sha256") == before


def test_backup_succeeds_during_a_purge(own, tmp_path):
    removed = []

    def look(*_so_far) -> None:
        if not removed:
            removed.extend(purge(own, actor="bo", dry_run=False))

    made = backup(own, tmp_path / "backup", progress=look)
    assert len(removed) == 1
    assert made.heads["digits"] == own.history("digits")[0].hash
    assert verify_backup(tmp_path / "backup").problems == []
    assert Path(removed[0].path).name not in str(files_in(tmp_path / "backup").keys())


def test_backup_of_a_damaged_file_fails_and_keeps_the_earlier_backup(own, tmp_path):
    backup(own, tmp_path / "backup")
    new = own.register("words", make_candidate(tmp_path / "b", "new words"), actor="ada").version
    path = own.open(new)["model.onnx"]
    path.chmod(0o644)
    path.write_text("new Words")
    with pytest.raises(Corrupt, match=rf"No backup was made: {path} was changed.*register"):
        backup(own, tmp_path / "backup")
    found = verify_backup(tmp_path / "backup")
    assert found.problems == []
    assert found.heads["words"] != own.history("words")[0].hash


def test_backup_refuses_a_folder_with_other_files(origin, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"meow")
    with pytest.raises(Refused, match="is not empty and not a backup"):
        backup(origin, tmp_path / "photos")
    assert files_in(tmp_path / "photos") == {"cat.png": b"meow"}
    with pytest.raises(Refused, match="where the registry keeps its files"):
        backup(origin, origin.files.root)
    with pytest.raises(Unreachable, match=r"cat\.png cannot be written"):
        backup(origin, tmp_path / "photos" / "cat.png")


DIGEST = "ab" * 32


@pytest.mark.parametrize(
    "there",
    [
        {"README.txt": "my thesis", "tmp/" + "1" * 32: "years of work"},
        {"README.txt": "", "tmp/thesis.tex": "years of work"},
        {"README.txt": "A backup of my photos", f"sha256/ab/{DIGEST}": "a photo"},
        {"README.txt": "Models of team B", f"sha256/ab/{DIGEST}": "b", MARKER: "{}"},
        {"README.txt": EXPLANATION, f"sha256/ab/{DIGEST}": "b", MARKER: "{}"},
        {"manifest.json": "{}", "last-hashed.txt": "my notes"},
        {"README.txt": "# A backup of a modelmint registry.", "last-hashed.txt": "my notes"},
    ],
)
def test_backup_refuses_a_folder_that_only_resembles_a_backup(there, origin, tmp_path):
    folder = tmp_path / "strange"
    for name, content in there.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    before, said = files_in(folder), "files of a regist" if MARKER in there else "not a backup of"
    for replaced in (False, True):
        with pytest.raises(Refused, match=f"strange .*{said}.*Give an empty folder"):
            backup(origin, folder, replace=replaced)
    assert verify_backup(folder, origin).problems
    with pytest.raises(Corrupt):
        restore(folder, f"sqlite:///{tmp_path}/r.db", tmp_path / "artifacts")
    assert files_in(folder) == before
    assert (folder / "tmp").exists() == any("tmp/" in name for name in there)


def test_backup_keeps_files_that_somebody_added_to_the_folder(own, tmp_path):
    folder = tmp_path / "backup"
    backup(own, folder)
    theirs = (
        "notes.txt",
        "tmp/thesis.tex",
        "sha256/notes.txt",
        "sha256/ab/notes.txt",
        f"sha256/photos/{DIGEST}",
    )
    for name in theirs:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("theirs")
    (folder / "sha256/ab" / DIGEST).write_text("of a backup before")
    backup(own, folder)
    assert all((folder / name).read_text() == "theirs" for name in theirs)
    assert not (folder / "sha256/ab" / DIGEST).exists()
    assert verify_backup(folder, own).problems == []


@pytest.mark.parametrize("readme", ["", EXPLANATION[:20], EXPLANATION])
def test_backup_restarts_after_a_kill_while_writing_the_readme(readme, origin, tmp_path):
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "README.txt").write_text(readme)
    backup(origin, tmp_path / "backup")
    assert verify_backup(tmp_path / "backup", origin).problems == []
    noted = EXPLANATION + "On the second shelf.\n"
    (tmp_path / "backup" / "README.txt").write_text(noted)
    backup(origin, tmp_path / "backup")
    assert (tmp_path / "backup" / "README.txt").read_text() == noted


def test_backup_refuses_to_drop_jobs_of_another_copy(own, tmp_path):
    """Two copies that only ran predictions have equal histories: their jobs are compared."""
    folder, url = tmp_path / "backup", f"sqlite:///{tmp_path}/copy.db"
    backup(own, folder)
    assert restore(folder, url, tmp_path / "artifacts").problems == []
    (running,) = [job for job in own.jobs() if job.state == "running"]
    with opened(url, tmp_path) as copy:
        backup(copy, folder)
        mine = own.start_job(own.resolve("digits"), input_sha256="2" * 64, output="mine")
        own.fail_job(running, "killed")
        backup(own, folder)
        before = files_in(folder)
        found = f"batch jobs of the backup that are missing here: 1, such as {mine.id}"
        with pytest.raises(
            Refused, match=f"{found}; .* ended differently here: 1, such as {running.id}"
        ):
            backup(copy, folder)
        copy.fail_job(running, "killed")
        theirs = copy.start_job(copy.resolve("digits"), input_sha256="2" * 64, output="theirs")
        with pytest.raises(
            Refused, match=f"{found}; .* ended differently here: 1, such as {running.id}"
        ):
            backup(copy, folder)
        assert files_in(folder) == before
        assert found in str(verify_backup(folder, copy).problems)
        assert verify_backup(folder, own).problems == []
        backup(copy, folder, replace=True)
        assert theirs.id in rows_file(folder, "jobs").read_text()
    with pytest.raises(Refused, match=f"missing here: 1, such as {theirs.id}"):
        backup(own, folder)


def test_concurrent_backups_into_one_folder_conflict(origin, tmp_path):
    refusals = []

    def look(*_so_far) -> None:
        with pytest.raises(Conflict, match="Another process is making a backup") as caught:
            backup(origin, tmp_path / "backup")
        refusals.append(caught)

    backup(origin, tmp_path / "backup", progress=look)
    assert refusals
    assert verify_backup(tmp_path / "backup").problems == []


# Damage


def flip_a_byte(folder: Path) -> Path:
    path = next(path for path in folder.rglob("sha256/*/*") if path.read_bytes() == b"model 4")
    path.chmod(0o644)
    path.write_bytes(b"model 5")
    return path


def edit_a_row(folder: Path) -> Path:
    path = rows_file(folder)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b',"bo",', b',"ed",', 1))
    return path


def remove_a_blob(folder: Path) -> Path:
    path = next(path for path in folder.rglob("sha256/*/*") if path.read_bytes() == b"model 4")
    path.unlink()
    return path


def remove_the_rows(folder: Path) -> Path:
    path = rows_file(folder)
    path.unlink()
    return path


def truncate_the_manifest(folder: Path) -> Path:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:-2])
    return path


def remove_the_manifest(folder: Path) -> Path:
    (folder / "manifest.json").unlink()
    return folder / "manifest.json"


def empty_the_manifest(folder: Path) -> Path:
    (folder / "manifest.json").write_text("[]")
    return folder / "manifest.json"


def change_a_head(folder: Path) -> Path:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"digits": "', '"digits": "0'))
    return path


def change_a_count(folder: Path) -> Path:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"jobs": 2', '"jobs": 3'))
    return path


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        edit_a_row,
        remove_a_blob,
        remove_the_rows,
        truncate_the_manifest,
        remove_the_manifest,
        empty_the_manifest,
        change_a_head,
        change_a_count,
    ],
)
def test_restore_refuses_a_damaged_backup(damage, origin, tmp_path):
    folder, url = tmp_path / "backup", f"sqlite:///{tmp_path}/registry.db"
    backup(origin, folder)
    path = damage(folder)
    (problem,) = verify_backup(folder).problems
    assert str(path) in problem
    with pytest.raises(Corrupt, match=str(path)):
        restore(folder, url, tmp_path / "artifacts")
    assert all_rows(url) == {}


def sealed(text: str, **changed: object) -> str:
    """A manifest with changed content and a matching hash."""
    document = json.loads(text) | changed
    del document["seal"]
    return json.dumps(document | {"seal": seal_json(document)})


ODD_NUMBERS = ["0", "-1", "1.5", "true", '"2"', "NaN", "Infinity", "1e999", "null", "9" * 5000]


@pytest.mark.parametrize(
    "change",
    [
        *(
            lambda text, odd=odd: text.replace('"format": 2', f'"format": {odd}')
            for odd in ODD_NUMBERS
        ),
        lambda text: text.replace('"format": 2', '"format": 1'),
        lambda text: sealed(text, schema="x"),
        lambda text: sealed(text, schema="0000"),
        lambda text: sealed(text, schema=4),
        lambda text: text.replace('"modelmint"', '"b": NaN, "modelmint"'),
        lambda text: text.replace('"modelmint"', '"b": 1e300, "modelmint"'),
        lambda text: text.replace('"seal": "', '"seal": "0'),
        lambda text: text.replace('"seal"', '"sealed"'),
        lambda text: "[" * 100_000,
        lambda text: text.replace('"modelmint"', f'"b": {"[" * 900 + "]" * 900}, "modelmint"'),
        lambda text: '{"format": 2, "schema": "0004", "seal": 5}',
        lambda text: sealed(text, heads=[]),
        lambda text: sealed(text, tables={"jobs": "many"}),
        lambda text: sealed(text, segments=[{"table": "jobs"}]),
        lambda text: sealed(text, segments=[[]]),
        lambda text: (
            '{"format": 1, "schema": "0003", "rows": {"sha256": "", "size": 1e400}, '
            '"heads": {}, "tables": {}, "created_at": ""}'
        ),
        lambda text: (
            '{"format": 1, "schema": "0003", "rows": {"sha256": "", "size": 1}, '
            '"heads": {"digits": []}, "tables": {"jobs": "x"}, "created_at": ""}'
        ),
    ],
)
def test_malformed_manifest_is_replaced_by_its_copy(change, full, tmp_path):
    origin, folder = full
    path = folder / "manifest.json"
    text = (folder / "manifest-copy.json").read_text()
    path.write_text(changed := change(text))
    assert changed != text
    (problem,) = verify_backup(folder, origin).problems
    assert str(path) in problem
    with pytest.raises(Corrupt, match=str(path)):
        restore(folder, f"sqlite:///{tmp_path}/registry.db", tmp_path / "artifacts")
    assert backup(origin, folder).copied == 0
    assert verify_backup(folder, origin).problems == []


def test_missing_manifest_is_replaced_by_its_copy(origin, own, tmp_path):
    folder = tmp_path / "backup"
    own.note("digits", 3, "a later state", actor="bo")
    backup(own, folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(Refused, match="history of 'digits' here does not continue"):
        backup(origin, folder)
    backup(own, folder)
    assert verify_backup(folder, own).problems == []


def test_restore_refuses_a_backup_by_a_newer_release(origin, tmp_path):
    backup(origin, tmp_path / "backup")
    path = tmp_path / "backup" / "manifest.json"
    text = path.read_text()
    newer = (f'"schema": "{HEAD}"', '"schema": "9999"')
    for old, new in (newer, ('"format": 2', '"format": 3')):
        path.write_text(text.replace(old, new))
        with pytest.raises(SchemaMismatch, match="upgrade modelmint"):
            restore(tmp_path / "backup", f"sqlite:///{tmp_path}/r.db", tmp_path / "artifacts")


def test_restore_reports_problems_that_the_registry_had(own, tmp_path):
    url = str(own.database._engine.url)
    execute(url, "DROP TRIGGER events_refuses_update")
    execute(url, "UPDATE events SET actor = 'eve' WHERE kind = 'rejected'")
    backup(own, tmp_path / "backup")
    verified = restore(tmp_path / "backup", f"sqlite:///{tmp_path}/r.db", tmp_path / "artifacts")
    (problem,) = verified.problems
    assert "was edited" in problem.what


# Where it is restored to


@pytest.mark.parametrize("kind", KINDS)
def test_restore_into_an_empty_created_registry_works(kind, origin, new_url, tmp_path):
    backup(origin, tmp_path / "backup")
    url = new_url(kind)
    opened(url, tmp_path).close()
    assert restore(tmp_path / "backup", url, tmp_path / "artifacts").problems == []
    assert all_rows(url) == all_rows(str(origin.database._engine.url))


@pytest.mark.parametrize("kind", KINDS)
def test_restore_refuses_a_registry_in_use(kind, origin, new_url, tmp_path):
    backup(origin, tmp_path / "backup")
    url = new_url(kind)
    with opened(url, tmp_path) as registry:
        registry.register("mine", make_candidate(tmp_path / "b"), actor="ada")
    before, files = rows_of(raw_engine(url)), files_in(tmp_path / "artifacts")
    with pytest.raises(Conflict, match=r"already has a registry.*MODELMINT_DATABASE_URL"):
        restore(tmp_path / "backup", url, tmp_path / "other")
    with pytest.raises(Conflict, match="belongs to a registry already: to another one"):
        restore(tmp_path / "backup", new_url(kind), tmp_path / "artifacts")
    assert (rows_of(raw_engine(url)), files_in(tmp_path / "artifacts")) == (before, files)


@pytest.mark.parametrize("marked", [True, False])
def test_restore_refuses_the_store_of_the_original(own, tmp_path, marked):
    """The store of an earlier release may have no marker."""
    backup(own, tmp_path / "backup")
    if not marked:
        (Path(own.files.root) / MARKER).unlink()
    before, url = files_in(Path(own.files.root)), f"sqlite:///{tmp_path}/copy.db"
    said = "belongs to a registry already: to this one" if marked else "has files, and no regist"
    with pytest.raises(Conflict, match=said):
        restore(tmp_path / "backup", url, own.files.root)
    assert (files_in(Path(own.files.root)), all_rows(url)) == (before, {})
    own.check_store()


def test_backup_refuses_the_folder_of_the_store(own, tmp_path):
    root = Path(own.files.root)
    for folder in (root, root / "backup", root.parent, root / "sha256" / ".."):
        with pytest.raises(Refused, match=r"(apart from|is) the folder"):
            backup(own, folder)
    backup(own, tmp_path / "backup")
    before = files_in(tmp_path)
    for store in (tmp_path / "backup", tmp_path / "backup" / "artifacts", tmp_path):
        with pytest.raises(Refused, match=r"(apart from|is) the folder"):
            restore(tmp_path / "backup", f"sqlite:///{tmp_path}/copy.db", store)
    assert files_in(tmp_path) == before


def test_backup_folder_is_refused_as_artifact_store(own, tmp_path):
    """As MODELMINT_ARTIFACTS, it would lose files to `gc`."""
    backup(own, tmp_path / "backup")
    url = str(own.database._engine.url)
    with unguarded(url) as c:  # a registry that does not know yet where its files are
        c.exec_driver_sql("UPDATE registry SET store = NULL")
    shutil.copytree(tmp_path / "backup", tmp_path / "unfinished")
    (tmp_path / "unfinished" / "manifest.json").unlink()
    shutil.copytree(tmp_path / "backup", tmp_path / "no readme")
    (tmp_path / "no readme" / "README.txt").unlink()
    for name in ("backup", "unfinished", "no readme"):
        before = files_in(tmp_path / name)
        with Registry(url, tmp_path / name) as registry:
            for call in (
                lambda: gc(registry, dry_run=False, grace_s=0),
                lambda: gc(registry, dry_run=True),
                lambda: purge(registry, actor="bo", dry_run=False),
                lambda: registry.adopt_store(lost=True),
                registry.reach,
            ):
                with pytest.raises(Refused, match="is the backup of a registry"):
                    call()
        new = Registry(f"sqlite:///{tmp_path}/new.db", tmp_path / name)
        with new as registry, pytest.raises(Refused, match="is the backup of a registry"):
            registry.create()
        assert files_in(tmp_path / name) == before


def test_restore_refuses_a_database_with_other_tables(origin, tmp_path):
    backup(origin, tmp_path / "backup")
    url = f"sqlite:///{tmp_path}/shop.db"
    execute(url, "CREATE TABLE customers (id INTEGER)")
    with pytest.raises(SchemaMismatch, match="tables that are not a registry"):
        restore(tmp_path / "backup", url, tmp_path / "artifacts")
    assert all_rows(url) == {"customers": []}


def test_restore_upgrades_rows_of_an_older_schema(make_database):
    old = rows_of(kept())
    url, upgraded = make_database(), make_database()
    fill_with_kept(upgraded)
    upgrade(upgraded)
    with restore_transaction(url, "0001") as connection:
        found = MetaData()
        found.reflect(connection)
        for table in found.sorted_tables:
            if table.name != VERSION_TABLE:
                connection.execute(insert(table), old[table.name])
    made_anew = {"versions": "uid", "blobs": "touched"}
    compared = rows_of(raw_engine(upgraded))
    assert len(compared.pop("registry")) == 1  # each got an id of its own
    for name, rows in compared.items():
        same = [{**row, made_anew.get(name, ""): None} for row in rows]
        assert [
            {**row, made_anew.get(name, ""): None} for row in rows_of(raw_engine(url))[name]
        ] == same
    assert schema_of(url) == schema_of(upgraded)


# Killed


def die_at(step: int) -> None:
    """SIGKILL this process at step N; a step is a renamed or removed file, or written SQL."""
    done = 0

    def count(*_arguments) -> None:
        nonlocal done
        done += 1
        if done > step:
            os.kill(os.getpid(), signal.SIGKILL)

    def look(name: str, arguments: tuple) -> None:
        if name in ("os.rename", "os.remove"):
            count()

    def execute(_connection, _cursor, statement: str, *_rest) -> None:
        if statement.startswith(("INSERT", "SELECT setval")) or "CREATE T" in statement:
            count()

    sys.addaudithook(look)
    event.listen(Engine, "before_cursor_execute", execute)
    event.listen(Engine, "commit", count)


def backup_until(step: int, url: str, artifacts: str, folder: Path) -> None:
    with Registry(url, artifacts) as registry:
        die_at(step)
        backup(registry, folder)


def restore_until(step: int, folder: Path, url: str, artifacts: Path) -> None:
    die_at(step)
    restore(folder, url, artifacts)


def killed(function: Callable[..., None], *arguments: object) -> bool:
    """Whether a process that calls the function was killed; otherwise it must succeed."""
    child = fork_context().Process(target=function, args=arguments)
    child.start()
    child.join(60)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def test_killed_backup_keeps_the_earlier_backup(own, tmp_path):
    folder, first = tmp_path / "backup", tmp_path / "first"
    before = backup(own, first)
    own.register("words", make_candidate(tmp_path / "b", "new words"), actor="ada")
    purge(own, actor="bo", dry_run=False)
    after = backup(own, tmp_path / "second")
    place = str(own.database._engine.url), own.files.root
    ended = []
    for step in itertools.count(0, 4):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(first, folder)
        dead = killed(backup_until, step, *place, folder)
        found = verify_backup(folder)
        assert found.problems == []
        assert found.heads in (before.heads, after.heads)
        ended.append(found.heads == after.heads)
        if not dead:
            break
        assert backup(own, folder).heads == after.heads
        assert files_in(folder / "sha256").keys() == files_in(tmp_path / "second/sha256").keys()
    assert ended == sorted(ended)
    assert set(ended[:-1]) == {True, False}, "killed before the manifest, and after it"


def test_killed_first_backup_can_be_repeated(origin, tmp_path):
    place = str(origin.database._engine.url), origin.files.root
    assert killed(backup_until, 45, *place, tmp_path / "backup")
    (problem,) = verify_backup(tmp_path / "backup").problems
    assert "is not a backup, or an unfinished one" in problem
    assert 0 < backup(origin, tmp_path / "backup").copied < 8
    assert verify_backup(tmp_path / "backup").problems == []


@pytest.mark.parametrize("kind", KINDS)
def test_killed_restore_leaves_an_empty_database_and_can_be_repeated(
    kind, origin, new_url, tmp_path
):
    backup(origin, tmp_path / "backup")
    expected = all_rows(str(origin.database._engine.url))
    url = new_url(kind)
    for step in itertools.count(0, 25):
        dead = killed(restore_until, step, tmp_path / "backup", url, tmp_path / "artifacts")
        if rows := all_rows(url):
            break  # it was past the one transaction
        assert dead
    assert rows == expected
    assert step > 60
    assert files_in(tmp_path / "artifacts/sha256") == files_in(Path(origin.files.root) / "sha256")


def test_files_of_a_killed_restore_are_used_only_by_the_same_registry(origin, tmp_path):
    backup(origin, tmp_path / "backup")
    url, artifacts = f"sqlite:///{tmp_path}/r.db", tmp_path / "artifacts"
    assert killed(restore_until, 5, tmp_path / "backup", url, artifacts)
    left = files_in(artifacts / "sha256")
    assert left
    damaged = artifacts / "sha256" / next(iter(left))
    damaged.chmod(0o644)
    damaged.write_bytes(bytes(len(damaged.read_bytes())))
    shutil.copytree(artifacts, tmp_path / "collected")
    other = f"sqlite:///{tmp_path}/other.db"
    with pytest.raises(
        Conflict, match=r"belongs .* to this one, .*r\.db.* use the same MODELMINT_DATABASE_URL"
    ):
        restore(tmp_path / "backup", other, artifacts)
    assert all_rows(other) == {}
    assert restore(tmp_path / "backup", url, artifacts).problems == []
    # Done, it is no killed restore: this may be another machine with a database of that name.
    (tmp_path / "r.db").unlink()
    with pytest.raises(Conflict, match="belongs to a registry already: to this one"):
        restore(tmp_path / "backup", url, artifacts)
    before = files_in(tmp_path / "collected")
    with Registry(f"sqlite:///{tmp_path}/empty.db", tmp_path / "collected") as registry:
        with pytest.raises(Refused, match="has the files of registry"):
            registry.create()
        with pytest.raises(Unreachable, match="There is no registry"):
            gc(registry, dry_run=False, grace_s=0)
    assert files_in(tmp_path / "collected") == before
