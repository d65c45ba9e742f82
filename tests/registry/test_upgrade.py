"""Upgrade of a registry of an older schema: with every row, or not at all."""

import contextlib
import hashlib
import itertools
import json
import os
import re
import signal
from collections.abc import Callable, Iterator

import pytest
import rfc8785
from amounts import usual
from databases import (
    create_by_all_revisions,
    execute,
    fetch,
    fill_database,
    fill_with_kept,
    kept,
    raw,
    raw_engine,
    rows_of,
    schema_of,
    unguarded,
)
from fork_context import fork_context
from registry_helpers import drift_document, in_processes
from sqlalchemy import Engine, event, inspect

from registry import Registry
from registry.databases.database import MIGRATIONS, Database, _run_alembic, create, upgrade
from registry.errors import SchemaMismatch
from registry.queries.params import sha256_of
from registry.schema import HEAD, NO_EVENT

# The statements of the revisions, and of the many triggers that follow the last.
STEPS = re.compile(
    "CREATE TABLE|CREATE INDEX|DROP TABLE|INSERT|UPDATE|SELECT setval|.*TRIGGER aliases"
)


@pytest.fixture(scope="module")
def old() -> dict[str, list[dict]]:
    """The rows of the kept database of revision 0001."""
    return rows_of(kept())


def upgrade_kept(url: str) -> None:
    fill_with_kept(url)
    upgrade(url)


@pytest.fixture
def upgraded_url(database_url: str) -> str:
    """The URL of that database after its upgrade, which is made once."""
    return fill_database(database_url, upgrade_kept)


@contextlib.contextmanager
def before_each_step(react: Callable[[int, str], None]) -> Iterator[None]:
    """Call react(0, statement), react(1, statement), ... before each step of a migration."""
    done = 0

    def look(_connection, _cursor, statement, *_rest) -> None:
        nonlocal done
        if STEPS.match(statement.lstrip()):
            react(done, statement)
            done += 1

    event.listen(Engine, "before_cursor_execute", look)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", look)


def state_of(url: str) -> tuple:
    """Everything in the database, for comparison."""
    with raw(url) as connection:
        tables = inspect(connection).get_table_names()
        rows = {name: connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in tables}
    return schema_of(url), rows


def test_upgrade_keeps_every_row(kept_url, old):
    assert upgrade(kept_url) == "0001"
    new = rows_of(raw_engine(kept_url))
    assert new["registry_alembic_version"] == [{"version_num": HEAD}]
    for table in old.keys() - {"registry_alembic_version"}:
        gone = {"evaluation", "params"} if table == "versions" else set()
        kept_keys = [key for key in old[table][0] if key not in gone]
        assert [{key: row[key] for key in kept_keys} for row in new[table]] == [
            {key: row[key] for key in kept_keys} for row in old[table]
        ]
    with contextlib.closing(Database(kept_url)) as database, database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM versions").scalar_one() == 5


def test_upgrade_moves_documents_into_tables(upgraded_url, old):
    new = rows_of(raw_engine(upgraded_url))
    assert [row["report"] for row in new["evaluations"]] == [
        row["evaluation"] for row in old["versions"]
    ]
    assert all(row["passed"] for row in new["evaluations"])
    for evaluation, version in zip(new["evaluations"], old["versions"], strict=True):
        assert evaluation["version_id"] == version["id"]
        assert (evaluation["at"], evaluation["actor"]) == (
            version["created_at"],
            version["created_by"],
        )
    made_with = {row["id"]: row["params_id"] for row in new["versions"]}
    documents = {row["id"]: row["document"] for row in new["params"]}
    assert [documents[made_with[row["id"]]] for row in old["versions"]] == [
        row["params"] for row in old["versions"]
    ]
    assert len({row["sha256"] for row in new["params"]}) == len(documents) < len(old["versions"])
    assert all(row["sha256"] == sha256_of(row["document"]) for row in new["params"])
    values = new["param_values"]
    params = {row["key"]: row["value"] for row in values if row["params_id"] == made_with[2]}
    assert params == {
        "prepare.source.labels": '["größer","kleiner"]',
        "seed": "2",
        "train.amp": "false",
        "train.architecture.name": "mlp",
        "train.architecture.widths": "[64,32]",
        "train.epochs": "3",
        "train.optimizer.learning_rate": "0.001",
        "train.optimizer.name": "adam",
        "train.resume": "null",
    }


