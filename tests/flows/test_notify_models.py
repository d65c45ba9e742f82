"""What is told of the models of a real registry."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from notify_helpers import Serve, job
from registry_helpers import drift_document, make_candidate, promote, with_champion

from flows.notify import models as model_watch
from flows.settings import Settings
from registry import Policy


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project's folder as far as the registry needs one."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(root)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))  # where the state is kept
    return root


@pytest.fixture
def registry(folder):
    with Settings.from_environment().open_registry() as opened:
        yield opened


@pytest.fixture
def digits(registry, tmp_path):
    """A registry with a champion."""
    return with_champion(registry, tmp_path / "one")


@pytest.fixture
def models(digits):
    """A `serve` that has begun, without a Prefect server."""
    serve = Serve(runs=False)
    assert serve.told() == []  # of the champion that was there already
    return serve


def test_promotions_and_rollbacks_are_told_each(models, digits, tmp_path):
    digits.register("digits", make_candidate(tmp_path / "two", "b"), actor="ada")
    promote(digits, 2)
    assert models.told() == [("promoted", "digits")]
    models.restart()
    digits.rollback("digits", actor="bob", reason="worse")
    assert models.told() == [("promoted", "digits")]
    assert [one.title for one in models.got] == [
        "digits:2 is champion now, before it was digits:1",
        "digits:1 is champion again, digits:2 was rolled back",
    ]
    assert models.got[1].fields["actor"] == "bob"
    assert models.told() == []


def test_a_challenger_is_told_only_if_somebody_must_approve_it(models, digits, tmp_path):
    digits.register("digits", make_candidate(tmp_path / "two", "b"), actor="ada")
    promote(digits, 2, "challenger")
    assert models.told() == []
    digits.set_policy("digits", Policy(four_eyes=True), actor="ada")
    digits.register("digits", make_candidate(tmp_path / "three", "c"), actor="ada")
    promote(digits, 3, "challenger")
    assert models.told() == [("approval", "digits")]
    assert "modelmint models approve digits:3 --promote" in models.got[0].text
    digits.approve("digits", 3, actor="bob", reason="good")
    promote(digits, 3)
    assert models.told() == [("promoted", "digits")]


def test_the_same_refusal_is_told_once_until_a_version_is_registered(models, digits, tmp_path):
    bad = make_candidate(tmp_path / "bad", "bad", evaluation={"passed": False})
    for value, expected in ((0.81, 1), (0.79, 0)):
        digits.refuse("digits", bad, actor="ada", reason=f"accuracy {value} is below 0.9")
        assert models.told() == [("refused", "digits")] * expected
    digits.refuse("digits", bad, actor="ada", reason="parity")
    assert models.told() == [("refused", "digits")]
    digits.register("digits", make_candidate(tmp_path / "good", "good"), actor="ada")
    digits.refuse("digits", bad, actor="ada", reason="accuracy 0.7 is below 0.9")
    assert models.told() == [("refused", "digits")]


def test_drift_is_told_once_for_each_column_and_over_after_twelve_hours(
    models, digits, monkeypatch
):
    def after(verdict, name="age"):
        job(digits, drift=drift_document(verdict, name))
        return models.told()

    assert after("none") == []
    assert after("drifted") == [("drifted", "digits")]
    assert models.got[0].fields["columns"] == ["age PSI 0.31"]
    assert after("drifted") == []
    assert after("drifted", "income") == [("drifted", "digits")]
    assert after("none") == []  # another file of the same hour
    models.restart()
    assert after("drifted") == []
    monkeypatch.setattr(model_watch, "DRIFT_OVER_S", 0.0)
    assert after("watch") == [("recovered", "digits")]
    assert after("drifted") == [("drifted", "digits")]


def test_another_version_has_another_reference_and_its_drift_is_told(models, digits, tmp_path):
    job(digits, drift=drift_document("drifted"))
    digits.register("digits", make_candidate(tmp_path / "two", "b"), actor="ada")
    promote(digits, 2)
    job(digits, drift=drift_document("drifted"))
    assert models.told() == [("promoted", "digits"), ("drifted", "digits"), ("drifted", "digits")]


def test_jobs_of_commands_are_told_by_input_and_those_of_runs_are_left_to_the_run(models, digits):
    assert job(digits, error="InputError: gone", flow_run_id="a run").state == "failed"
    assert models.told() == []
    for output, error, expected in [
        ("/a", "InputError: no column age", [("failed", "digits")]),
        ("/a", "InputError: no column age", []),
        ("/b", "TooManyBad: 7 of 10 rows", [("quarantine", "digits")]),
        ("/b", "TooManyBad: 8 of 10 rows", []),
        ("/c", None, []),
        ("/a", None, [("recovered", "digits")]),
    ]:
        job(digits, error=error, output=output)
        assert models.told() == expected, output


def test_a_job_is_told_when_it_ends_however_long_it_runs(models, digits, monkeypatch):
    started = digits.start_job(digits.resolve("digits"), input_sha256="0" * 64, output="/long")
    assert models.told() == []
    monkeypatch.setattr(model_watch, "OVERLAP", timedelta(0))
    for number in range(3):
        job(digits, output=f"/short-{number}")
        models.told()
    models.restart()
    digits.fail_job(started, "OSError: disk full")
    assert models.told() == [("failed", "digits")]
    assert models.told() == []


def test_a_damaged_record_of_drift_stops_nothing(models, digits):
    job(digits, drift={"verdict": "drifted", "most": "nothing", "columns": 7})
    job(digits, error="OSError: disk full", output="/b")
    assert ("failed", "digits") in models.told()


def test_a_registry_that_is_made_later_is_told_from_its_first_event(registry, tmp_path):
    serve = Serve(runs=False)
    assert serve.told() == []
    registry.register("digits", make_candidate(tmp_path / "one"), actor="ada")
    promote(registry, 1)
    assert serve.told() == [("promoted", "digits")]


def copy(source, target):
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


@pytest.mark.parametrize("lost", [3, 150])
def test_after_an_older_state_was_restored_what_is_new_is_told(models, digits, folder, lost):
    copy(folder / "modelmint.db", folder / "kept.db")
    for _ in range(lost):
        digits.note("digits", 1, text="looked at", actor="ada")
    models.told()
    copy(folder / "kept.db", folder / "modelmint.db")
    assert models.told() == []
    digits.unset("digits", "champion", actor="ada", reason="restored")
    assert models.told() == [("promoted", "digits")]
    assert models.got[0].fields["how"] == "unset"


def test_a_thousand_events_at_once_are_one_message_and_none_is_lost(models, digits, monkeypatch):
    monkeypatch.setattr(model_watch, "BATCH", 128)
    monkeypatch.setattr(model_watch, "BEFORE", 10)
    for number in range(300):
        job(digits, error="OSError: disk full", output=f"/out-{number}")
    for _ in range(100):
        digits.note("digits", 1, text="looked at", actor="ada")
    assert models.told() == [("several", "project")]
    assert models.got[0].fields["number"] == 300
    assert models.told() == []


def test_two_serves_with_one_registry_tell_of_its_models_once(models, digits):
    second = Serve(path=models.path.with_name("second.json"), runs=False)
    assert second.told() == []
    assert "another `modelmint serve` with this registry" in second.said[0]
    job(digits, error="OSError: disk full")
    assert (models.told(), second.told()) == ([("failed", "digits")], [])
    models.end()
    job(digits, error="OSError: disk full", output="/b")
    assert second.told() == [("failed", "digits")]
    assert len(second.said) == 1


def test_only_the_chosen_events_are_told(digits):
    serve = Serve(events=["drifted"], runs=False)
    serve.told()
    job(digits, error="OSError: disk full")
    job(digits, drift=drift_document("drifted"), output="/b")
    assert serve.told() == [("drifted", "digits")]


def test_a_kill_between_finding_and_noting_loses_nothing_and_tells_nothing_twice(
    models, digits, monkeypatch
):
    job(digits, error="OSError: disk full")
    watched = models.watcher._registry

    def full(_self, _content):
        raise OSError("no space left")

    save = type(watched).save
    monkeypatch.setattr(type(watched), "save", full)
    assert models.told() == [("failed", "digits")]
    monkeypatch.setattr(type(watched), "save", save)
    models.restart()
    assert models.told() == []


def test_jobs_are_found_by_the_times_that_prefect_gives(digits):
    """They are pendulum's, whose differences are no timedeltas."""
    from prefect.types import DateTime

    before = DateTime.fromisoformat(datetime.now(UTC).isoformat())
    made = job(digits, error="OSError: disk full")
    after = DateTime.fromisoformat(datetime.now(UTC).isoformat())
    assert [found.id for found in digits.jobs_between(before, after)] == [made.id]


