"""Repeated backups: only of the same registry, only new rows and files, damage is repaired."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from amounts import usual
from databases import DIALECTS, MIGRATIONS, raw_engine, rows_of, unguarded
from fork_context import fork_context
from registry_helpers import Place, fill_place, make_candidate, promote
from sqlalchemy import MetaData

from registry import Conflict, Corrupt, Refused, Registry, schema
from registry.artifacts import Folder
from registry.databases.database import _run_alembic
from registry.transfer import backup as backups
from registry.transfer import segments
from registry.transfer.backup import backup, restore, verify_backup
from registry.transfer.backup_folder import BackupFolder
from registry.upkeep import purge


@pytest.fixture
def place(database_url, tmp_path) -> Place:
    """A registry: digits has versions 1 to 3, and 1 is champion; words has one version."""
    url = "" if database_url.startswith("sqlite") else database_url
    return fill_place(Place(tmp_path / "here", url), fill)


def fill(place: Place) -> None:
    with place.open() as registry:
        for number in (1, 2, 3):
            add(registry, place, f"model {number}")
        promote(registry, 1)
        add(registry, place, "words", name="words")


@pytest.fixture
def registry(place) -> Iterator[Registry]:
    with place.open() as registry:
        yield registry


def add(registry: Registry, place: Place, model: str, name: str = "digits") -> int:
    candidate = make_candidate(place.folder / "bundle", model, tags={"team": "risk"})
    return registry.register(name, candidate, actor="ada").version.version


def all_rows(url: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, without the store id, which a restored registry does not keep."""
    rows = rows_of(raw_engine(url))
    rows["registry"][0]["store"] = None
    return rows