def test_upgrade_adds_a_blob_per_file_and_a_uid_per_version(upgraded_url, old):
    new = rows_of(raw_engine(upgraded_url))
    files = {(row["sha256"], row["size"]) for row in old["version_artifacts"]}
    assert sorted((row["sha256"], row["size"]) for row in new["blobs"]) == sorted(files)
    newest = max(row["created_at"] for row in old["versions"])
    assert all(row["touched"] > newest and row["purged_at"] is None for row in new["blobs"])
    assert len({row["uid"] for row in new["versions"]}) == 5
    assert {len(row["uid"]) for row in new["versions"]} == {32}


def test_upgrade_approves_champions_by_their_last_promoter(upgraded_url, old):
    new = rows_of(raw_engine(upgraded_url))
    promoted = {row["id"]: row["at"] for row in old["events"]}
    reason = "champion before approvals were recorded"
    keys = ("version_id", "evaluation_id", "approver", "reason", "at")
    assert [tuple(row[key] for key in keys) for row in new["approvals"]] == [
        (2, 2, "bo", reason, promoted[6]),
        (5, 5, "ed", reason, promoted[12]),
    ]
    states = [
        (row["version_id"], row["status"], row["approval_id"]) for row in new["version_state"]
    ]
    assert states == [
        (1, "candidate", None),
        (2, "approved", 1),
        (3, "candidate", None),
        (4, "candidate", None),
        (5, "approved", 2),
    ]
    assert [(row["alias"], row["version"], row["status"]) for row in new["aliases"]] == [
        ("champion", 2, "approved"),
        ("staging", 3, "candidate"),
        ("champion", 2, "approved"),
        ("previous", 1, "candidate"),
    ]


def test_upgrade_approves_a_champion_without_an_event_by_its_trainer(kept_url, old):
    execute(
        kept_url,
        "DROP TRIGGER IF EXISTS events_refuses_delete"
        + (" ON events" if kept_url.startswith("postgresql") else ""),
        "DELETE FROM events WHERE kind = 'promoted'",
    )
    upgrade(kept_url)
    approvals = fetch(kept_url, "SELECT version_id, approver, at FROM approvals ORDER BY id")
    created = {row["id"]: row["created_at"] for row in old["versions"]}
    assert approvals == [(2, "ada", created[2]), (5, "cy", created[5])]


def test_upgrade_chains_the_events_of_each_model(upgraded_url):
    new = rows_of(raw_engine(upgraded_url))
    heads = {row["id"]: NO_EVENT for row in new["models"]}
    names = {row["id"]: row["name"] for row in new["models"]}
    for row in new["events"]:
        model = row.pop("model_id")
        said, _ = row.pop("hash"), row.pop("id")
        assert row["prev_hash"] == heads[model]
        canonical = rfc8785.dumps({"model": names[model], **row})
        assert said == hashlib.sha256(canonical).hexdigest()
        heads[model] = said
    assert heads == {row["id"]: row["last_event"] for row in new["models"]}
    assert NO_EVENT not in heads.values()


def test_upgraded_schema_equals_one_made_by_all_revisions(upgraded_url, make_database):
    fresh = make_database()
    create_by_all_revisions(fresh)
    assert schema_of(upgraded_url) == schema_of(fresh)
    assert upgrade(upgraded_url) == HEAD
    assert schema_of(upgraded_url) == schema_of(fresh)


def test_upgraded_registry_numbers_rows_after_the_highest_id(upgraded_url):
    new = (
        "models (name, last_version, created_at) VALUES ('new', 0, 0)",
        "evaluations (version_id, passed, report, at, actor) VALUES (1, false, '{}', 0, 'ada')",
        f"params (sha256, document) VALUES ('{'a' * 64}', '{{}}')",
        "events (model_id, at, actor, kind, payload, prev_hash, hash) "
        f"VALUES (4, 0, 'ada', 'made', '{{}}', '{NO_EVENT}', '{'a' * 64}')",
    )
    with unguarded(upgraded_url) as connection:
        for row in new:
            connection.exec_driver_sql(f"INSERT INTO {row}")
    for table, highest in (("models", 4), ("params", 5), ("evaluations", 6), ("events", 15)):
        assert fetch(upgraded_url, f"SELECT max(id) FROM {table}") == [(highest,)]


