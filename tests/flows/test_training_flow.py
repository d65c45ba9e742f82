"""The training flow: overrides, refusals, concurrent runs, signals, kills at every step."""

import contextlib
import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from amounts import EVERYTHING, usual
from projects import Family, Project
from ruamel.yaml import YAML

# Long enough to be killed during training, short enough to wait for its end.
LONG = ["-S", "train.epochs=150", "-S", "train.patience=150"]


def test_train_with_a_failed_gate_exits_with_status_3_and_adds_to_the_history(trained: Project):
    before = json.loads(trained.modelmint("models", "list", "--json").stdout)
    outcome = trained.train("-S", "evaluate.gates.accuracy=0.9999", status=3)
    assert outcome["gates"][0]["passed"] is False
    assert "accuracy is" in outcome["message"]
    assert not outcome["version"]
    assert json.loads(trained.modelmint("models", "list", "--json").stdout) == before
    newest = json.loads(trained.modelmint("models", "history", "digits", "--json").stdout)[0]
    assert newest["kind"] == "refused"
    assert newest["payload"]["evaluation"]["gates"][0]["condition"] == ">= 0.9999"


def registered(project: Project) -> list:
    """The models of the registry and the history of `digits`."""
    commands = (["list"], ["history", "digits"])
    return [json.loads(project.modelmint("models", *c, "--json").stdout) for c in commands]


def test_train_look_without_gates_shows_metrics_and_its_training_is_reused(
    trained: Project,
):
    before = registered(trained)
    bare = YAML(typ="safe").load((trained.root / "params.yaml").read_text())
    whole = bare | {"registration": {"name": "looked-at", "metric": None}}
    for section in ("evaluate", "registration"):
        del bare[section]
    path = trained.root / "bare.yaml"
    YAML(typ="safe", pure=True).dump(bare, path)
    given = ["--params", "bare.yaml", "-S", "train.seed=77"]
    done = trained.modelmint("train", *given, "--look", "--json")
    outcome = json.loads(done.stdout)
    assert (outcome["status"], outcome["looked"], outcome["version"]) == (0, True, "")
    for shown in (
        "nothing was registered",
        "macro F1",
        "log loss",
        "balanced accuracy",
        "class 7",
        "train 1,257, validation 180, test 360",
    ):
        assert shown in done.stderr
    assert registered(trained) == before
    YAML(typ="safe", pure=True).dump(whole, path)
    real = trained.train(*given)
    path.unlink()
    how = {step["name"]: step["how"] for step in real["steps"]}
    assert {how["prepare"], how["train"]} <= {"Fresh", "Restored"}
    assert (real["version"], real["looked"]) == ("looked-at:1", False)


@pytest.mark.release  # the test above, with gates
def test_train_look_with_a_failed_gate_succeeds_and_records_nothing(trained: Project):
    before = registered(trained)
    outcome = trained.train("-S", "evaluate.gates={accuracy: 0.9999}", "--look")
    assert outcome["gates"][0]["passed"] is False
    assert (outcome["status"], outcome["version"]) == (0, "")
    assert registered(trained) == before


@pytest.mark.release  # the first test: the refusal; tasks/test_metrics.py: the verdict
def test_train_without_gates_registers_nothing(trained: Project):
    outcome = trained.train("-S", "evaluate.gates={}", status=3)
    assert "at least one in evaluate.gates" in outcome["message"]
    assert not outcome["version"]


def test_two_runs_with_different_parameters_run_at_the_same_time(project: Project):
    command = ("modelmint", "train", "-S")
    runs = [project.start(*command, f"train.seed={n}", forked=True) for n in (11, 12)]
    printed = [run.communicate(timeout=200)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], "\n".join(printed)
    (model,) = json.loads(project.modelmint("models", "list", "--json").stdout)
    assert model["last_version"] == 2
    # No stage has run in the checkout.
    assert not (project.root / "outputs").exists()
    # Both worktrees are removed, but the records of the runs remain.
    assert len(project.run("git", "worktree", "list").stdout.splitlines()) == 1
    listed = json.loads(project.modelmint("runs", "list", "--json").stdout)
    assert {run["changed"]["train.seed"]: run["state"] for run in listed} == {
        11: "registered",
        12: "registered",
    }
    assert {run["detail"] for run in listed} == {"digits:1", "digits:2"}
    if EVERYTHING:  # a repeated run restores its outputs from DVC's cache
        again = project.train("-S", "train.seed=11")
        assert {step["how"] for step in again["steps"][1:5]} == {"Restored"}
        assert not again["created"]
        assert (Path(again["folder"]) / "history.csv").exists()


