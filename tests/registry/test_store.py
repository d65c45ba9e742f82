"""Registering, promoting, resolving, history and jobs in one process."""

import math
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
from databases import fetch
from registry_helpers import (
    LINEAGE,
    drift_document,
    make_candidate,
    numbers,
    promote,
    register_versions,
    together,
)

import registry as package
from registry import (
    Alias,
    Conflict,
    InvalidCandidate,
    InvalidReference,
    NotFound,
    Policy,
    Reference,
    check_name,
    parse_reference,
)
from registry.integrity import verify
from registry.upkeep import gc


def test_registered_version_is_read_back_unchanged(place):
    candidate = make_candidate(place.folder / "bundle")
    with place.open() as registry:
        before = datetime.now(UTC)
        made = registry.register("digits", candidate, actor="ada")
        version = registry.resolve("digits:1").version
    assert made.created
    assert made.version == version
    assert version.ref == "digits:1"
    for field in ("signature", "metrics", "params", "evaluation", "lineage"):
        assert getattr(version, field) == getattr(candidate, field)
    assert [(a.path, a.identity) for a in version.artifacts] == [
        ("card.md", False),
        ("model.onnx", True),
        ("signature.json", True),
    ]
    assert version.created_by == "ada"
    assert timedelta(0) <= version.created_at - before < timedelta(seconds=10)


def test_register_twice_returns_the_same_version(place):
    with place.open() as registry:
        first = registry.register("digits", make_candidate(place.folder / "a"), actor="ada")
        again = make_candidate(place.folder / "b", metrics={"accuracy": 0.1})
        (place.folder / "b" / "card.md").write_text("written on another day")
        second = registry.register("digits", again, actor="bob")
        assert (first.created, second.created) == (True, False)
        assert second.version == first.version
        assert registry.model("digits").last_version == 1
        assert [event.kind for event in registry.history("digits")] == ["registered"]


def test_register_same_bytes_from_another_dataset_makes_a_version(place):
    other = replace(LINEAGE, dataset="f" * 32 + ".dir")
    with place.open() as registry:
        first = registry.register("digits", make_candidate(place.folder / "a"), actor="ada")
        second = registry.register(
            "digits", make_candidate(place.folder / "a", lineage=other), actor="ada"
        )
        assert second.created
        assert second.version.ref == "digits:2"
        assert second.version.digest == first.version.digest


def test_digest_covers_identity_files_only(place):
    with place.open() as registry:
        first = registry.register("a", make_candidate(place.folder / "a"), actor="ada").version
        other_card = make_candidate(place.folder / "b")
        other_card.files["card.md"].write_text("another card")
        second = registry.register("b", other_card, actor="ada").version
        third = registry.register("c", make_candidate(place.folder / "c", "!"), actor="ada").version
    assert first.digest == second.digest != third.digest


def test_equal_parameters_are_stored_once(place):
    whole, real = {"rate": 1, "layers": [1, 2]}, {"rate": 1.0, "layers": [1, 2]}
    with place.open() as registry:
        for number, params in enumerate((whole, real, whole, real, {}, {})):
            candidate = make_candidate(place.folder / "b", f"model {number}", params=params)
            registry.register("digits" if number % 3 else "letters", candidate, actor="ada")
            newest = registry.search(limit=1).versions[0]
            found = registry.resolve(newest.ref).version.params
            assert repr(found) == repr(params)
        assert numbers(registry.search("digits", ["param.rate=1.0"])) == [1]
        assert numbers(registry.search("digits", ["param.rate=1"])) == [2]
        assert verify(registry).problems == []
    assert fetch(place.url, "SELECT count(*) FROM params") == [(3,)]
    assert sorted(fetch(place.url, "SELECT key, value FROM param_values")) == [
        ("layers", "[1,2]"),
        ("layers", "[1,2]"),
        ("rate", "1"),
        ("rate", "1.0"),
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"identity": frozenset({"modle.onnx"})}, "Did you mean 'model.onnx'"),
        ({"identity": frozenset()}, "No file is marked as identity"),
        ({"metrics": {"f1": float("nan")}}, "Metric 'f1' is nan"),
    ],
)
def test_invalid_candidate_is_refused_before_any_write(place, changes, says):
    with place.open() as registry:
        with pytest.raises(InvalidCandidate, match=says):
            registry.register("digits", make_candidate(place.folder / "b", **changes), actor="ada")
        assert registry.models() == []
    assert not (place.folder / "artifacts").exists()


