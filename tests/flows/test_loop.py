"""When the loop starts a training, and who may: on a real registry, without a training."""

from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loops import NAME, claim_first, edit_raw, table
from pydantic import ValidationError
from registry_helpers import in_processes, together

from flows.loop import records
from flows.outcome import Outcome
from flows.retrain import _said
from registry import Conflict, Policy
from registry.integrity import verify
from tasks.errors import InputError


@pytest.fixture
def drifted(tiny):
    """A job that has drifted, and new rows to train on."""
    tiny.job("none")
    tiny.job("drifted")
    edit_raw(tiny)
    return tiny


def test_without_triggers_the_loop_is_off(drifted):
    assert drifted.decide(triggers=[]).cause is None
    assert "retrain.triggers" in drifted.decide(triggers=[]).text


@pytest.mark.parametrize(
    ("verdicts", "level", "cause"),
    [
        (["none", "drifted"], "drifted", "drift"),
        (["none", "watch"], "drifted", None),
        (["none", "watch"], "watch", "drift"),
        (["drifted", "none"], "drifted", None),  # it is over
        (["drifted", None], "drifted", "drift"),  # a small job has no verdict
        (["none"] * 30, "watch", None),
        ([], "watch", None),
    ],
)
def test_drift_of_the_newest_jobs_is_a_cause_at_its_level(tiny, verdicts, level, cause):
    for verdict in verdicts:
        tiny.job(verdict)
    edit_raw(tiny)
    assert tiny.decide(drift=level).cause == cause


def test_drift_names_the_first_of_the_jobs_without_a_break(tiny):
    tiny.job("drifted")
    tiny.job("none")
    first, second = tiny.job("drifted"), tiny.job("drifted")
    edit_raw(tiny)
    found = tiny.decide()
    assert found.jobs == (second, first)
    assert f"since job {first}, in 2 jobs: drifted: age PSI 0.31" in found.text


def test_jobs_elsewhere_of_another_version_and_unfinished_ones_do_not_count(tiny):
    tiny.add_version("b", promote=False)
    tiny.job("drifted", place="elsewhere")
    tiny.job("drifted", place="predictions-of-a-test")
    tiny.job("drifted", reference=f"{NAME}:2")
    resolved = tiny.registry.resolve(NAME)
    output = str(tiny.output / "running")
    tiny.registry.start_job(resolved, input_sha256="f" * 64, output=output)
    failed = tiny.registry.start_job(resolved, input_sha256="e" * 64, output=output + "2")
    tiny.registry.fail_job(failed, "disk full")
    edit_raw(tiny)
    found = tiny.decide()
    assert found.cause is None
    assert f"no job of {NAME}:1 wrote below {tiny.output}, the newest one wrote to " in found.text
    tiny.job("none")
    assert "no job of" not in tiny.decide().text


def test_drift_waits_for_rows_that_have_drifted(tiny):
    """A training on the same rows would give the same model; labels of other days do not help."""
    before, after = table(1), table(2)
    tiny.predict("monday", before)
    tiny.label(before)
    moved = after.set_column(1, "a", pa.array(after["a"].to_numpy() + 2))
    job = tiny.predict("tuesday", moved)
    found = tiny.decide()
    assert (found.cause, found.jobs) == (None, (job,))
    assert "waits for 100 more labels of these jobs" in found.text
    assert tiny.decide(data="raw").text.endswith("waits for new raw data")
    tiny.label(moved.slice(0, 99))
    assert "waits for 1 more labels" in tiny.decide().text
    tiny.label(moved.slice(99, 100))
    assert tiny.decide().cause == "drift"


def test_a_cause_that_waits_does_not_hide_one_that_does_not(tiny):
    rows = table(3, flipped=0.5)
    tiny.predict("monday", rows)
    tiny.label(rows)
    tiny.job("drifted")
    assert "waits for 100 more labels of these jobs" in tiny.decide().text
    assert tiny.decide(triggers=["drift", "labels"]).cause == "labels"