def test_two_runs_with_the_same_parameters_train_once(project: Project):
    runs = [project.start("modelmint", "train", "--json", forked=True) for _ in range(2)]
    printed = [run.communicate(timeout=200)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], "\n".join(printed)
    assert sum(text.count("Running stage 'train'") for text in printed) == 1
    (model,) = json.loads(project.modelmint("models", "list", "--json").stdout)
    assert model["last_version"] == 1
    assert "up to date" in project.run("dvc", "status").stdout


def test_a_signal_during_training_leaves_no_process_and_the_next_run_resumes(
    project: Project, family: Family
):
    server = project.environment.pop("PREFECT_API_URL")  # the temporary server must end too
    project.environment["MODELMINT_TEST_FAMILY"] = family.mark
    # flows/test_warm.py sends a SIGINT during training.
    signals = usual((signal.SIGKILL,), (signal.SIGINT, signal.SIGTERM, signal.SIGKILL))
    for number in signals:
        run = project.start("modelmint", "train", *LONG)
        # The first run prepares; later runs resume after the last finished epoch.
        first = number == signals[0]
        printed = _read_until(run, r"epoch 3/150" if first else r"epoch \d+/150")
        if first:
            assert printed.count("modelmint serve") == 1  # the advice, as no server runs
        else:
            assert "prepare' - Finished in state Fresh" in printed
        run.send_signal(number)
        alive = family.wait_until_gone(10)
        assert not alive, f"{number!r} left {alive}"
        assert run.wait(1) != 0
        _close(run)
    project.environment["PREFECT_API_URL"] = server
    outcome = project.train(*LONG)
    how = {step["name"]: step["how"] for step in outcome["steps"]}
    assert (how["prepare"], how["train"]) == ("Fresh", "Completed")
    assert outcome["version"] == "digits:1"


ENDS = [
    r"bring the raw data under DVC' - Finished",
    r"'prepare' - Finished",
    r"'train' - Finished",
    r"'evaluate' - Finished",
    r"'export' - Finished",
    r"'register digits' - registered",
    r"'register digits' - Finished",
    r"champion is digits:1",
]
# After the first stage, and between the two writes of a registration.
SOME_ENDS = [ENDS[1], ENDS[5]]


def test_train_succeeds_after_kills_at_the_end_of_every_step(project: Project):
    for end in usual(SOME_ENDS, ENDS):
        run = project.start("modelmint", "train", forked=True)
        # A step that an earlier run completed may print nothing.
        _read_until(run, end, or_end=True)
        run.kill()
        run.wait()
        _close(run)
    outcome = project.train()
    assert (outcome["version"], outcome["champion"]) == ("digits:1", "digits:1")
    (model,) = json.loads(project.modelmint("models", "list", "--json").stdout)
    assert model["last_version"] == 1
    store = project.root / "artifacts"
    stored = {p for p in store.rglob("*") if p.is_file()} - {store / "registry.json"}
    version = json.loads(project.modelmint("models", "show", "digits", "--json").stdout)
    known = {artifact["sha256"] for artifact in version["artifacts"]}
    named = json.loads(project.modelmint("models", "gc", "--dry-run", "--json").stdout)
    strays = {path for path in stored if path.name not in known}
    assert strays == {path for path in stored if str(path) in {s["path"] for s in named}}
    assert "up to date" in project.run("dvc", "status").stdout
    assert "no problems: " in project.modelmint("models", "verify").stderr


def test_invalid_raw_data_is_one_message_with_status_2(project: Project):
    (project.root / "data/raw/digits.csv.gz").write_bytes(b"not gzip at all")
    done = project.modelmint("train", status=2)
    assert "prepare: " in done.stderr
    assert "is not a gzipped CSV file" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project.root / "data/prepared").exists()


