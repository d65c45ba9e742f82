"""History: who did what, when and why; past states; and what `verify` reports after edits."""

import random
import time
from dataclasses import replace

import pytest
from databases import fetch, raw, unguarded
from registry_helpers import (
    LINEAGE,
    fill_place,
    make_candidate,
    numbers,
    promote,
    register_versions,
)

from registry import Corrupt, NotFound, Policy, Refused, schema
from registry.display import describing
from registry.display.comparing import Change, compare
from registry.display.describing import kind_of
from registry.integrity import verify
from registry.queries.events import hash_of
from registry.values import SHA256
from registry.web.lineage import draw

# What was


def test_alias_at_returns_the_champion_at_any_time(place):
    register_versions(place, 5)
    chance, model, then = random.Random(3), {}, []
    with place.open() as registry:
        assert registry.alias_at("digits", "champion", registry.history("digits")[0].at) is None
        for _ in range(100):
            alias = chance.choice(["champion", "canary"])
            move = chance.choice(["promote", "promote", "promote", "unset"])
            if move == "promote":
                version = chance.randint(1, 5)
                promote(registry, version, alias)
                model[alias] = version
            elif model.pop(alias, None):
                registry.unset("digits", alias, actor="bo", reason="enough")
            then.append((registry.history("digits", limit=1)[0].at, dict(model)))
            time.sleep(0.0001)  # a moment that no other move was made at
        for when, held in then:
            for alias in ("champion", "canary"):
                assert registry.alias_at("digits", alias, when) == held.get(alias)
        with pytest.raises(NotFound, match="Did you mean 'digits'"):
            registry.alias_at("digit", "champion", then[0][0])


def test_each_change_is_one_event_with_actor_and_reason(place):
    register_versions(place, 2)
    with place.open() as registry:
        by = {"actor": "bo", "reason": "why"}
        registry.reject("digits", 2, **by)
        registry.approve("digits", 2, **by)
        registry.archive("digits", 2, **by)
        registry.unarchive("digits", 2, **by)
        registry.evaluate("digits", 2, {"passed": False}, actor="bo")
        registry.tag("digits", 2, "stage", "lab", actor="bo")
        registry.set_policy("digits", Policy(keep_last=3), actor="bo")
        changes = registry.history("digits")[:7]
        kinds = ["policy", "tagged", "evaluated", "unarchived", "archived", "approved", "rejected"]
        assert [event.kind for event in changes] == kinds
        assert {event.actor for event in changes} == {"bo"}
        assert [event.reason for event in changes[3:]] == ["why"] * 4
        assert changes[1].payload == {"key": "stage", "value": "lab"}
        assert registry.history("digits", version=1)[0].kind == "registered"
        older = registry.history("digits", before=changes[-1].id)
        assert [event.version for event in older] == [2, 1]
        assert registry.history("digits", limit=7) == changes


def test_an_approval_that_only_came_with_a_promotion_is_called_that(place):
    register_versions(place, 2)
    with place.open() as registry:
        by = {"actor": "bo", "reason": "why"}
        registry.promote("digits", 1, expect_revision=None, **by)
        registry.approve("digits", 2, **by)
        registry.promote("digits", 2, expect_revision=None, **by)
        told = [kind_of(event) for event in registry.history("digits", limit=4)]
        assert told == ["promoted", "approved", "promoted", "approved by promotion"]


def test_refused_change_leaves_no_event(place):
    register_versions(place, 1)
    with place.open() as registry:
        promote(registry, 1)
        before = registry.history("digits")
        for change in (registry.archive, registry.reject, registry.unarchive):
            with pytest.raises(Refused, match=r"archived|champion"):
                change("digits", 1, actor="ada", reason="no")
        assert registry.history("digits") == before
        assert verify(registry).problems == []


# Lineage


def test_trace_leads_to_data_and_predictions(place):
    data = {"data/raw/a.csv": "a" * 32, "data/raw/b.csv": "b" * 32}
    with place.open() as registry:
        lineage = replace(LINEAGE, data=data, flow_run_id="run-7")
        registry.register("digits", make_candidate(place.folder, lineage=lineage), actor="ada")
        lineage = replace(lineage, dataset="f" * 32 + ".dir", parent="digits:1")
        lineage.data["data/raw/b.csv"] = "c" * 32  # one row was changed
        child = make_candidate(place.folder, "child", lineage=lineage)
        registry.register("digits", child, actor="ada")
        resolved = registry.resolve("digits:1")
        job = registry.start_job(resolved, input_sha256="1" * 64, output="/out")

        trace = registry.trace("digits:1")
        assert trace.version.lineage.data == data | {"data/raw/b.csv": "b" * 32}
        assert (trace.version.lineage.flow_run_id, trace.version.lineage.git_commit) == (
            "run-7",
            "c" * 40,
        )
        assert (trace.children, trace.jobs) == (("digits:2",), (job,))
        assert registry.trace("digits:2").version.lineage.parent == "digits:1"

        def built_on(md5):
            found = registry.trace_data(md5)
            return [summary.ref for summary in found.versions], found.jobs

        assert built_on("a" * 32) == (["digits:2", "digits:1"], (job,))
        assert built_on("b" * 32) == (["digits:1"], (job,))
        assert built_on("c" * 32) == built_on("f" * 32) == (["digits:2"], ())
        assert built_on("9" * 32) == ([], ())