@pytest.mark.parametrize("value", [Path("x"), float("inf")])
def test_candidate_with_non_json_documents_is_refused(place, value):
    candidate = make_candidate(place.folder / "b", params={"path": value})
    with place.open() as registry:
        with pytest.raises(InvalidCandidate, match="params is not plain JSON"):
            registry.register("digits", candidate, actor="ada")
        assert registry.models() == []
        assert gc(registry, dry_run=True, grace_s=0) == []
    assert not [path for path in (place.folder / "artifacts").rglob("*") if path.is_file()]


def test_candidate_path_outside_the_bundle_is_refused(place):
    candidate = make_candidate(place.folder / "bundle")
    with place.open() as registry:
        for path in ("../model.onnx", "/model.onnx", "a//b", "./a", "a\\b", "", "."):
            files = {**candidate.files, path: candidate.files["card.md"]}
            with pytest.raises(InvalidCandidate, match="a path"):
                registry.register("digits", replace(candidate, files=files), actor="ada")


def test_candidate_with_a_missing_file_is_refused(place):
    candidate = make_candidate(place.folder / "bundle")
    candidate.files["model.onnx"].unlink()
    with place.open() as registry, pytest.raises(InvalidCandidate, match=r"model\.onnx"):
        registry.register("digits", candidate, actor="ada")


def test_promote_moves_the_alias_and_adds_an_event(place):
    register_versions(place, 2)
    with place.open() as registry:
        assert registry.alias("digits") is None
        first = promote(registry, 1, expect_revision=0)
        second = promote(registry, 2, expect_revision=1, reason="f1 rose")
        assert first == Alias("digits", "champion", 1, 1)
        assert second == registry.alias("digits") == Alias("digits", "champion", 2, 2)
        newest, approval, before = registry.history("digits")[:3]
        assert (newest.kind, newest.version, newest.previous) == ("promoted", 2, 1)
        assert (newest.alias, newest.actor, newest.reason) == ("champion", "ada", "f1 rose")
        assert (approval.kind, approval.version, approval.reason) == ("approved", 2, "f1 rose")
        assert (before.kind, before.version, before.previous) == ("promoted", 1, None)
        two, one = registry.search("digits").versions
        assert (two.aliases, one.aliases) == (("champion",), ())


def test_promote_with_an_outdated_revision_is_a_conflict(place):
    register_versions(place, 2)
    with place.open() as registry:
        with pytest.raises(Conflict, match="not set, but revision 3 was expected"):
            promote(registry, 1, expect_revision=3)
        promote(registry, 1)
        promote(registry, 2)
        promote(registry, 1)  # back at version 1, but no longer at revision 1
        with pytest.raises(Conflict, match=r"revision 3 \(version 1\), but revision 1"):
            promote(registry, 2, expect_revision=1)
        with pytest.raises(Conflict, match="revision 0 was expected"):
            promote(registry, 2, expect_revision=0)
        assert registry.alias("digits") == Alias("digits", "champion", 1, 3)


def test_promote_of_the_current_holder_changes_nothing(place):
    register_versions(place, 1)
    with place.open() as registry:
        held = promote(registry, 1)
        events = registry.history("digits")
        assert promote(registry, 1, expect_revision=1) == held
        assert registry.history("digits") == events


def test_refused_candidate_leaves_an_event_and_no_version(place):
    with place.open() as registry:
        candidate = make_candidate(place.folder, evaluation={"passed": False})
        event = registry.refuse("digits", candidate, actor="ada", reason="accuracy")
        assert registry.history("digits") == [event]
        assert (event.kind, event.version, event.reason) == ("refused", None, "accuracy")
        assert event.payload["evaluation"] == {"passed": False}
        assert len(event.payload["digest"]) == 64
        (model,) = registry.models()
        assert (model.name, model.last_version, model.policy) == ("digits", 0, Policy())


