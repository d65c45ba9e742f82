"""Rows that an owner edited past all rules: `verify` names them, and every command ends with a
result or one of the registry's errors, never with a traceback.
"""

import itertools
import sqlite3
import uuid
from dataclasses import replace

import pytest
from databases import raw
from registry_helpers import (
    LINEAGE,
    Place,
    drift_document,
    make_candidate,
    promote,
    quick_folder,
    register_versions,
)
from typer.testing import CliRunner

from cli.main import app
from registry import JobInput, Policy, RegistryError, Unreachable, schema
from registry.integrity import verify
from registry.transfer.backup import backup
from registry.upkeep import retain

BY = {"actor": "bo", "reason": "why"}

# What is missing, or damaged


@pytest.mark.parametrize(
    "broken",
    [
        "DROP TABLE jobs",
        "DROP TABLE registry",
        "DROP TABLE events",
        "ALTER TABLE events RENAME TO elsewhere",
        "ALTER TABLE versions RENAME COLUMN git_dirty TO dirty",
    ],
)
def test_verify_names_a_missing_table_or_column(place, broken):
    register_versions(place, 1)
    with raw(place.url) as connection:
        if place.url.startswith("postgresql"):
            broken += " CASCADE" if "DROP" in broken else ""
        else:
            connection.exec_driver_sql("PRAGMA legacy_alter_table=ON")
            found = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            for name in connection.exec_driver_sql(found).scalars().all():
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql(broken)
    with place.open() as registry:
        found = verify(registry)
    named = {
        "DROP TABLE jobs": ("table jobs", "it is gone"),
        "ALTER TABLE versions": ("table versions", "git_dirty"),
        "DROP TABLE registry": ("table registry", "it is gone"),
    }
    ref, what = next(
        (said for start, said in named.items() if broken.startswith(start)),
        ("table events", "it is gone"),
    )
    assert any(problem.ref == ref and what in problem.what for problem in found.problems)
    assert any("rows and files" in left_out for left_out in found.not_looked_at)


@pytest.fixture
def on_sqlite(tmp_path):
    place = Place(tmp_path)
    register_versions(place, 3)
    return place


def damage(path, *tables):
    """Overwrite the first page of tables."""
    with sqlite3.connect(path) as connection:
        ((size,),) = connection.execute("PRAGMA page_size").fetchall()
        pages = dict(connection.execute("SELECT name, rootpage FROM sqlite_master").fetchall())
    content = bytearray(path.read_bytes())
    for table in tables:
        start = (pages.get(table, 1) - 1) * size
        content[start + 100 : start + size] = b"\xff" * (size - 100)
        if table in pages:
            content[start : start + 100] = b"\xff" * 100
    path.write_bytes(content)


@pytest.mark.parametrize("table", ["models", "events", "versions", "blobs"])
def test_verify_reports_a_damaged_sqlite_file_as_a_problem(on_sqlite, table):
    damage(on_sqlite.folder / "registry.db", table)
    with on_sqlite.open() as registry:
        found = verify(registry)
    assert any("damaged" in problem.what for problem in found.problems)
    assert any("rows and files" in left_out for left_out in found.not_looked_at)
    assert not any("\n" in problem.what for problem in found.problems)


def test_unopenable_sqlite_file_says_what_to_do(on_sqlite):
    damage(on_sqlite.folder / "registry.db", "sqlite_master")
    with pytest.raises(Unreachable, match=r"is damaged .* Restore a backup"):
        on_sqlite.open()


# Values of wrong types, by an owner who dropped the triggers, in each column of each table