def test_one_shift_starts_exactly_one_training(drifted):
    drifted.end(drifted.start())
    for _ in range(3):
        drifted.job("drifted")
    for days in (1, 8, 100):
        assert drifted.decide(days).cause is None, "that drift was answered"
    drifted.add_version("b", data=drifted.hash)
    drifted.job("drifted")
    pq.write_table(table(98).drop_columns(["key"]), drifted.raw / "past.parquet")
    assert "the cool-down lasts until" in drifted.decide(6.9).text
    assert drifted.decide(7.1).cause == "drift"


def test_a_champion_that_was_rolled_back_to_does_not_answer_its_drift_again(drifted):
    drifted.end(drifted.start(), "promoted", drifted.add_version("b"))
    drifted.registry.rollback(NAME, actor="ada", reason="worse")
    drifted.job("drifted")
    edit_raw(drifted)
    assert drifted.decide(30).cause is None


def test_two_runs_at_once_start_one_training(drifted):
    loops = [drifted.loop() for _ in range(4)]
    seen = [loop.decide() for loop in loops]
    found = together(*(lambda i=i: loops[i].claim(*seen[i]) for i in range(4)))
    assert sum(one is not None for one in found) == 1, found
    assert len(drifted.payloads()) == 1
    assert verify(drifted.registry).problems == []


def test_two_processes_at_once_start_one_training(drifted, tmp_path):
    place = (f"sqlite:///{tmp_path}/registry.db", str(tmp_path / "artifacts"))
    found = in_processes(3, claim_first, *place)
    assert sorted(found) == [False, False, True], found
    assert len(drifted.payloads()) == 1


def test_a_champion_that_moves_meanwhile_stops_the_claim(drifted):
    loop = drifted.loop()
    facts, decision = loop.decide()
    drifted.add_version("b")
    assert loop.claim(facts, decision) is None
    assert drifted.payloads() == []


def test_new_raw_data_is_a_cause_until_a_training_had_it(tiny):
    rules = {"triggers": ["data"]}
    assert tiny.decide(**rules).cause is None
    edit_raw(tiny)
    assert tiny.decide(**rules).cause == "data"
    claimed = tiny.start(**rules)
    assert claimed.started["data"] != tiny.hash
    tiny.hash = str(claimed.started["data"])
    tiny.end(claimed)
    assert tiny.decide(30, **rules).cause is None, "the model was no better with it"


@pytest.mark.parametrize("fault", ["code", "source"])
def test_a_training_that_could_only_fail_is_not_started(drifted, fault):
    """Three looks in a row used up its attempts, and then the cool-down began."""
    if fault == "code":
        path = drifted.root / "code.json"
        path.write_text(path.read_text().replace('"prepare": "', '"prepare": "0'))
        expected = "code.json does not describe the code"
    else:
        (drifted.raw / "past.parquet").rename(drifted.raw / "past.jsonl")
        expected = "labelled rows are added to .csv"
    assert drifted.decide(1, triggers=["labels"]).cause is None
    with pytest.raises(InputError, match=expected):
        drifted.start()
    assert drifted.payloads() == []


def test_the_longest_times_of_the_parameters_are_dates_and_longer_ones_are_refused(drifted):
    """Dates end with the year 9999: a longer cool-down failed after the first training."""
    longest = {"cool_down": 100_000, "window": 100_000, "data": "window"}
    drifted.end(drifted.start(**longest))
    drifted.add_version("b")
    drifted.job("drifted")
    assert "the cool-down lasts until 23" in drifted.decide(**longest).text
    with pytest.raises(InputError, match="has a label"):
        drifted.loop(**longest).add_rows()
    for name in ("cool_down", "window"):
        with pytest.raises(ValidationError, match="less than or equal to 100000"):
            drifted.decide(**{name: 100_001})