def test_a_file_of_weights_is_shown_and_traced_like_a_parent(place):
    weights, data = "weights/own.safetensors", {"data/raw/a.csv": "a" * 32}
    with place.open() as registry:
        for number, sha256 in enumerate(("e" * 64, "f" * 64), start=1):
            lineage = replace(LINEAGE, data=data | {weights: f"{SHA256}{sha256}"})
            own = make_candidate(place.folder, f"model {number}", lineage=lineage)
            registry.register("digits", own, actor="ada")
        first, second = (registry.resolve(f"digits:{number}").version for number in (1, 2))
        assert first.lineage.weights == {weights: "e" * 64}
        shown = [line for line in describing.origin(first) if line[0].startswith(("data", "start"))]
        assert shown == [
            ("data data/raw/a.csv", "dvc:" + "a" * 32),
            ("dataset", f"dvc:{LINEAGE.dataset}"),
            ("started from", f"{weights}  sha256:{'e' * 64}"),
        ]
        files, sources, *_ = draw(registry.trace("digits:1"))
        assert [box.title for box in files.boxes] == ["data/raw/a.csv"]
        box = sources.boxes[-1]
        assert (box.kind, box.title, box.detail) == ("weights file", weights, "its weights")
        assert (box.hash, box.href) == ("e" * 64, f"/trace?hash={'e' * 64}")
        changed = [c for c in compare(first, second).origin if c.key == weights]
        assert changed == [Change(weights, "e" * 64, "f" * 64, is_hash=True)]
        for asked in ("e" * 64, "sha256:" + "e" * 64):
            assert [v.ref for v in registry.trace_data(asked).versions] == ["digits:1"]
            assert numbers(registry.search("digits", [f"dataset={asked}"])) == [1]
        assert registry.trace_data("0" * 64).version_count == 0
        assert verify(registry).problems == []


# Those who change it


@pytest.fixture
def told(place):
    """A registry with a history; the events have the ids 1 to 7, the versions 1 to 3."""
    return fill_place(place, tell)


def tell(place):
    register_versions(place, 3)
    with place.open() as registry:
        promote(registry, 1)
        promote(registry, 2, "canary")
        registry.tag("digits", 3, "stage", "lab", actor="ada")
        assert [event.id for event in registry.history("digits")] == list(range(7, 0, -1))
        assert verify(registry).problems == []


FORGED = "UPDATE events SET actor = 'eve' WHERE id = "