def test_missing_raw_data_is_named(project: Project):
    source = ["-S", "prepare.source={kind: image, path: data/raw/mine.npz}"]
    done = project.modelmint("train", *source, status=2)
    assert "data/raw/mine.npz is missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_new_file_in_data_raw_is_put_under_dvc_and_linked_to_a_worktree(project: Project):
    import numpy as np

    rng = np.random.default_rng(0)
    labels = np.repeat(["cat", "dog"], 60)
    images = rng.normal(labels[:, None, None] == "dog", 0.3, (120, 6, 5)).astype(np.float32)
    np.savez(project.root / "data/raw/pets.npz", images=images, labels=labels)
    outcome = project.train(
        "-S",
        "prepare.source={kind: image, path: data/raw/pets.npz}",
        "-S",
        "registration.name=pets",
    )
    assert outcome["version"] == "pets:1"
    assert (project.root / "data/raw/pets.npz.dvc").exists()
    # Raw data never goes into git, not even into the worktree's snapshot.
    objects = project.run("git", "cat-file", "--batch-all-objects", "--batch-check").stdout
    of_file = project.run("git", "hash-object", "--no-filters", "data/raw/pets.npz").stdout
    assert of_file.strip() not in objects
    of_tracker = project.run("git", "hash-object", "data/raw/pets.npz.dvc").stdout
    assert of_tracker.strip() in objects


@pytest.mark.release  # tasks/test_pipeline.py: a step adds the section
def test_a_missing_section_of_params_gets_the_same_defaults_in_train_and_repro(
    own_trained: Project,
):
    """The README's own example has no section `export`."""
    project = own_trained
    path = project.root / "params.yaml"
    given = YAML(typ="safe").load(path.read_text())
    del given["export"]
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(given, file)
    text = path.read_text()
    outcome = project.train()
    assert outcome["folder"] == str(project.root)
    assert path.read_text() == text + "export: {}\n"
    assert "up to date" in project.run("dvc", "status").stdout
    text = text.replace("epochs: 3", "epochs: 2")
    path.write_text(text)
    printed = project.run("dvc", "repro").stdout
    assert "params.yaml had no section export; added 'export: {}'" in printed
    assert path.read_text() == text + "export: {}\n"
    assert "up to date" in project.run("dvc", "status").stdout
    assert {step["how"] for step in project.train()["steps"][1:5]} == {"Fresh"}
    assert not (project.root / "runs").exists()


def test_ctrl_c_ends_a_run_that_waits_for_another(project: Project):
    project.change_params({"train": {"epochs": 5000, "patience": 5000}})
    busy = project.start("modelmint", "train", forked=True)
    _read_until(busy, "epoch 3/5000")
    waiting = project.start("modelmint", "train", forked=True)
    _read_until(waiting, "train waits")
    waiting.send_signal(signal.SIGINT)
    printed, _ = waiting.communicate(timeout=60)
    assert "Running stage" not in printed
    assert waiting.returncode != 0
    assert busy.poll() is None
    busy.kill()
    busy.wait()
    _close(busy)


@pytest.mark.release  # test_examples.py runs the steps of others
def test_train_runs_an_example_unchanged(project: Project):
    outcome = project.train("--params", "examples/digits-mlp.yaml")
    assert outcome["architecture"] == "mlp"
    assert outcome["version"] == "digits:1"


def test_a_workspace_changed_during_training_is_not_registered(project: Project):
    run = project.start("modelmint", "train", "--json", forked=True)
    _read_until(run, "epoch 1/3")
    project.change_params({"evaluate": {"gates": {"accuracy": 0.6}}})
    printed, _ = run.communicate(timeout=240)
    assert run.returncode == 2
    # The flow says so, or a stage if it was reading at that moment.
    assert re.search(
        "changed (during this run|while the stage (train|evaluate|export) ran)", printed
    )
    printed = project.modelmint("models", "list", status=1).stderr
    assert "There is no registry in" in printed


def _read_until(run: subprocess.Popen[str], pattern: str, or_end: bool = False) -> str:
    printed = ""
    deadline = time.monotonic() + 240
    assert run.stdout is not None
    for line in run.stdout:
        printed += line
        if re.search(pattern, line):
            return printed
        assert time.monotonic() < deadline, printed
    if or_end:
        return printed
    pytest.fail(f"it ended before {pattern!r}:\n{printed}")


def _close(run: subprocess.Popen[str]) -> None:
    with contextlib.suppress(OSError):
        run.stdout.close()


def test_registration_metric_that_was_not_computed_exits_with_status_2(trained: Project):
    outcome = trained.train("-S", "registration.metric=roc_auc", status=2)
    assert "roc_auc was not computed for these classes" in outcome["message"]
    assert not outcome["version"]