def test_a_refusal_that_is_repeated_by_another_run_is_recorded_once(place):
    measured = {"passed": False, "gates": [{"value": 0.25, "rows": 3}], "none": None}
    with place.open() as registry:

        def refuse(run, reason="accuracy", actor="ada", **changes):
            lineage = replace(LINEAGE, flow_run_id=run)
            given = {"evaluation": measured, "metrics": {"loss": math.nan}, **changes}
            candidate = make_candidate(place.folder / "b", lineage=lineage, **given)
            return registry.refuse("digits", candidate, actor=actor, reason=reason)

        first = refuse("run-1")
        registry.add_entry("digits", "retraining", {}, expect=0, text="again", actor="loop")
        assert refuse("run-2") == first
        assert refuse(None) == first
        changes = ({"reason": "f1"}, {"actor": "bob"}, {"model": "b"}, {"metrics": {"loss": 1.0}})
        others = [refuse("run-3", **change) for change in changes]
        others.append(refuse("run-4"))
        assert len({event.id for event in (first, *others)}) == 6
        registry.register("digits", make_candidate(place.folder / "good"), actor="ada")
        assert refuse("run-4").id not in {event.id for event in others}
        assert [e.kind for e in registry.history("digits")].count("refused") == 7


@pytest.mark.parametrize("evaluation", [{}, {"passed": False}, {"passed": "yes"}])
def test_register_refuses_a_candidate_whose_gate_failed(place, evaluation):
    with place.open() as registry:
        candidate = make_candidate(place.folder / "bundle", evaluation=evaluation)
        with pytest.raises(InvalidCandidate, match="does not say that it passed"):
            registry.register("digits", candidate, actor="ada")
        assert registry.models() == []
    assert not (place.folder / "artifacts").exists()


def test_register_again_with_another_card_leaves_no_stray_file(place):
    with place.open() as registry:
        registry.register("digits", make_candidate(place.folder / "bundle"), actor="ada")
        again = make_candidate(place.folder / "bundle")
        again.files["card.md"].write_text("# another card")
        assert not registry.register("digits", again, actor="ada").created
        assert gc(registry, dry_run=True) == []


def test_models_show_counts_and_aliases(place):
    register_versions(place, 2)
    register_versions(place, 1, name="churn")
    with place.open() as registry:
        held = promote(registry, 2)
        canary = promote(registry, 1, alias="canary")
        churn, digits = registry.models()
    assert (churn.name, churn.last_version, churn.aliases) == ("churn", 1, ())
    assert digits.last_version == 2
    assert digits.aliases == (canary, held)


def test_resolve_pins_version_and_revision(place):
    register_versions(place, 2)
    with place.open() as registry:
        promote(registry, 1)
        promote(registry, 2)
        bare = registry.resolve("digits")
        assert (bare.version.ref, bare.reference) == ("digits:2", "digits@champion")
        assert (bare.alias, bare.revision) == ("champion", 2)
        exact = registry.resolve("digits:1")
        assert (exact.version.ref, exact.reference) == ("digits:1", "digits:1")
        assert (exact.alias, exact.revision) == (None, None)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("digit", "no model 'digit'. Did you mean 'digits'"),
        (
            "digits@champoin",
            "Did you mean 'champion'. There is: champion. Name that, or a version: digits:1",
        ),
        ("digits:9", "no version 9. It has 1 to 2, digits:2 is the newest"),
    ],
)
def test_resolve_of_an_unknown_reference_suggests_a_close_match(place, reference, says):
    register_versions(place, 2)
    with place.open() as registry:
        promote(registry, 2)
        with pytest.raises(NotFound, match=says):
            registry.resolve(reference)


def test_an_alias_of_a_model_without_one_says_to_promote_a_version(place):
    register_versions(place, 1)
    told = pytest.raises(NotFound, match="Promote a version first, or name one: digits:1")
    with place.open() as registry, told:
        registry.resolve("digits@blue")


def test_unknown_model_suggests_a_close_match_in_every_method(place):
    register_versions(place, 1)
    with place.open() as registry:
        for ask in (registry.model, registry.search, registry.history, registry.jobs):
            with pytest.raises(NotFound, match="Did you mean 'digits'"):
                ask("digts")
        with pytest.raises(NotFound, match="Did you mean 'digits'"):
            registry.promote("digts", 1, expect_revision=None, actor="ada", reason="x")
        with pytest.raises(NotFound, match="no version 2"):
            promote(registry, 2)
        with pytest.raises(InvalidReference, match="cannot be an alias"):
            promote(registry, 1, alias="Champion")


def test_parse_reference_accepts_the_documented_forms():
    assert parse_reference("digits") == Reference("digits", "champion", None)
    assert parse_reference("digits@blue") == Reference("digits", "blue", None)
    assert parse_reference("a.b_c-9:12") == Reference("a.b_c-9", None, 12)
    assert str(parse_reference("digits")) == "digits@champion"
    assert str(parse_reference("digits:3")) == "digits:3"