TAMPERED = {
    "an event is edited": ([f"{FORGED} 3"], {"digits, event 3 (registered)": "was edited"}),
    "a time is edited": (
        ["UPDATE events SET at = at - 1 WHERE id = 5"],
        {"digits, event 5 (promoted)": "was edited"},
    ),
    "an event in the middle is gone": (
        ["DELETE FROM events WHERE id = 5"],
        {
            "digits, event 6 (promoted)": "does not follow the previous event",
            "digits@champion": "it is version 1, but by its history not set",
        },
    ),
    "the newest event is gone": (
        ["DELETE FROM events WHERE id = 7"],
        {
            "digits": "does not end with event",
            "digits:3": "its tag stage is 'lab', but by its history not set",
        },
    ),
    "the whole history is gone": (
        ["DELETE FROM events"],
        {
            "digits": "does not end with event",
            "digits:1": "it is approved, but by its history candidate",
            "digits:2": "its history does not know it",
            "digits:3": "its history does not know it",
            "digits@champion": "by its history not set",
            "digits@canary": "by its history not set",
        },
    ),
    "an alias is moved": (
        ["UPDATE aliases SET version = 3 WHERE alias = 'canary'"],
        {"digits@canary": "it is version 3, but by its history version 2"},
    ),
    "an alias is removed": (
        ["DELETE FROM aliases WHERE alias = 'champion'"],
        {"digits@champion": "it is not set, but by its history version 1"},
    ),
    "an alias is set": (
        ["INSERT INTO aliases VALUES (1, 'shadow', 3, 'candidate', 1)"],
        {"digits@shadow": "it is version 3, but by its history not set"},
    ),
    "a version's row is edited": (
        ["UPDATE versions SET created_by = 'eve' WHERE id = 2"],
        {"digits:2": "its row was edited"},
    ),
    "a version's dataset is edited": (
        ["UPDATE versions SET dataset = 'other' WHERE id = 3"],
        {"digits:3": "its row was edited"},
    ),
    "a metric is edited": (
        ["UPDATE version_metrics SET value = 1 WHERE version_id = 2 AND key = 'accuracy'"],
        {"digits:2": "its row was edited"},
    ),
    "a file of a version is swapped for another's": (
        [
            "UPDATE version_artifacts SET sha256 = (SELECT sha256 FROM version_artifacts "
            "WHERE version_id = 1 AND path = 'model.onnx'), size = 7 "
            "WHERE version_id = 2 AND path = 'model.onnx'"
        ],
        {"digits:2": "its files do not match digest"},
    ),
    "an evaluation is edited": (
        ["""UPDATE evaluations SET report = '{"passed":true}' WHERE version_id = 3"""],
        {"digits:3": "an evaluation of it was edited"},
    ),
    "an evaluation's verdict is edited": (
        ["UPDATE evaluations SET passed = false WHERE version_id = 3"],
        {"digits:3": "an evaluation of it was edited"},
    ),
    "an evaluation is added": (
        ["INSERT INTO evaluations VALUES (9, 3, true, '{\"passed\":true}', 0, 'eve')"],
        {"digits:3": "an evaluation of it was edited, added or removed"},
    ),
    "an approver is edited": (
        ["UPDATE approvals SET approver = 'eve' WHERE version_id = 1"],
        {"digits:1": "an approval of it was edited"},
    ),
    "a signature is added": (
        ["INSERT INTO version_signatures VALUES (2, 'key', 'document')"],
        {"digits:2": "a signature of it was edited, added or removed"},
    ),
    "a policy is edited": (
        ["UPDATE models SET keep_last = 1"],
        {"digits": "its policy is"},
    ),
    "a status is edited": (
        ["UPDATE version_state SET status = 'rejected' WHERE version_id = 3"],
        {"digits:3": "it is rejected, but by its history candidate"},
    ),
    "a version is gone": (
        [
            *(
                f"DELETE FROM {table} WHERE version_id = 3"
                for table in schema.metadata.tables
                if "version_id" in schema.metadata.tables[table].columns
            ),
            "DELETE FROM events WHERE version = 3",
            "DELETE FROM versions WHERE id = 3",
        ],
        {
            "digits, event 4 (approved)": "does not follow the previous event",
            "digits": "does not end with event",
            "digits:3": "it is gone",
        },
    ),
    "a version is added": (
        [
            "INSERT INTO versions (id, uid, model_id, version, digest, dataset, test_split, "
            "signature, params_id, libraries, git_dirty, created_at, created_by) "
            "SELECT 9, 'u', 1, 4, digest, 'x', 'x', signature, params_id, libraries, git_dirty, 0, "
            "'eve' FROM versions WHERE id = 3",
            "INSERT INTO version_state VALUES (9, 1, 4, 'candidate', NULL)",
        ],
        {"digits:4": "its history does not know it"},
    ),
}


