"""`verify` reads one snapshot, checks every column, and names what was edited."""

import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
from amounts import usual
from databases import raw, raw_engine, unguarded
from registry_helpers import (
    LINEAGE,
    drift_document,
    fill_place,
    make_candidate,
    promote,
    register_versions,
)
from sqlalchemy import JSON, Boolean, Double, Integer
from sqlalchemy.exc import IntegrityError

from registry import Corrupt, JobInput, NotFound, Policy, schema
from registry.integrity import NOT_CHECKED, verify
from registry.upkeep import gc, purge

BY = {"actor": "bo", "reason": "why"}


def refs(registry, *args, **given):
    return {problem.ref for problem in verify(registry, *args, **given).problems}


@contextmanager
def lawless(url, table="%"):
    """The database without foreign keys and the triggers of a table, as its owner can write to it.

    By default without all triggers; on SQLite, making them again takes 50 ms.
    """
    if url.startswith("postgresql"):
        with unguarded(url) as connection:
            yield connection
        return
    with raw_engine(url).begin() as connection:  # foreign keys are off by default
        connection.connection.driver_connection.isolation_level = None
        connection.exec_driver_sql("PRAGMA ignore_check_constraints=ON")
        connection.exec_driver_sql("BEGIN")
        found = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name LIKE ?"
        triggers = connection.exec_driver_sql(found, (table,)).all()
        for name, _ in triggers:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        yield connection
        for _, sql in triggers:
            connection.exec_driver_sql(sql)


@pytest.fixture
def lived(place):
    """A registry with at least one row in every table."""
    return fill_place(place, live)


def live(place):
    with place.open() as registry:
        for number in range(1, 6):
            lineage = replace(
                LINEAGE,
                data={"data/raw/a.csv": "a" * 32},
                flow_run_id=f"run-{number}",
                parent="digits:1" if number == 2 else None,
            )
            candidate = make_candidate(
                place.folder / "bundle", f"model {number}", lineage=lineage, tags={"team": "risk"}
            )
            registry.register("digits", candidate, actor="ada", request_id=f"request-{number}")
        promote(registry, 1)
        promote(registry, 2, actor="bo")
        promote(registry, 3, "canary")
        registry.tag("digits", 2, "stage", "lab", actor="ada")
        registry.evaluate("digits", 2, {"passed": True, "again": 1}, actor="bo")
        registry.approve("digits", 2, **BY)
        registry.reject("digits", 4, **BY)
        registry.archive("digits", 5, **BY)
        rules = Policy(keep_last=3, keep_days=9, protected=("production",))
        registry.set_policy("digits", rules, actor="bo")
        assert purge(registry, actor="bo", dry_run=False)
        with lawless(place.url) as connection:
            connection.execute(
                schema.version_signatures.insert().values(
                    version_id=1, key_id="k", document="signed"
                )
            )
        sign_as_recorded(registry)
        for output in ("done", "failed", "lost", "lost"):
            resolved = registry.resolve("digits@canary")
            job = registry.start_job(
                resolved, input_sha256="1" * 64, output=output, flow_run_id="run"
            )
            if output == "done":
                found = {"rows": 3, "provider": "CPU", "onnxruntime": "1.31.0"}
                read = [JobInput("2" * 64, "a.csv", 3), JobInput("3" * 64, "b.csv", 1)]
                counted = {"x": {"filled": 1}}
                found |= {"substituted": counted, "drift": drift_document()}
                registry.finish_job(job, **found, quarantined=1, inputs=read)
            elif output == "failed":
                registry.fail_job(job, "no room")
        register_versions(place, 1, "churn")
        assert verify(registry).problems == []


def sign_as_recorded(registry):
    """Add the event of a signature that was inserted into its table before."""
    from registry.digests import seal_json
    from registry.queries import events, models

    with registry.database.write() as c:
        what = {"key": "k", "document": seal_json("signed")}
        events.add(c, models.lock(c, "digits"), "signed", "bo", version=1, payload=what)