def test_missing_raw_data_is_said(tiny):
    (tiny.raw / "past.parquet").unlink()
    tiny.raw.rmdir()
    with pytest.raises(InputError, match="is missing"):
        tiny.decide(triggers=["data"])


def test_a_schedule_starts_one_training_per_cool_down_if_there_are_new_rows(tiny):
    rules = {"triggers": ["schedule"], "cool_down": 2}
    assert "waits for 100 more labels" in tiny.decide(**rules).text
    edit_raw(tiny)
    claimed = tiny.start(**rules)
    tiny.hash = str(claimed.started["data"])
    tiny.end(claimed)
    assert "cool-down" in tiny.decide(1.9, **rules).text
    assert "waits for" in tiny.decide(2.1, **rules).text


@pytest.mark.parametrize(("flipped", "cause"), [(0.0, None), (0.19, None), (0.4, "labels")])
def test_labels_below_a_gate_are_a_cause_and_noise_is_none(tiny, flipped, cause):
    """The model is right in 81 % of the rows in the second case; the gate is 80 %."""
    rows = table(3, flipped=flipped)
    tiny.predict("monday", rows)
    tiny.label(rows)
    found = tiny.decide(triggers=["labels"])
    assert found.cause == cause, found
    if cause:
        assert "on 400 labels of 1 job" in found.text
        assert "misses the gate >= 0.8" in found.text


def test_few_labels_or_those_of_an_older_version_judge_nobody(tiny):
    rows = table(3, flipped=0.5)
    tiny.predict("monday", rows)
    tiny.label(rows.slice(0, 90))
    assert tiny.decide(triggers=["labels"]).cause is None
    tiny.label(rows)
    tiny.add_version("b")
    assert tiny.decide(triggers=["labels"]).cause is None


def test_a_killed_training_is_resumed_and_not_started_again(drifted):
    claimed = drifted.start()
    loop = drifted.loop()
    log = loop.log()
    open_ = loop.unfinished(log)
    assert open_.id == claimed.id
    assert not loop.is_alive(open_, lambda run: None), "this process has the lock of the folder"
    resumed = loop.resume(log, open_)
    assert (resumed.id, resumed.attempts) == (claimed.id, 2)
    assert loop.resume(log, open_) is None, "another run has resumed it"
    with pytest.raises(Conflict, match="taken over"):
        drifted.end(claimed)
    drifted.end(resumed)
    assert drifted.loop().unfinished(drifted.loop().log()) is None
    phases = [one["phase"] for one in drifted.payloads()]
    assert phases == ["started", "resumed", "ended"]
    assert verify(drifted.registry).problems == []


def test_a_training_that_was_killed_after_its_promotion_ends_as_promoted(drifted):
    """The next attempt makes the same version, and finds that it is champion already."""
    claimed = drifted.start()
    version = drifted.add_version("b")
    loop = drifted.loop()
    resumed = loop.resume(loop.log(), claimed)
    again = Outcome(version=f"{NAME}:2", decision=f"{NAME}:2 is already the champion")
    said = _said(again, loop.promotion(resumed, version))
    assert said == ("promoted", f"ended, {NAME}:2 became champion meanwhile: better")
    drifted.registry.rollback(NAME, actor="ada", reason="worse")
    assert _said(again, loop.promotion(resumed, version))[0] == "kept"


def test_a_training_that_makes_the_champion_again_changes_nothing(drifted):
    claimed = drifted.start()
    same = Outcome(version=f"{NAME}:1", decision=f"{NAME}:1 is already the champion")
    assert _said(same, drifted.loop().promotion(claimed, 1))[0] == "kept"


def test_a_training_elsewhere_is_alive_until_its_server_or_a_week_says_otherwise(drifted):
    claimed = drifted.start()
    elsewhere = drifted.root.parent / "elsewhere"
    for days, end, alive in [(0, None, True), (0, "Crashed", False), (7.1, None, False)]:
        loop = drifted.loop(days)
        loop = type(loop)(*(elsewhere if k == "root" else v for k, v in vars(loop).items()))
        assert loop.is_alive(claimed, lambda run, end=end: end) is alive, (days, end)