def test_every_message_is_plain_json(models, digits, tmp_path):
    digits.register("digits", make_candidate(tmp_path / "two", "b"), actor="ada")
    promote(digits, 2)
    job(digits, drift=drift_document("drifted"))
    job(digits, error="OSError: full", output="/b")
    models.told()
    for message in models.got:
        document = json.loads(json.dumps(message.as_dict()))
        assert document["format"] == 1
        assert datetime.fromisoformat(document["at"]) <= datetime.now(UTC) + timedelta(seconds=1)
        assert document["title"]
        assert "\n" not in document["title"]


def test_a_training_that_starts_by_itself_and_a_proposed_rollback_are_told_once(models, digits):
    def entry(topic, text, **document):
        newest = digits.entries("digits", topic, limit=1)
        expect = newest[0].id if newest else 0
        given = {"expect": expect, "text": text, "actor": "loop", "version": 1}
        digits.add_entry("digits", topic, document, **given)

    entry("retraining", "started because of drift: age", phase="started")
    assert models.told() == [("retraining", "digits")]
    assert models.got[0].text == "started because of drift: age"
    entry("retraining", "ended", phase="ended")
    digits.note("digits", 1, "retraining: a remark", actor="eve")
    assert models.told() == []
    entry("rollback", "proposed: worse", revision=1)
    assert models.told() == [("rollback", "digits")]
    assert models.got[1].title == "digits:1 should be rolled back"