def edited(column, value):
    """Another value of the same type."""
    if isinstance(column.type, Boolean):
        return not value
    if isinstance(column.type, Integer):
        return (value or 0) + 1
    if isinstance(column.type, Double):
        return value + 0.5
    if isinstance(column.type, JSON):
        return {**(value or {}), "edited": 1}
    if value and len(value) in (32, 64):
        return value[:-1] + ("0" if value[-1] != "0" else "1")
    return {"candidate": "rejected", "approved": "rejected", "running": "lost"}.get(
        value, f"{value or ''}x"
    )


COLUMNS = [
    (table.name, column.name)
    for table in schema.metadata.tables.values()
    for column in table.columns
]


@pytest.mark.whole  # 110 edits, 0.2 CPU seconds each
def test_verify_reports_an_edit_of_any_column_outside_not_checked(lived):
    """Edits each column as an owner who has switched all rules off."""
    # `verify` compares the same rows there: the columns say whether it reads them.
    columns = COLUMNS if lived.url.startswith("sqlite") else COLUMNS[:: usual(8, 1)]
    assert NOT_CHECKED.keys() <= set(COLUMNS)
    unreported = set()
    with lived.open() as registry:
        for name, column in columns:
            table = schema.metadata.tables[name]
            with raw(lived.url) as connection:
                rows = [dict(row) for row in connection.execute(table.select()).mappings()]
            assert rows, name
            row = next((row for row in rows if row[column] is not None), rows[0])
            changed = row | {column: edited(table.c[column], row[column])}
            try:
                rewrite(lived.url, table, [changed if one is row else one for one in rows])
            except IntegrityError:
                continue  # a key or a CHECK forbids it even then
            if not verify(registry).problems:
                unreported.add((name, column))
            rewrite(lived.url, table, rows)
        assert verify(registry).problems == []
    assert unreported <= NOT_CHECKED.keys()


def rewrite(url, table, rows):
    with lawless(url, table.name) as connection:
        connection.execute(table.delete())
        connection.execute(table.insert(), rows)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "UPDATE jobs SET rows = rows + 1 WHERE rows > 0",
            "have 4 rows, but it read 5",
        ),
        ("UPDATE jobs SET quarantined = NULL", "have 4 rows, but it read 3"),
        ("DELETE FROM job_inputs WHERE rows = 1", "have 3 rows, but it read 4"),
        (f"UPDATE job_inputs SET rows = {2**62}", "rows, but it read 4"),
        ("UPDATE jobs SET state = 'lost'", "it is lost, but input files"),
        ("UPDATE jobs SET quarantined = 1", "which its quarantined rows contradict"),
        ("UPDATE jobs SET drift = '{}'", "which its report of drift contradicts"),
    ],
)
def test_verify_reports_a_job_that_contradicts_itself(lived, statement, named):
    with lawless(lived.url) as connection:
        connection.exec_driver_sql(statement)
    with lived.open() as registry:
        found = verify(registry).problems
        assert all(problem.ref.startswith("job ") for problem in found)
        assert any(named in problem.what for problem in found), found


@pytest.mark.whole
def test_verify_reports_a_deleted_row_of_any_table(lived):
    with lived.open() as registry:
        for name, table in schema.metadata.tables.items():
            with raw(lived.url) as connection:
                rows = [dict(row) for row in connection.execute(table.select()).mappings()]
            # Of a job without input files nothing else knows.
            gone = next(row for row in rows if row.get("state") != "completed")
            with lawless(lived.url, name) as connection:
                connection.execute(table.delete())
                if rows[1:]:
                    connection.execute(table.insert(), [row for row in rows if row is not gone])
            assert (name == "jobs") == (verify(registry).problems == []), name
            rewrite(lived.url, table, rows)
        assert verify(registry).problems == []