@pytest.mark.whole  # 22 registries, 0.5 CPU seconds each
@pytest.mark.parametrize("what", TAMPERED)
def test_verify_names_changes_by_the_database_owner(told, what):
    statements, expected = TAMPERED[what]
    with unguarded(told.url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    with told.open() as registry:
        found = [(problem.ref, problem.what) for problem in verify(registry).problems]
        assert {ref for ref, _ in found} == expected.keys()
        for ref, says in expected.items():
            assert any(says in what for named, what in found if named == ref), found


def forge(url, event, actor):
    """Edit an event and recompute its hash, as somebody who has read our code could."""
    with unguarded(url) as connection, raw(url) as reader:
        here = schema.events.c.id == event
        row = reader.execute(schema.events.select().where(here)).one()
        fields = row._asdict() | {"actor": actor}
        made = hash_of("digits", fields)
        reader.rollback()
        connection.execute(schema.events.update().where(here).values(actor=actor, hash=made))


def test_verify_detects_an_edited_event_with_a_new_hash(told):
    forge(told.url, 3, "eve")
    with told.open() as registry:
        (problem,) = verify(registry).problems
        assert problem.ref == "digits, event 4 (approved)"
        assert "does not follow the previous event" in problem.what


def test_verify_detects_an_edited_newest_event_with_a_new_hash(told):
    forge(told.url, 7, "eve")
    with told.open() as registry:
        (problem,) = verify(registry).problems
        assert (problem.ref, problem.path) == ("digits", "")
        assert "does not end with event" in problem.what


def test_verify_detects_an_inserted_event(told):
    ((last,),) = fetch(told.url, "SELECT hash FROM events WHERE id = 7")
    event = f"9, 1, 0, 'eve', 'tagged', 3, NULL, NULL, NULL, '{{}}', '{last}', '{'5' * 64}'"
    with unguarded(told.url) as connection:
        connection.exec_driver_sql(f"INSERT INTO events VALUES ({event})")
    with told.open() as registry:
        found = {problem.ref: problem.what for problem in verify(registry).problems}
        assert "does not match its hash" in found["digits, event 9 (tagged)"]
        assert "does not end with event" in found["digits"]


def test_verify_can_check_a_single_model(told):
    register_versions(told, 1, "churn")
    with unguarded(told.url) as connection:
        connection.exec_driver_sql(f"{FORGED} 3")
    with told.open() as registry:
        assert verify(registry, "churn").problems == []
        assert len(verify(registry, "digits").problems) == len(verify(registry).problems) == 1
        with pytest.raises(NotFound, match="Did you mean 'digits'"):
            verify(registry, "digts")


# Bytes


def test_changed_byte_is_detected_before_use(told):
    with told.open() as registry:
        version = registry.resolve("digits:2").version
        path = registry.open(version)["model.onnx"]
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        with pytest.raises(Corrupt, match=r"digits:2 must not be used\. model\.onnx: .*changed"):
            registry.open(version)
        (problem,) = verify(registry).problems
        assert (problem.ref, problem.path) == ("digits:2", "model.onnx")
        register_versions(told, 3)  # the same bytes again: they are put back
        assert verify(registry).problems == []


def test_verify_reports_a_missing_file_for_each_version_that_needs_it(told):
    with told.open() as registry:
        registry.open(registry.resolve("digits:1").version)["card.md"].unlink()
        found = [(problem.ref, problem.path) for problem in verify(registry).problems]
        assert sorted(found) == [(f"digits:{number}", "card.md") for number in (1, 2, 3)]


def test_version_number_is_never_reused(told):
    with told.open() as registry:
        first = registry.resolve("digits:3").version
        registry.archive("digits", 3, actor="ada", reason="old")
        register_versions(told, 3)
        candidate = make_candidate(told.folder / "bundle", "other bytes")
        assert registry.register("digits", candidate, actor="ada").version.ref == "digits:4"
        same = registry.resolve("digits:3").version
        assert (same.digest, same.uid, same.created_at) == (
            first.digest,
            first.uid,
            first.created_at,
        )


# An alias that somebody moved or removed without the history, by SQL that the database takes

BY = {"actor": "bo", "reason": "why"}
EDITED_ALIASES = {
    "removed": "DELETE FROM aliases WHERE alias = 'champion'",
    "moved back": "UPDATE aliases SET version = 1 WHERE alias = 'champion'",
    "at another revision": "UPDATE aliases SET version = 1, revision = 9 WHERE alias = 'champion'",
}


@pytest.fixture
def championed(place):
    """Version 1 was champion, then version 2; version 3 is approved."""
    register_versions(place, 3)
    with place.open() as registry:
        for number in (1, 2):
            promote(registry, number)
        registry.approve("digits", 3, **BY)
    return place


@pytest.mark.whole
@pytest.mark.parametrize("how", EDITED_ALIASES)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_promote_repairs_an_alias_edited_by_sql(championed, how, version):
    with raw(championed.url) as connection:
        connection.exec_driver_sql(EDITED_ALIASES[how])
    with championed.open() as registry:
        assert "digits@champion" in {problem.ref for problem in verify(registry).problems}
        with pytest.raises(
            Corrupt, match=r"digits@champion .* by its history .* digits:2.*promote"
        ):
            registry.rollback("digits", **BY)
        moved = promote(registry, version)
        event = registry.history("digits", limit=1)[0]
        assert (moved.version, event.kind, event.version, event.previous) == (
            *(version, "promoted"),
            *(version, 2),
        )
        # A revision is never given twice.
        assert moved.revision == (10 if "revision" in how else 3)
        found = {problem.what for problem in verify(registry).problems}
        assert found == (
            {"its revision is 10, but it was moved 3 times"} if "revision" in how else set()
        )
        assert registry.rollback("digits", **BY).version == (1 if version == 2 else 2)


def test_unset_of_a_deleted_alias_adds_an_event(championed):
    with raw(championed.url) as connection:
        connection.exec_driver_sql(EDITED_ALIASES["removed"])
    with championed.open() as registry:
        registry.unset("digits", "champion", **BY)
        event = registry.history("digits", limit=1)[0]
        assert (event.kind, event.previous) == ("unset", 2)
        assert verify(registry).problems == []
        for move in (registry.unset, registry.rollback):
            with pytest.raises(NotFound, match="no alias 'champion'"):
                move("digits", "champion", **BY)