@pytest.mark.parametrize(
    "text",
    [
        *("", "Digits", "-digits", "a b", "a/b", "a" * 64, "digits\n"),
        *("digits@", "digits:", "digits:0", "digits:-1", "digits:latest", "digits:1@champion"),
        "digits:1234567890",
    ],
)
def test_parse_reference_error_lists_the_allowed_forms(text):
    with pytest.raises(InvalidReference, match="Give NAME, NAME@ALIAS or NAME:VERSION"):
        parse_reference(text)


def test_parse_reference_error_suggests_the_likely_reference():
    with pytest.raises(InvalidReference, match="Did you mean 'digits@champion'"):
        parse_reference("Digits@Champion")
    with pytest.raises(InvalidReference, match="Did you mean 'digits:3'"):
        parse_reference("digits:v3")


@pytest.mark.parametrize("name", ["Digits", "", ".hidden", "a/b", "a" * 64, "digits@x"])
def test_a_bad_model_name_is_refused(name):
    with pytest.raises(InvalidReference, match="cannot be a model name"):
        check_name(name)


def test_a_job_runs_from_start_to_completion(place):
    register_versions(place, 1)
    with place.open() as registry:
        promote(registry, 1)
        resolved = registry.resolve("digits")
        job = registry.start_job(resolved, input_sha256="b" * 64, output="/out", flow_run_id="f")
        assert (job.state, job.model, job.version) == ("running", "digits", 1)
        assert (job.reference, job.alias_revision) == ("digits@champion", 1)
        assert job.substituted is job.quarantined is job.drift is None
        found = {"city": {"rows": 7, "unknown": 2}, "age": {"rows": 7, "outside": None}}
        counts = {"rows": 7, "quarantined": 2, "substituted": found, "drift": drift_document()}
        done = registry.finish_job(job, **counts, provider="CPU", onnxruntime="1.31.0")
        assert done.drift == registry.jobs("digits")[0].drift == drift_document()
        assert done.substituted == registry.jobs("digits")[0].substituted == found
        assert (done.id, done.state, done.rows) == (job.id, "completed", 7)
        assert done.quarantined == 2
        assert done.finished_at >= done.started_at == job.started_at
        assert registry.jobs("digits") == registry.jobs() == [done]


def test_a_failed_job_keeps_its_error_and_cannot_complete(place):
    register_versions(place, 1)
    with place.open() as registry:
        resolved = registry.resolve("digits:1")
        job = registry.start_job(resolved, input_sha256="b" * 64, output="/out")
        assert registry.fail_job(job, "disk full").error == "disk full"
        with pytest.raises(Conflict, match="it is failed already"):
            registry.finish_job(job, rows=1, provider="CPU", onnxruntime="1")
        with pytest.raises(NotFound, match="no job 'nobody'"):
            registry.fail_job(replace(job, id="nobody"), "x")


def test_job_is_lost_when_a_later_job_takes_its_output(place):
    register_versions(place, 1)
    with place.open() as registry:
        resolved = registry.resolve("digits:1")
        first = registry.start_job(resolved, input_sha256="b" * 64, output="/out")
        beside = registry.start_job(resolved, input_sha256="b" * 64, output="/elsewhere")
        second = registry.start_job(resolved, input_sha256="b" * 64, output="/out")
        states = {job.id: job.state for job in registry.jobs()}
        assert states == {first.id: "lost", beside.id: "running", second.id: "running"}
        with pytest.raises(Conflict, match="a later job took over its output"):
            registry.finish_job(first, rows=1, provider="CPU", onnxruntime="1")


def offered_again(place, **changes):
    with place.open() as registry:
        candidate = make_candidate(place.folder / "again", **changes)
        return registry.register("digits", candidate, actor="bo")


def test_register_again_adds_a_new_evaluation_with_an_event(place):
    evaluation = {"passed": True, "gates": [], "metrics": {"summary": {"f1": 0.5}}}
    with place.open() as registry:
        first = make_candidate(place.folder / "bundle")
        registry.register("digits", first, actor="ada")
    made = offered_again(place, evaluation=evaluation)
    assert (made.created, made.evaluated, made.ignored) == (False, True, ())
    assert made.version.evaluation == evaluation
    with place.open() as registry:
        newest, registered = registry.history("digits")
        assert (newest.kind, newest.actor, newest.version) == ("evaluated", "bo", 1)
        assert registered.kind == "registered"
        assert verify(registry).problems == []
    for same in (evaluation, dict(reversed(evaluation.items()))):  # JSON knows no order
        made = offered_again(place, evaluation=same)
        assert (made.evaluated, made.ignored) == (False, ())
    made = offered_again(place, evaluation=first.evaluation)
    assert made.evaluated is False
    assert made.ignored == ("evaluation: it was recorded before, and a newer one counts",)
    with place.open() as registry:
        assert registry.resolve("digits:1").version.evaluation == evaluation
        assert len(registry.history("digits")) == 2
        failed = make_candidate(place.folder / "failed", evaluation={"passed": False})
        with pytest.raises(InvalidCandidate, match="does not say that it passed"):
            registry.register("digits", failed, actor="bo")