# Beside others


@pytest.mark.whole
def test_verify_during_writes_reports_no_false_problem(place):
    """Registers, promotes, tags, archives and purges in a thread during `verify`."""
    register_versions(place, 2)
    failures, over = [], threading.Event()

    def write():
        try:
            with place.open() as registry:
                for number in range(3, 15):
                    candidate = make_candidate(place.folder / "other", f"model {number}")
                    registry.register("digits", candidate, actor="bo")
                    promote(registry, number)
                    registry.tag("digits", number, "stage", "lab", actor="bo")
                    registry.archive("digits", number - 1, **BY)
                    purge(registry, actor="bo", dry_run=False)
                    registry.register(f"new-{number}", candidate, actor="bo")
        except BaseException as error:
            failures.append(error)
        finally:
            over.set()

    writer = threading.Thread(target=write)
    with place.open() as registry:
        writer.start()
        while not over.is_set():
            assert verify(registry).problems == []
        writer.join()
        assert failures == verify(registry).problems == []


def test_verify_ignores_files_purged_after_it_read_the_rows(place):
    register_versions(place, 2)
    with place.open() as registry, place.open() as other:
        registry.archive("digits", 1, **BY)
        registry.archive("digits", 2, **BY)
        begun = []

        def purge_once(_so_far):  # it is called once the rows are read
            if not begun:
                begun.append(purge(other, actor="bo", dry_run=False))

        found = verify(registry, progress=purge_once)
        assert begun[0]
        assert found.problems == []


def test_verify_waits_for_an_uncommitted_purge(place):
    register_versions(place, 1)
    with place.open() as registry, place.open() as other:
        registry.archive("digits", 1, **BY)
        removed, remove, going_on = threading.Event(), other.files.remove, []

        def remove_slowly(path):
            remove(path)
            removed.set()
            threading.Event().wait(0.2)

        other.files.remove = remove_slowly

        def purge_once(_so_far):
            if not going_on:
                going_on.append(threading.Thread(target=purge, args=(other,), kwargs=PURGE))
                going_on[0].start()
                assert removed.wait(30)

        assert verify(registry, progress=purge_once).problems == []
        going_on[0].join()


PURGE = {"actor": "bo", "dry_run": False}


# What somebody edited


def write_stored(url, statement, *values):
    """Run a statement with values that the driver sends unchanged."""
    with lawless(url) as connection:
        mark = "?" if url.startswith("sqlite") else "%s"
        connection.exec_driver_sql(statement.replace("?", mark), values)


PAYLOADS = ["[1, 2]", "null", '"text"', "5", "{}", '{"key": ["list"]}', '{"evaluation": {}}']
ONLY_ON_SQLITE = ["xx", "", '{"a": 1e999}', "[" * 5_000]


@pytest.mark.whole  # 3 CPU seconds each
@pytest.mark.parametrize("kind", ["registered", "tagged", "policy", "purged", "approved"])
def test_verify_reports_a_malformed_payload(lived, kind):
    texts = [*PAYLOADS, *(ONLY_ON_SQLITE if lived.url.startswith("sqlite") else [])]
    if kind != "registered":  # that a payload is no object is found before its kind matters
        texts = usual(PAYLOADS[4:], texts)
    cast = "?" if lived.url.startswith("sqlite") else "CAST(? AS json)"
    with lived.open() as registry:
        first = next(e for e in reversed(registry.history("digits")) if e.kind == kind)
        for text in texts:
            if kind == "approved" and text == "{}":
                continue  # which it is
            write_stored(
                lived.url, f"UPDATE events SET payload = {cast} WHERE id = ?", text, first.id
            )
            assert f"digits, event {first.id} ({kind})" in refs(registry)
            history = registry.history("digits")
            shown = next(event for event in history if event.id == first.id)
            assert ("malformed" in shown.payload) == (not text.startswith("{") or "999" in text)
        registry.rollback("digits", **BY)  # which the payloads do not matter to