def restored(folder: Path, url: str, artifacts: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of the registry restored from a backup; it must verify without problems."""
    assert restore(folder, url, artifacts).problems == []
    return all_rows(url)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_bytes())


# Of which registry


@pytest.mark.parametrize("models", [0, 1])
def test_backup_refuses_to_replace_one_of_another_registry(
    models, place, registry, make_database, tmp_path
):
    folder = tmp_path / "backup"
    mine = backup(registry, folder)
    before = files_in(folder)
    other = Place(tmp_path / "other", make_database())
    with other.open() as registry:
        registry.create()
        for _ in range(models):
            add(registry, other, "other", name="words")
        with pytest.raises(Refused) as caught:
            backup(registry, folder)
        assert files_in(folder) == before
        said = verify_backup(folder, registry).problems
        made = backup(registry, folder, replace=True)
        assert verify_backup(folder, registry).problems == []
    refused = str(caught.value)
    assert f"is of registry {mine.registry}, and this is registry {made.registry}" in refused
    assert ("this registry is empty" in refused) == (models == 0)
    assert "--replace" in refused
    assert any(f"is of registry {mine.registry}" in problem for problem in said)
    assert (made.models, made.versions) == (models, models)


def test_backup_of_an_older_state_refuses_to_replace_a_later_one(
    place, registry, make_database, tmp_path
):
    folder, earlier = tmp_path / "backup", tmp_path / "earlier"
    backup(registry, earlier)
    add(registry, place, "model 4")
    backup(registry, folder)
    back = Place(tmp_path / "back", make_database())
    restore(earlier, back.url, back.folder / "artifacts")
    with back.open() as registry:
        assert verify_backup(earlier, registry).problems == []
        with pytest.raises(Refused, match=r"history of 'digits' here does not continue event"):
            backup(registry, folder)
        # The same numbers and ids now mean other rows.
        assert add(registry, back, "another 4") == 4
        with pytest.raises(Refused, match=r"history of 'digits' here does not continue event"):
            backup(registry, folder)
        assert "does not continue" in str(verify_backup(folder, registry).problems)
        backup(registry, folder, replace=True)
    rows = restored(folder, make_database(), tmp_path / "restored")
    assert rows == all_rows(back.url)


def test_backup_with_lost_models_refuses_to_replace_the_earlier_one(place, registry, tmp_path):
    backup(registry, tmp_path / "backup")
    before = files_in(tmp_path / "backup")
    model, version = "SELECT id FROM models WHERE name = 'words'", "SELECT max(id) FROM versions"
    with unguarded(place.url) as c:
        for table in ("artifacts", "metrics", "tags", "data"):
            c.exec_driver_sql(f"DELETE FROM version_{table} WHERE version_id = ({version})")
        for table in ("events", "version_state"):
            c.exec_driver_sql(f"DELETE FROM {table} WHERE model_id = ({model})")
        c.exec_driver_sql(f"DELETE FROM evaluations WHERE version_id = ({version})")
        c.exec_driver_sql(f"DELETE FROM versions WHERE model_id = ({model})")
        c.exec_driver_sql("DELETE FROM models WHERE name = 'words'")
    with pytest.raises(Refused, match=r"no model 'words'.*3 versions here, and 4 in"):
        backup(registry, tmp_path / "backup")
    assert files_in(tmp_path / "backup") == before


def test_restored_registry_continues_its_backups(place, registry, make_database, tmp_path):
    (before,) = rows_of(raw_engine(place.url))["registry"]
    made = backup(registry, tmp_path / "backup")
    there = Place(tmp_path / "there", make_database())
    restore(tmp_path / "backup", there.url, there.folder / "artifacts")
    (row,) = rows_of(raw_engine(there.url))["registry"]
    assert row["id"] == made.registry
    assert row["store"] not in (None, before["store"])
    with there.open() as registry:
        add(registry, there, "model 4")
        assert backup(registry, tmp_path / "backup").versions == 5
        assert verify_backup(tmp_path / "backup", registry).problems == []


@pytest.mark.parametrize("whose", ["this", "another"])
def test_restore_refuses_a_store_of_another_registry(
    whose, place, registry, make_database, tmp_path
):
    backup(registry, tmp_path / "backup")
    store = tmp_path / "store"
    if whose == "this":
        shutil.copytree(place.folder / "artifacts", store)
    else:
        other = Place(tmp_path / "other", make_database())
        with other.open() as another:
            add(another, other, "model 1")  # a file that is in the backup, too
        shutil.copytree(other.folder / "artifacts", store)
    before, url = files_in(store), make_database()
    with pytest.raises(Conflict, match=f"belongs to a registry already: to {whose} one"):
        restore(tmp_path / "backup", url, store)
    assert (files_in(store), rows_of(raw_engine(url))) == (before, {})
    (store / "registry.json").unlink()
    with pytest.raises(Conflict, match=r"has files, and no registry\.json says which registry"):
        restore(tmp_path / "backup", url, store)
    shutil.rmtree(store)
    restored(tmp_path / "backup", url, store)


def test_backup_of_an_empty_registry_is_reported(database_url, tmp_path):
    with Place(tmp_path, database_url).open() as registry:
        registry.create()
        made = backup(registry, tmp_path / "backup")
    found = verify_backup(tmp_path / "backup")
    assert (found.models, found.versions, found.problems) == (0, 0, [])
    assert len(found.registry) == 32
    assert found == made


# Of earlier releases


def write_format_1(registry: Registry, folder: Path) -> None:
    """A backup as the previous release wrote it: schema 0003, all rows in one file, no id."""
    engine = raw_engine(f"sqlite:///{folder.parent}/0003.db")
    with DIALECTS["sqlite"].migrating(engine) as c:
        _run_alembic(c, MIGRATIONS, "0003.db", "0003")
        tables = MetaData()
        tables.reflect(c)
    rows = rows_of(raw_engine(str(registry.database._engine.url.render_as_string(False))))
    lines, heads = [], {}
    for table in schema.metadata.sorted_tables:
        if table.name in tables.tables:
            columns = tables.tables[table.name].columns.keys()
            for row in rows[table.name]:
                kept = {name: row[name] for name in columns}
                lines.append(json.dumps({"table": table.name, "row": kept}))
                if table.name == "models":
                    heads[row["name"]] = row["last_event"]
    target = BackupFolder(folder)
    (folder / "tmp").mkdir(parents=True)
    (folder / "README.txt").write_text("A backup of a modelmint registry.")
    staged = target.take([f"{line}\n".encode() for line in lines])
    target.publish(staged)
    files = {row["sha256"]: row["size"] for row in rows["version_artifacts"]}
    for sha256, size in files.items():
        target.publish(target.take([registry.files.fetch(sha256, size).read_bytes()]))
    manifest = {
        "format": 1,
        "modelmint": "0",
        "created_at": "2026-01-01T00:00:00+00:00",
        "schema": "0003",
        "rows": {"sha256": staged.sha256, "size": staged.size},
        "tables": {t.name: len(rows[t.name]) for t in tables.sorted_tables if rows.get(t.name)},
        "files": {"count": len(files), "bytes": sum(files.values())},
        "heads": heads,
    }
    manifest["tables"].pop(schema.VERSION_TABLE)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_older_format_backup_is_verified_restored_and_replaced(
    place, registry, make_database, tmp_path
):
    folder = tmp_path / "backup"
    write_format_1(registry, folder)
    found = verify_backup(folder, registry)
    assert (found.problems, found.registry, found.versions) == ([], None, 4)
    rows = restored(folder, make_database(), tmp_path / "restored")
    assert rows["events"] == all_rows(place.url)["events"]
    assert len(rows["registry"]) == 1
    other = Place(tmp_path / "other", make_database())
    with other.open() as empty:
        empty.create()
    with other.open() as empty, pytest.raises(Refused, match="this registry is empty"):
        backup(empty, folder)
    made = backup(registry, folder)
    assert (made.copied, made.repaired) == (0, 0)
    assert manifest_of(folder)["registry"] == verify_backup(folder, registry).registry
    rows = restored(folder, make_database(), tmp_path / "restored again")
    assert rows == all_rows(place.url)


# Damage


def damage(path: Path) -> None:
    """Replace the content by another of the same size and age."""
    before, content = path.stat(), path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("place_of", ["sha256/*/*", "manifest.json", "manifest-copy.json"])
def test_next_backup_repairs_damaged_files(place_of, place, registry, make_database, tmp_path):
    folder = tmp_path / "backup"
    files = backup(registry, folder).files
    for path in folder.glob(place_of):
        damage(path)
    assert bool(verify_backup(folder).problems) == (place_of != "manifest-copy.json")
    made = backup(registry, folder)
    assert made.repaired == (files if "*" in place_of else 0)
    assert made.copied == 0
    assert verify_backup(folder, registry).problems == []
    rows = restored(folder, make_database(), tmp_path / "restored")
    assert rows == all_rows(place.url)
    assert backup(registry, folder).repaired == 0


def test_next_backup_repairs_what_verify_backup_found(registry, tmp_path):
    folder = tmp_path / "backup"
    backup(registry, folder)
    for path in folder.glob("sha256/*/*"):
        damage(path)
    noted = folder / "last-hashed.txt"
    time.sleep(0.05)
    noted.write_text(str(time.time_ns()))  # as if it had been before
    assert backup(registry, folder).repaired == 0
    assert verify_backup(folder).problems
    assert backup(registry, folder).repaired > 0
    assert verify_backup(folder).problems == []


def test_backup_ignores_a_last_hashed_time_in_the_future(registry, tmp_path):
    folder = tmp_path / "backup"
    backup(registry, folder)
    (folder / "last-hashed.txt").write_text(str(time.time_ns() + 10**15))
    damage(next(folder.glob("sha256/*/*")))
    backup(registry, folder)
    assert verify_backup(folder).problems == []


def test_backup_without_a_readable_manifest_needs_replace(registry, tmp_path):
    folder = tmp_path / "backup"
    backup(registry, folder)
    (folder / "manifest-copy.json").unlink()
    damage(folder / "manifest.json")
    with pytest.raises(Refused, match=r"unknown which registry the backup .* --replace"):
        backup(registry, folder)
    assert "manifest.json" in verify_backup(folder).problems[0]
    backup(registry, folder, replace=True)
    assert verify_backup(folder, registry).problems == []


# Rows in segments


@pytest.fixture
def small(monkeypatch) -> None:
    """Make segments of a few rows."""
    monkeypatch.setattr(segments, "SPAN", 2)


def counted(folder: Path, table: str) -> list[int]:
    return [one["rows"] for one in manifest_of(folder)["segments"] if one["table"] == table]


@pytest.mark.usefixtures("small")
def test_next_backup_has_every_kind_of_change(place, registry, make_database, tmp_path):
    folder = tmp_path / "backup"
    moves = {"actor": "bo", "reason": "asked"}
    steps: list[Callable[[], object]] = [
        lambda: registry.tag("digits", 1, "team", "fraud", actor="bo"),
        lambda: registry.tag("digits", 1, "team", None, actor="bo"),
        lambda: registry.reject("digits", 2, **moves),
        lambda: registry.approve("digits", 2, **moves),
        lambda: registry.archive("digits", 3, **moves),
        lambda: purge(registry, actor="bo", dry_run=False),
        lambda: registry.start_job(registry.resolve("digits"), input_sha256="1" * 64, output="o"),
        lambda: [registry.fail_job(job, "killed") for job in registry.jobs()],
        lambda: promote(registry, 2),
        lambda: add(registry, place, "model 4"),
        lambda: add(registry, place, "model 3"),
        lambda: add(registry, place, "first", name="another"),
    ]
    backup(registry, folder)
    assert sum(counted(folder, "versions")) == 4
    assert len(counted(folder, "versions")) >= 2
    for step in steps:
        step()
        backup(registry, folder)
        assert segment_rows(folder) == table_rows(place.url)
    assert verify_backup(folder, registry).problems == []
    rows = restored(folder, make_database(), tmp_path / "restored")
    assert rows == all_rows(place.url)


def segment_rows(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of a backup by table, read without the code under test."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in manifest_of(folder)["segments"]:
        path = folder / "sha256" / one["sha256"][:2] / one["sha256"]
        first, *rows = path.read_text().split("\n")[:-1]
        assert len(rows) == one["rows"]
        columns = json.loads(first)["columns"]
        found.setdefault(one["table"], []).extend(
            dict(zip(columns, json.loads(row), strict=True)) for row in rows
        )
    return found


def table_rows(url: str) -> dict[str, list[dict[str, Any]]]:
    rows = rows_of(raw_engine(url))
    del rows[schema.VERSION_TABLE]
    return {name: some for name, some in rows.items() if some}


@pytest.mark.usefixtures("small")
def test_next_backup_does_not_read_old_rows_again(place, registry, tmp_path):
    folder = tmp_path / "backup"
    backup(registry, folder)
    with unguarded(place.url) as c:  # what no rule allows, and `verify` reports
        c.exec_driver_sql("UPDATE evaluations SET actor = 'eve'")
    add(registry, place, "model 4")
    backup(registry, folder)
    rows = segment_rows(folder)
    assert {row["actor"] for row in rows["evaluations"][:-2]} == {"ada"}
    backup(registry, folder, replace=True)
    assert segment_rows(folder) == table_rows(place.url)


@pytest.mark.usefixtures("small")
def test_next_backup_includes_a_late_row_with_a_smaller_id(place, registry, tmp_path):
    folder = tmp_path / "backup"
    backup(registry, folder)
    with unguarded(place.url) as c:  # a transaction that took its id early, and committed late
        c.exec_driver_sql(
            "INSERT INTO evaluations (id, version_id, passed, report, at, actor) "
            "SELECT -7, min(id), true, '{}', 1, 'late' FROM versions"
        )
        c.exec_driver_sql(
            "INSERT INTO version_tags (version_id, key, value) "
            "SELECT min(id), 'late', 'yes' FROM versions"
        )
    backup(registry, folder)
    assert segment_rows(folder) == table_rows(place.url)


@pytest.mark.usefixtures("small")
def test_backup_without_changes_writes_no_segment(registry, tmp_path):
    folder = tmp_path / "backup"
    backup(registry, folder)
    before = {path: path.stat() for path in folder.glob("sha256/*/*")}
    backup(registry, folder)
    after = {path: path.stat() for path in folder.glob("sha256/*/*")}
    assert {path: found.st_ino for path, found in after.items()} == {
        path: found.st_ino for path, found in before.items()
    }


# While others write


def test_backup_succeeds_if_files_are_purged_while_copying(
    place, registry, make_database, tmp_path
):
    """After each read of the rows, the file of one version is gone before it is copied."""
    last = [add(registry, place, "to go")]
    threads: list[threading.Thread] = []

    def replace_it() -> None:
        with place.open() as other:
            other.archive("digits", last[0], actor="bo", reason="old")
            assert purge(other, actor="bo", dry_run=False)
            last[0] = add(other, place, f"to go {last[0]}")

    def look(doing: str, done: int, _total: int) -> None:
        if done == 1 and doing == "copied" and len(threads) < 9:
            threads.append(threading.Thread(target=replace_it))
            threads[-1].start()
            # The last of them has to wait; the others end before the copy goes on.
            threads[-1].join(1 if len(threads) > backups.PATIENCE else 60)

    made = backup(registry, tmp_path / "backup", progress=look)
    for thread in threads:
        thread.join(60)
    assert len(threads) == backups.PATIENCE + 1
    assert made.versions == 4 + len(threads)
    assert verify_backup(tmp_path / "backup", registry).problems == []
    restored(tmp_path / "backup", make_database(), tmp_path / "restored")


def come_and_go(place: Place, over) -> None:
    """Register, promote, archive and purge as fast as possible."""
    number = 0
    with place.open() as registry:
        while not over.is_set():
            number += 1
            text = f"passing {place.folder.name} {number}"  # the other writer has its own
            version = add(registry, place, text, name="passing")
            if number % 5 == 0:
                registry.approve("passing", version, actor="bo", reason="good")
            registry.archive("passing", version, actor="bo", reason="old")
            purge(registry, actor="bo", dry_run=False)


def test_backup_succeeds_during_registrations_and_purges(place, registry, make_database, tmp_path):
    context = fork_context()
    over = context.Event()
    writers = [
        context.Process(target=come_and_go, args=(Place(place.folder / name, place.url), over))
        for name in "ab"
    ]
    # Of one store, though each has a folder of its own for what it offers.
    for writer, name in zip(writers, "ab", strict=True):
        (place.folder / name).mkdir()
        (place.folder / name / "artifacts").symlink_to(place.folder / "artifacts")
        writer.start()
    begun, made = time.monotonic(), 0
    while made < 4 or time.monotonic() < begun + usual(2, 5):
        assert all(writer.is_alive() for writer in writers)
        folder = tmp_path / ("once" if made % 3 == 0 else "again")
        shutil.rmtree(tmp_path / "once", ignore_errors=True)
        backup(registry, folder)
        assert verify_backup(folder, registry).problems == []
        made += 1
    over.set()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    restored(tmp_path / "again", make_database(), tmp_path / "restored")


def test_backup_fails_fast_on_a_lost_file(place, registry, tmp_path):
    version = registry.resolve("digits").version
    registry.open(version)["model.onnx"].unlink()
    started = time.monotonic()
    with pytest.raises(Corrupt, match=r"No backup was made: .*register the same files"):
        backup(registry, tmp_path / "backup")
    assert time.monotonic() - started < 10


class Vanishing(Folder):
    """A store from which each file is purged between two reads."""

    def fetch(self, sha256: str, size: int) -> Path:
        path = super().fetch(sha256, size)
        path.unlink()
        return path


def test_file_removed_while_it_is_read_counts_as_lost(place, registry, tmp_path):
    registry.files = Vanishing(place.folder / "artifacts")
    with pytest.raises(Corrupt, match="No backup was made"):
        backup(registry, tmp_path / "backup")


def test_backup_names_a_row_it_cannot_store(place, registry, tmp_path):
    backup(registry, tmp_path / "backup")
    with unguarded(place.url) as c:
        value = "9e999" if "sqlite" in place.url else "'Infinity'"
        c.exec_driver_sql(
            "INSERT INTO version_metrics (version_id, key, value) "
            f"SELECT min(id), 'endless', {value} FROM versions"
        )
    with pytest.raises(Corrupt, match=r"row of the table version_metrics .*endless"):
        backup(registry, tmp_path / "backup")
    assert verify_backup(tmp_path / "backup").problems == []