def test_older_schema_is_refused_until_upgrade(kept_url):
    before = state_of(kept_url)
    with pytest.raises(SchemaMismatch, match=r"has schema 0001, .*Run `modelmint models upgrade`"):
        Database(kept_url)
    assert state_of(kept_url) == before


def test_upgrade_refuses_a_champion_whose_evaluation_failed(kept_url):
    failed = json.dumps({"passed": False})
    execute(
        kept_url,
        "DROP TRIGGER IF EXISTS versions_refuses_update"
        + (" ON versions" if kept_url.startswith("postgresql") else ""),
        f"UPDATE versions SET evaluation = '{failed}' WHERE id = 5",
    )
    before = state_of(kept_url)
    with pytest.raises(SchemaMismatch, match=r"words:2 is the champion, but .*was not changed"):
        upgrade(kept_url)
    assert state_of(kept_url) == before


def test_upgrade_refuses_an_event_that_cannot_be_hashed(kept_url):
    execute(
        kept_url,
        "INSERT INTO events (id, model_id, at, actor, kind, payload) "
        f"VALUES (99, 3, 0, 'cy', 'refused', '{{\"rows\": {2**60}}}')",
    )
    before = state_of(kept_url)
    with pytest.raises(SchemaMismatch, match="event 99 of model 'drafts' has no canonical JSON"):
        upgrade(kept_url)
    assert state_of(kept_url) == before


@pytest.mark.parametrize("begins", ["empty", "kept"])
def test_failed_upgrade_changes_nothing(database_url, begins):
    if begins == "kept":
        fill_with_kept(database_url)
    before = state_of(database_url)
    change = create if begins == "empty" else upgrade
    # Not every one: each takes as long as all before it. With 3 it stops between any two tables.
    for step in itertools.count(0, usual(7 if begins == "empty" else 19, 3)):
        try:
            with before_each_step(raise_at(step)):
                change(database_url)
            break  # it has no step of this number left
        except Stopped as stopped:
            assert state_of(database_url) == before
            if begins == "empty" and "DROP TABLE" in str(stopped):
                break  # the steps of the later revisions are the kept database's
    assert step > (15 if begins == "empty" else 50)
    change(database_url)
    assert fetch(database_url, "SELECT version_num FROM registry_alembic_version") == [(HEAD,)]


class Stopped(Exception):
    """Raised in the middle of a migration."""


def raise_at(step: int) -> Callable[[int, str], None]:
    def react(done: int, statement: str) -> None:
        if done == step:
            raise Stopped(statement)

    return react


@pytest.mark.parametrize("step", usual([30], [10, 30, 50]))
def test_killed_upgrade_changes_nothing(kept_url, step):
    before = state_of(kept_url)
    child = fork_context().Process(target=upgrade_until_killed, args=(kept_url, step))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert state_of(kept_url) == before
    assert upgrade(kept_url) == "0001"


def upgrade_until_killed(url: str, step: int) -> None:
    with before_each_step(lambda done, _: done == step and os.kill(os.getpid(), signal.SIGKILL)):
        upgrade(url)


def test_concurrent_upgrades_run_once(kept_url):
    before = in_processes(8, upgrade_in_process, kept_url)
    assert sorted(before) == ["0001", *[HEAD] * 7]
    assert len(fetch(kept_url, "SELECT id FROM versions")) == 5


def upgrade_in_process(_index: int, url: str) -> str | None:
    return upgrade(url)


def test_upgrade_adds_parent_uids_and_keep_holders(
    make_database,
):
    url = make_database()
    engine = raw_engine(url)
    with engine.connect() as connection:
        _run_alembic(connection, MIGRATIONS, url, "0003")
        connection.commit()
    rows = [
        "INSERT INTO models (id, name, last_version, created_at, keep_last) "
        "VALUES (1, 'a', 3, 0, 5)",
        f"INSERT INTO params (id, sha256, document) VALUES (1, '{'a' * 64}', '{{}}')",
        *(
            "INSERT INTO versions (id, uid, model_id, version, digest, dataset, test_split, "
            "signature, params_id, libraries, git_dirty, parent_id, created_at, created_by) VALUES "
            f"({n}, '{str(n) * 32}', 1, {n}, '{str(n) * 64}', 'd', 's', '{{}}', 1, '{{}}', false, "
            f"{parent}, 0, 'ada')"
            for n, parent in [(1, "NULL"), (2, "1"), (3, "NULL")]
        ),
        *(
            "INSERT INTO events (model_id, at, actor, kind, version, payload, prev_hash, hash) "
            f"VALUES (1, 0, 'ada', '{kind}', {n}, '{json.dumps(payload)}', '{str(n) * 64}', "
            f"'{chr(96 + n) * 64}')"
            for n, kind, payload in [
                (1, "registered", {}),
                (2, "imported", {"parent": {"version": "x:1", "uid": "f" * 32}}),
                (3, "imported", {"parent": {"version": "y:1", "uid": "e" * 32}}),
            ]
        ),
    ]
    with raw(url) as connection:
        for statement in rows:
            connection.exec_driver_sql(statement)
    assert upgrade(url) == "0003"
    found = fetch(url, "SELECT version, parent_uid FROM versions ORDER BY version")
    assert found == [(1, None), (2, "1" * 32), (3, "e" * 32)]
    assert fetch(url, "SELECT keep_last, keep_holders FROM models") == [(5, 2)]