@pytest.fixture(scope="module")
def lawless():
    """A registry with rows in every table, the owner of its file, and the original content."""
    with quick_folder() as folder:
        place = Place(folder)
        with place.open() as registry:
            for number in range(1, 4):
                lineage = replace(LINEAGE, data={"a.csv": "a" * 32}, parent="digits:1")
                candidate = make_candidate(
                    folder / "bundle",
                    f"model {number}",
                    lineage=lineage if number == 2 else LINEAGE,
                    tags={"team": "risk"},
                )
                registry.register("digits", candidate, actor="ada", request_id=f"r{number}")
            promote(registry, 1)
            promote(registry, 2, actor="bo")
            promote(registry, 3, "canary")
            rules = Policy(keep_last=1, protected=("production",))
            registry.set_policy("digits", rules, actor="bo")
            resolved = registry.resolve("digits@canary")
            job = registry.start_job(resolved, input_sha256="1" * 64, output="o", flow_run_id="run")
            found = {"rows": 3, "provider": "CPU", "onnxruntime": "1.31.0"}
            read = [JobInput("2" * 64, "a.csv", 3)]
            found |= {"substituted": {"x": {"filled": 1}}, "drift": drift_document()}
            registry.finish_job(job, **found, inputs=read)
            owner = sqlite3.connect(folder / "registry.db", isolation_level=None)
            triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            for (name,) in owner.execute(triggers).fetchall():
                owner.execute(f"DROP TRIGGER {name}")
            owner.execute("PRAGMA ignore_check_constraints=ON")
            before = sqlite3.connect(":memory:")
            owner.backup(before)
            yield folder, registry, owner, before
            owner.close()
            before.close()


COLUMNS = [
    (table.name, column.name)
    for table in schema.metadata.sorted_tables
    for column in table.columns
    if table.name != "version_signatures"  # which has no row
]
VALUES = ["x'00'", "'abc'", "-1", "1e300", "'[]'", "9000000000000000000", "CAST(x'ff' AS TEXT)"]


def edits(lawless, values=1, step=1):
    """For each column and some of the values: set it in one row, leave all others unchanged."""
    _, _, owner, before = lawless
    turns = itertools.cycle(VALUES)
    for table, column in COLUMNS[::step]:
        for value in itertools.islice(turns, values):
            before.backup(owner)
            key = ", ".join(c.name for c in schema.metadata.tables[table].primary_key)
            here = f"({key}) = (SELECT {key} FROM {table} ORDER BY {key} LIMIT 1)"
            try:
                owner.execute(f"UPDATE {table} SET {column} = {value} WHERE {here}")
            except sqlite3.IntegrityError:
                continue  # the type of a primary key is kept even then
            yield f"{table}.{column} = {value}"


def answered(call):
    """Whether a call returned, or raised a RegistryError with a message of one line."""
    try:
        return call(), True
    except RegistryError as error:
        return str(error), "\n" not in str(error)


def test_reads_of_malformed_columns_raise_registry_errors(lawless):
    _, registry, _, _ = lawless
    for what in edits(lawless):
        for call in (
            lambda: registry.history("digits"),
            lambda: registry.search("digits", ["metric.accuracy>0.1"], order="metric.accuracy"),
            lambda: registry.resolve("digits:1"),
            lambda: registry.overview(),
            lambda: registry.jobs("digits"),
            lambda: registry.predicted_files("digits", "o", ["a.csv"]),
        ):
            said, well = answered(call)
            assert well, (what, said)


def test_changes_with_malformed_columns_raise_registry_errors(lawless):
    _, registry, _, _ = lawless
    for what in edits(lawless):
        for call in (
            lambda: registry.rollback("digits", **BY),
            lambda: retain(registry, actor="bo", dry_run=False),
        ):
            said, well = answered(call)
            assert well, (what, said)


def test_verify_names_malformed_columns_and_backup_ends_with_an_error(lawless):
    folder, registry, _, _ = lawless
    for what in edits(lawless, step=4):
        found = verify(registry)
        assert not any("\n" in problem.what for problem in found.problems), what
        said, well = answered(lambda: backup(registry, folder / uuid.uuid4().hex))
        assert well, (what, said)


def test_commands_on_malformed_columns_end_with_a_message(lawless, monkeypatch):
    folder, _, _, _ = lawless
    monkeypatch.setenv("MODELMINT_DATABASE_URL", f"sqlite:///{folder}/registry.db")
    monkeypatch.setenv("MODELMINT_ARTIFACTS", str(folder / "artifacts"))
    commands = itertools.cycle(
        [
            ["show", "digits:1"],
            ["search", "digits"],
            ["history", "digits"],
            ["jobs", "digits"],
            ["compare", "digits:1", "digits:2"],
            ["list"],
            ["trace", "digits:1"],
            ["retain", "digits"],
        ]
    )
    crashed = []
    for what in edits(lawless):
        command = next(commands)
        ended = CliRunner().invoke(app, ["models", *command])
        # `main` prints the registry's errors.
        if not isinstance(ended.exception, SystemExit | RegistryError | None):
            crashed.append((what, command, ended.exception))
    assert crashed == []