MALFORMED = {
    "a time out of range": ("UPDATE events SET at = 9000000000000000000 WHERE id = 1", True),
    "a time as a text": ("UPDATE events SET at = 'noon' WHERE id = 1", False),
    "a huge time": ("UPDATE events SET at = 1e30 WHERE id = 1", False),
    "an actor in no UTF-8": ("UPDATE events SET actor = CAST(x'ff' AS TEXT) WHERE id = 1", False),
    "a version's time out of range": (
        "UPDATE versions SET created_at = 9000000000000000000 WHERE id = 1",
        True,
    ),
    "a number as a text": ("UPDATE versions SET version = 'one' WHERE id = 1", False),
    "a signature of no JSON": ("UPDATE versions SET signature = 'xx' WHERE id = 1", False),
    "a signature that is a list": ("UPDATE versions SET signature = '[]' WHERE id = 1", True),
    "parameters of no JSON": ("UPDATE params SET document = '{' WHERE id = 1", False),
    "parameters that are null": ("UPDATE params SET document = 'null' WHERE id = 1", True),
    "a report of no JSON": ("UPDATE evaluations SET report = 'xx' WHERE id = 1", False),
    "a report that is a text": ("""UPDATE evaluations SET report = '"yes"' WHERE id = 1""", True),
    "a verdict as a text": ("UPDATE evaluations SET passed = 'maybe' WHERE id = 1", False),
    "a metric as a text": ("UPDATE version_metrics SET value = 'high'", False),
    "a size as a text": ("UPDATE version_artifacts SET size = 'big' WHERE version_id = 1", False),
    "a counter as a text": ("UPDATE models SET last_version = 'many'", False),
    "a counter far too high": ("UPDATE models SET last_version = 2000000000", True),
    "a revision as a text": ("UPDATE aliases SET revision = 'first'", False),
    "a head that is none": ("UPDATE models SET last_event = 'x'", True),
    "a state of a job": ("UPDATE jobs SET state = 'completed'", True),
    "a job's time as a text": ("UPDATE jobs SET started_at = 'noon'", False),
    "a job's alias revision": ("UPDATE jobs SET alias_revision = 99", True),
    "four eyes as a text": ("UPDATE models SET four_eyes = 'no'", False),
}


@pytest.mark.whole
def test_verify_reports_one_line_for_any_malformed_column(lived):
    with lived.open() as registry:
        for what, (statement, everywhere) in MALFORMED.items():
            table = schema.metadata.tables[statement.split()[1]]
            if not everywhere and lived.url.startswith("postgresql"):
                continue  # a column there keeps values of its type only
            with raw(lived.url) as connection:
                rows = [dict(row) for row in connection.execute(table.select()).mappings()]
            with lawless(lived.url, table.name) as connection:
                connection.exec_driver_sql(statement)
            problems = verify(registry).problems
            assert problems, what
            assert not any("\n" in problem.what for problem in problems), what
            if table is schema.events:
                assert len(registry.history("digits", limit=1000)) == len(rows) - 1
            rewrite(lived.url, table, rows)


def test_rollback_refuses_an_edited_history(lived):
    edits = ["version = NULL", "kind = 'rolled back'", "kind = 'rolled back', version = 4"]
    with lived.open() as registry:
        event = next(
            e.id for e in registry.history("digits") if e.kind == "promoted" and e.previous
        )
        for edit in edits:
            with lawless(lived.url) as connection:
                connection.exec_driver_sql(f"UPDATE events SET {edit} WHERE id = {event}")
            said = rf"by its history it |event {event} .*does not follow"
            with pytest.raises(Corrupt, match=said):
                registry.rollback("digits", **BY)