def test_a_training_that_fails_is_tried_three_times_and_again_after_the_cool_down(drifted):
    training = drifted.start()
    for attempt in (1, 2, 3):
        assert training.attempts == attempt
        drifted.end(training, records.FAILED)
        loop = drifted.loop()
        open_ = loop.unfinished(loop.log())
        assert (open_ is None) == (attempt == 3)
        if open_:
            training = loop.resume(loop.log(), open_)
    assert "cool-down" in drifted.decide(1).text
    assert drifted.decide(7.1).cause == "drift", "the drift was not answered"


def test_the_first_job_of_the_new_champion_ends_the_chain_once(drifted):
    version = drifted.add_version("b", promote=False)
    drifted.end(drifted.start(), "waits", version)
    drifted.loop().note_first_job()
    assert drifted.payloads()[-1]["phase"] == "ended", "it waits for approval"
    given = {"expect_revision": None, "actor": "bob", "reason": "approved"}
    drifted.registry.promote(NAME, version, **given)
    drifted.loop().note_first_job()
    assert drifted.payloads()[-1]["phase"] == "ended", "no job yet"
    first = drifted.job("none")
    drifted.job("none")
    for _ in range(2):
        drifted.loop().note_first_job()
    found = drifted.payloads()
    assert [one["phase"] for one in found] == ["started", "ended", "used"]
    assert found[-1]["job"] == first
    said = [event.reason for event in drifted.registry.history(NAME)]
    assert f"retraining: job {first} is the first with {NAME}:2: 300 rows, drift none" in said[0]


def test_a_version_is_traced_to_the_cause_of_the_training_that_made_it(drifted):
    version = drifted.add_version("b", promote=False)  # by a person
    claimed = drifted.start()
    made = drifted.add_version("c")
    drifted.end(claimed, "promoted", made)
    drifted.end(drifted.start(8, triggers=["schedule"], cool_down=0), "kept", version)
    drifted.end(drifted.start(8, triggers=["schedule"], cool_down=0), "kept", made)
    found = drifted.registry.trace(f"{NAME}:{made}").retraining
    assert found == claimed.entries[0]
    assert found.reason.startswith("retraining: started because of drift: drift since job ")
    assert drifted.registry.trace(f"{NAME}:{version}").retraining is None
    assert drifted.registry.trace(f"{NAME}:1").retraining is None


def test_a_training_that_is_begun_again_says_what_params_yaml_has_changed(drifted):
    loop = drifted.loop()
    then = loop.params.model_dump(mode="json", exclude={"retrain", "tune"})
    drifted.add_version("b", params=then)
    drifted.job("drifted")
    claimed = drifted.start()
    assert "params.yaml" not in claimed.entries[0].reason
    edited = drifted.loop(gates={"accuracy": 0.7})
    reason = edited.resume(edited.log(), claimed).entries[0].reason
    assert reason.endswith(
        "begun again, attempt 2 of 3. Since tiny:2 params.yaml has changed: "
        "evaluate.gates.accuracy=0.7"
    )


def test_the_claim_says_what_params_yaml_has_changed_since_the_champion(drifted):
    assert "train.architecture.name" not in drifted.start().entries[0].reason


def test_entries_need_no_new_schema_and_are_sealed(drifted):
    drifted.registry.set_policy(NAME, Policy(four_eyes=True), actor="ada")
    claimed = drifted.start()
    (event,) = claimed.entries
    assert (event.kind, event.version, event.actor) == ("noted", 1, "loop")
    assert event.reason.startswith("retraining: started because of drift: drift since job ")
    drifted.registry.note(NAME, 1, "retraining: a remark of a person", actor="eve")
    assert [one.id for one in drifted.loop().log().trainings] == [claimed.id]
    assert claimed.at - event.at == timedelta(0)
    assert verify(drifted.registry).problems == []