def test_register_again_lists_ignored_differences(place):
    with place.open() as registry:
        registry.register("digits", make_candidate(place.folder / "bundle"), actor="ada")
        known = registry.resolve("digits:1").version
    changed = {
        "params": {"train": {"epochs": 5, "optimizer": {}}, "seed": None},
        "metrics": {"accuracy": 0.5, "f1": 1 / 3},
        "signature": {"inputs": []},
        "tags": {"team": "risk"},
        "lineage": replace(LINEAGE, git_commit="f" * 40, libraries={}, data={"a.csv": "b" * 32}),
    }
    made = offered_again(place, **changed)
    assert made.ignored[1:8] == (
        "params.seed: nothing is kept, null was offered",
        "params.train.epochs: 3 is kept, 5 was offered",
        'params.train.optimizer.name: "adam" is kept, nothing was offered',
        "metrics.accuracy: 0.975 is kept, 0.5 was offered",
        'lineage.data.a.csv: nothing is kept, "' + "b" * 32 + '" was offered',
        f'lineage.git_commit: "{"c" * 40}" is kept, "{"f" * 40}" was offered',
        'lineage.libraries.onnxruntime: "1.31.0" is kept, nothing was offered',
    )
    assert made.ignored[0].startswith("signature.inputs: [{")
    assert made.ignored[8:] == ('tags.team: nothing is kept, "risk" was offered',)
    with place.open() as registry:
        other = make_candidate(place.folder / "other")
        other.files["card.md"].write_text("# another")
        files = {**other.files, "notes.txt": other.files["card.md"]}
        made = registry.register("digits", replace(other, files=files), actor="bo")
        assert [line.partition(":")[0] for line in made.ignored] == [
            "file card.md",
            "file notes.txt",
        ]
        assert registry.resolve("digits:1").version == known == made.version
        assert len(registry.history("digits")) == 1


def test_repeated_request_changes_and_reports_nothing(place):
    candidate = make_candidate(place.folder / "bundle")
    with place.open() as registry:
        registry.register("digits", candidate, actor="ada", request_id="run-1")
        failed = {"passed": False, "gates": []}
        for evaluation in ({"passed": True, "gates": [1]}, failed):
            registry.evaluate("digits", 1, evaluation, actor="bo")
            made = registry.register("digits", candidate, actor="ada", request_id="run-1")
            assert (made.created, made.evaluated, made.ignored) == (False, False, ())
            assert made.version.evaluation == evaluation
        assert len(registry.history("digits")) == 3


def test_register_adds_an_evaluation_to_an_imported_version(place):
    candidate = make_candidate(place.folder / "bundle")
    with place.open() as registry:
        registry.admit("digits", replace(candidate, evaluation={}), "imported", actor="ada")
        assert registry.register("digits", candidate, actor="bo").evaluated
        registry.approve("digits", 1, actor="bo", reason="passed")
        assert verify(registry).problems == []


def test_concurrent_registrations_add_an_evaluation_once(place):
    register_versions(place, 1)
    candidate = make_candidate(place.folder / "b", "model 1", evaluation={"passed": True, "n": 2})
    with place.open() as registry:
        made = together(*[lambda: registry.register("digits", candidate, actor="bo")] * 4)
        assert sorted(one.evaluated for one in made) == [False, False, False, True]
        assert [event.kind for event in registry.history("digits")] == ["evaluated", "registered"]


def test_registry_all_lists_exactly_the_public_names():
    public = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public == set(package.__all__)


@pytest.mark.whole
def test_import_registry_loads_neither_alembic_nor_other_packages():
    heavy = {"alembic", "tasks", "flows", "torch", "prefect", "numpy", "sqlalchemy.orm"}
    heavy.add("sqlalchemy.dialects.postgresql")
    code = f"import registry, sys; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