def test_verify_reports_an_evaluation_without_an_event(place):
    with place.open() as registry:
        imported = make_candidate(place.folder / "bundle", evaluation={})
        registry.admit("digits", imported, "imported", actor="ada")
        with lawless(place.url) as connection:
            connection.execute(
                schema.evaluations.insert().values(
                    version_id=1, passed=True, report={"passed": True}, at=1, actor="eve"
                )
            )
        promote(registry, 1)
        found = {problem.ref: problem.what for problem in verify(registry).problems}
        assert found == {"digits:1": "an evaluation of it was edited, added or removed"}


def test_verify_reports_rows_of_a_model_replaced_by_sql(lived):
    """INSERT OR REPLACE deletes a row of that name; in a shell, foreign keys are off."""
    with lawless(lived.url) as connection:
        connection.exec_driver_sql("DELETE FROM models WHERE name = 'digits'")
        connection.exec_driver_sql(
            "INSERT INTO models (id, name, last_version, created_at) VALUES (9, 'digits', 0, 1)"
        )
    with lived.open() as registry:
        tables = {ref.split(",")[0] for ref in refs(registry)}
        assert {"table versions", "table events"} <= tables


def test_verify_reports_parameters_without_a_version(place):
    register_versions(place, 1)
    everything = [t for t in reversed(schema.metadata.sorted_tables) if t.name != "registry"]
    kept = {"params", "param_values", "blobs"}
    with lawless(place.url) as connection:
        for table in everything:
            if table.name not in kept:
                connection.execute(table.delete())
    with place.open() as registry:
        # Rows of files alone do not vouch for the files.
        assert refs(registry) == {"table params, id 1", "the store"}


# What the database refuses


def switched_off(url):
    """Statements with which an owner removes rules, and the expected problems."""
    if url.startswith("sqlite"):
        return {
            "DROP TRIGGER events_refuses_update": "trigger events_refuses_update is gone",
            "CREATE TRIGGER own AFTER INSERT ON events BEGIN SELECT 1; END": "trigger own is not",
            "DROP INDEX ix_jobs_running": "index ix_jobs_running is gone",
        }
    return {
        "DROP TRIGGER events_refuses_update ON events": "trigger events_refuses_update is gone",
        "ALTER TABLE models DISABLE TRIGGER models_refuses_delete": (
            "models_refuses_delete on models is switched off"
        ),
        "ALTER TABLE versions DISABLE TRIGGER ALL": "fk_versions_model_id_models on versions",
        "CREATE OR REPLACE FUNCTION rule_versions_are_gapless() RETURNS trigger LANGUAGE plpgsql "
        "AS $$ BEGIN RETURN NEW; END $$": "function rule_versions_are_gapless",
        "ALTER TABLE aliases DROP CONSTRAINT ck_aliases_archived": "check ck_aliases_archived",
        "ALTER TABLE approvals DROP CONSTRAINT fk_approvals_version_id_versions": (
            "foreign key fk_approvals_version_id_versions is gone"
        ),
        "ALTER TABLE events DROP CONSTRAINT uq_events_hash": "unique key uq_events_hash is gone",
        "DROP INDEX ix_jobs_running": "index ix_jobs_running is gone",
        "ALTER TABLE models ALTER name DROP NOT NULL": "its columns are not those",
    }


def test_verify_reports_missing_triggers_and_constraints(place):
    register_versions(place, 1)
    with place.open() as registry:
        for statement, named in switched_off(place.url).items():
            before = {problem.what for problem in verify(registry).problems}
            with raw(place.url) as connection:
                connection.exec_driver_sql(statement)
            found = {problem.what for problem in verify(registry).problems} - before
            assert any(named in what for what in found), (statement, found)


def test_verify_reports_a_table_recreated_without_constraints(lived):
    """As a SQLite tool does that copies a table without constraints and renames it."""
    with lawless(lived.url) as connection:
        connection.exec_driver_sql("CREATE TABLE copy AS SELECT * FROM aliases")
        connection.exec_driver_sql("DROP TABLE aliases")
        connection.exec_driver_sql("ALTER TABLE copy RENAME TO aliases")
    with lived.open() as registry:
        found = [p.what for p in verify(registry).problems if p.ref == "table aliases"]
        for named in ("ck_aliases_champion is gone", "primary key", "foreign key", "index"):
            assert any(named in what for what in found), found