def test_jobs_of_the_release_before_are_kept_and_say_nothing_of_rows_in_quarantine(make_database):
    url = make_database()
    with raw_engine(url).connect() as connection:
        _run_alembic(connection, MIGRATIONS, url, "0004")
        connection.commit()
    columns = "id, version_id, reference, state, input_sha256, output, rows, started_at"
    statements = (
        "INSERT INTO models (id, name, last_version, created_at) VALUES (1, 'a', 2, 0)",
        f"INSERT INTO params (id, sha256, document) VALUES (1, '{'a' * 64}', '{{}}')",
        *(
            "INSERT INTO versions (id, uid, model_id, version, digest, dataset, test_split, "
            "signature, params_id, libraries, git_dirty, created_at, created_by, parent_uid) "
            f"VALUES ({n}, '{n:032}', 1, {n}, '{n:064}', 'd', 's', '{{}}', 1, '{{}}', false, 0, "
            f"'ada', {parent})"
            for n, parent in [(1, "NULL"), (2, f"'{1:032}'")]
        ),
        f"INSERT INTO jobs ({columns}) VALUES "
        f"('j', 1, 'a:1', 'completed', '{'1' * 64}', '/out', 7, 1), "
        f"('k', 2, 'a:2', 'running', '{'2' * 64}', '/out/2', NULL, 2)",
    )
    with raw(url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    assert upgrade(url) == "0004"
    assert fetch(url, f"SELECT {columns}, quarantined FROM jobs ORDER BY id") == [
        ("j", 1, "a:1", "completed", "1" * 64, "/out", 7, 1, None),
        ("k", 2, "a:2", "running", "2" * 64, "/out/2", None, 2, None),
    ]
    assert fetch(url, "SELECT id FROM job_inputs") == []
    assert fetch(url, "SELECT id, parent_uid FROM versions ORDER BY id") == [
        (1, None),
        (2, f"{1:032}"),
    ]


def test_jobs_of_the_release_before_say_nothing_of_drift_and_running_ones_end_with_it(
    make_database, tmp_path
):
    url = make_database()
    with raw_engine(url).connect() as connection:
        _run_alembic(connection, MIGRATIONS, url, "0005")
        connection.commit()
    with raw(url) as connection:
        for statement in (
            "INSERT INTO models (id, name, last_version, created_at) VALUES (1, 'a', 1, 0)",
            f"INSERT INTO params (id, sha256, document) VALUES (1, '{'a' * 64}', '{{}}')",
            "INSERT INTO versions (id, uid, model_id, version, digest, dataset, test_split, "
            "signature, params_id, libraries, git_dirty, created_at, created_by) VALUES "
            f"(1, '{1:032}', 1, 1, '{1:064}', 'd', 's', '{{}}', 1, '{{}}', false, 0, 'ada')",
            "INSERT INTO jobs (id, version_id, reference, state, input_sha256, output, started_at) "
            f"VALUES ('j', 1, 'a:1', 'lost', '{'1' * 64}', '/out', 1), "
            f"('k', 1, 'a:1', 'running', '{'2' * 64}', '/out/2', 2)",
        ):
            connection.exec_driver_sql(statement)
    assert upgrade(url) == "0005"
    with Registry(url, tmp_path / "artifacts") as registry:
        assert [job.drift for job in registry.jobs()] == [None, None]
        ran = {"rows": 1, "provider": "CPU", "onnxruntime": "1.31"}
        registry.finish_job(registry.job("k"), **ran, drift=drift_document())
        assert registry.job("k").drift == drift_document()