# The store


def test_verify_reports_an_empty_or_older_database_with_a_full_store(place):
    register_versions(place, 1)
    with place.open() as registry:
        tables = {
            table: [dict(row) for row in registry_rows(place.url, table)]
            for table in schema.metadata.sorted_tables
        }
    register_versions(place, 6)
    for older in (True, False):
        with lawless(place.url) as connection:
            for table in reversed(schema.metadata.sorted_tables):
                if table is not schema.registry:
                    connection.execute(table.delete())
            for table, rows in tables.items() if older else ():
                if table is not schema.registry and rows:
                    connection.execute(table.insert(), rows)
        with place.open() as registry:
            (problem,) = verify(registry).problems
            assert problem.ref == "the store"
            expected = "no killed registration left (5)" if older else "knows none of the 8 files"
            assert expected in problem.what


def registry_rows(url, table):
    with raw(url) as connection:
        return connection.execute(table.select()).mappings().all()


def test_verify_counts_files_of_killed_registrations_without_a_problem(place):
    register_versions(place, 1)
    with place.open() as registry:
        source = place.folder / "stray"
        source.write_text("of no version")
        staged = registry.files.stage(source)
        registry.files.note([staged.sha256])
        registry.files.publish(staged)
        found = verify(registry)
        assert (found.problems, found.unknown) == ([], 1)
        gc(registry, dry_run=False, grace_s=0)
        assert verify(registry).unknown == 0


# A part of it


def test_verify_since_checks_only_what_later_events_touched(lived):
    with lived.open() as registry:
        since = verify(registry).newest
        found = verify(registry, since=since)
        assert (found.problems, found.versions, found.files, found.events) == ([], 0, 0, 0)
        promote(registry, 3)
        found = verify(registry, since=since)
        # Number 3 was approved and promoted, 2 was champion before.
        assert (found.problems, found.versions, found.events) == ([], 2, 2)
        assert f"events up to {since}" in found.not_looked_at[0]
        with lawless(lived.url) as connection:
            connection.exec_driver_sql("UPDATE versions SET created_by = 'eve' WHERE version = 4")
        assert refs(registry, since=since) == set()
        assert "digits:4" in refs(registry)
        with lawless(lived.url) as connection:
            connection.exec_driver_sql("UPDATE versions SET dataset = 'eve' WHERE version = 3")
            connection.exec_driver_sql("DELETE FROM aliases WHERE alias = 'canary'")
        assert refs(registry, since=since) == {"digits:3", "digits@canary"}
        with lawless(lived.url) as connection:
            newest = f"SELECT max(id) FROM events WHERE model_id = 1 AND id <= {since}"
            connection.exec_driver_sql(
                f"UPDATE events SET hash = '{'5' * 64}' WHERE id = ({newest})"
            )
        assert any("does not follow" in p.what for p in verify(registry, since=since).problems)
        with pytest.raises(NotFound, match=r"no event 999\. The newest is \d+"):
            verify(registry, since=999)


@pytest.mark.whole
def test_verify_with_helper_processes_finds_the_same_problems(lived, monkeypatch):
    monkeypatch.setattr("registry.integrity.helpers._WORTH_IT", 0)
    with lived.open() as registry:
        assert verify(registry).problems == []
        with lawless(lived.url) as connection:
            connection.exec_driver_sql("UPDATE versions SET created_by = 'eve' WHERE version = 4")
            connection.exec_driver_sql("UPDATE events SET actor = 'eve' WHERE id = 3")
        assert refs(registry) == {"digits, event 3 (registered)", "digits:4"}
