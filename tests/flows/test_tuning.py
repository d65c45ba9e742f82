"""`modelmint tune`: a study from params.yaml to a version, and one that finds nothing."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from amounts import EVERYTHING
from projects import Project
from ruamel.yaml import YAML
from safetensors.numpy import save_file

from flows.git import git
from flows.pretrained import place_pretrained
from flows.runs import snapshot_of
from flows.settings import Settings
from flows.stages import stages_stop_with_this
from flows.tuning.flow import PARTS, Task, _identity
from flows.tuning.trials import HIDDEN, run_trial, shared_material
from tasks import params as parameters
from tasks.workspace import Workspace

SPACE = {
    "parameters": {
        "train.optimizer.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
        "train.batch_size": {"choices": [32, 64]},
    },
    "trials": 3,
}


def worktrees(project: Project) -> list[str]:
    return git(project.root, "worktree", "list").splitlines()[1:]


@pytest.fixture
def ready(project: Project, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project whose data are prepared, and which is the current folder."""
    project.run("dvc", "repro", "-q", "prepare")
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("PYTHONPATH", str(project.root))
    return Settings.from_environment()


def test_a_trial_trains_without_the_test_split_and_leaves_nothing(
    ready: Settings, project: Project
):
    workspace = Workspace(ready.root)
    before = {p.name: p.read_bytes() for p in workspace.prepared.iterdir()}
    assert HIDDEN in before
    # Whatever it holds: a trial that opened it would fail.
    hidden = workspace.prepared / HIDDEN
    hidden.unlink()
    hidden.write_text("not to be read")
    params = parameters.load(workspace.params)
    seen: list[tuple[int, float]] = []
    found: list[set[str]] = []

    def watch(epoch: int, loss: float) -> bool:
        seen.append((epoch, loss))
        (folder,) = ready.runs.glob("tune-s-t0")
        found.append({p.name for p in (folder / "data/prepared").iterdir()})
        assert not list((folder / "data/raw").glob("*.gz"))
        return False

    snapshot = snapshot_of(ready.root)
    with shared_material(ready, snapshot, workspace, "tune-s") as material:
        trained = run_trial(material, "t0", params, watch)
        assert trained is not None
        assert (trained.epochs, len(seen)) == (3, 3)
        assert trained.loss == pytest.approx(min(loss for _, loss in seen), abs=1e-4)
        # Stopped after its first epoch: its process has ended when the call returns.
        assert run_trial(material, "t1", params, lambda epoch, loss: True) is None
    assert all(names == before.keys() - {HIDDEN} for names in found)
    assert not worktrees(project)
    assert not list(ready.runs.glob("tune-*"))
    assert not list((ready.runs / "records").glob("tune-*"))


def test_a_trial_ends_with_its_flow_and_its_worktree_is_removed(ready: Settings, project: Project):
    class Ended(Exception):
        pass

    def watch(epoch: int, loss: float) -> bool:
        raise Ended

    workspace = Workspace(ready.root)
    params = parameters.load(workspace.params)
    snapshot = snapshot_of(ready.root)
    with (
        pytest.raises(Ended),
        stages_stop_with_this(),
        shared_material(ready, snapshot, workspace, "tune-s") as material,
    ):
        run_trial(material, "t0", params, watch)
    assert not worktrees(project)


def test_a_study_belongs_to_the_weights_that_its_trials_start_from(
    own_trained: Project, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(own_trained.root)
    settings, workspace = Settings.from_environment(), Workspace(own_trained.root)
    name, found = "own.safetensors", []
    space = f"tune.parameters={json.dumps(SPACE['parameters'])}"
    with settings.open_registry() as registry:
        for assignment in (f"train.init_from={name}", f"train.init_from={name}", "train.seed=0"):
            save_file({"head.bias": np.full(10, float(len(found)))}, own_trained.root / name)
            task = Task.read(settings, "params.yaml", [space, assignment], 1)
            place_pretrained(registry, task.params.train.init_from, workspace, settings.root)
            found.append(_identity(settings, task, workspace))
    assert [set(PARTS) - identity.keys() for identity in found] == [set(), set(), {"start"}]
    assert found[0]["start"] != found[1]["start"]
    assert {**found[0], "start": None} == {**found[1], "start": None}


def test_a_study_is_killed_goes_on_and_its_winner_becomes_a_version(project: Project):
    project.change_params({"train": {"optimizer": {"learning_rate": 0.0001}}})
    path = project.root / "params.yaml"
    document = YAML(typ="safe").load(path.read_text())
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump({**document, "tune": SPACE}, file)
    project.commit()
    running = project.start("modelmint", "tune", forked=True)
    assert running.stdout is not None
    for line in running.stdout:
        if "validation loss" in line:
            break
    running.send_signal(signal.SIGKILL)
    running.communicate()
    done = project.modelmint("tune", "--workers", "2", "--json")
    outcome = json.loads(done.stdout)
    assert "goes on" in done.stderr
    assert sum(outcome["trials"].values()) == 3
    assert outcome["winner"] is not None, outcome["verdict"]
    assert outcome["training"]["version"] == "digits:1"
    assert outcome["repeated"][0]["trial"] is None
    assert all(len(one["losses"]) == 3 for one in outcome["repeated"])
    shown = json.loads(project.modelmint("models", "show", "digits:1", "--json").stdout)
    assert shown["tags"]["tune.study"] == outcome["study"]
    assert shown["tags"]["tune.trial"] == str(outcome["winner"])
    assert "study.json" in {one["path"] for one in shown["artifacts"]}
    assert not worktrees(project)
    # Given again it runs no trial, and finds the same version.
    again = json.loads(project.modelmint("tune", "--json").stdout)
    assert (again["winner"], again["study"]) == (outcome["winner"], outcome["study"])
    assert not again["training"]["created"]
    if EVERYTHING:  # other data are another study
        project.change_params({"prepare": {"seed": 9}})
        other = project.modelmint("tune", "-S", "tune.trials=1", "--json")
        assert f"the prepared data changed since {outcome['study']}" in other.stderr


@pytest.mark.release  # test_repeats.py: the verdict
def test_with_random_labels_nothing_is_registered(project: Project, tmp_path: Path):
    drawn = np.random.default_rng(5)
    rows = [",".join(["a", "b", "label"])]
    rows += [f"{drawn.normal():.3f},{drawn.normal():.3f},{drawn.integers(2)}" for _ in range(300)]
    (project.root / "data/raw/noise.csv").write_text("\n".join(rows) + "\n")
    params = {
        "prepare": {
            "source": {"kind": "tabular", "path": "data/raw/noise.csv", "target": "label"},
            "validation": 0.2,
        },
        "train": {"architecture": "mlp", "epochs": 4},
        "evaluate": {"gates": {"accuracy": 0.01}},
        "export": {},
        "registration": {"name": "noise"},
        "tune": {**SPACE, "trials": 2, "pruner": "none"},
    }
    with (project.root / "noise.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(params, file)
    project.commit()
    done = project.modelmint("tune", "--params", "noise.yaml", "--json")
    outcome = json.loads(done.stdout)
    assert outcome["verdict"].startswith("no better than the defaults")
    assert (outcome["status"], outcome["winner"], outcome["training"]) == (0, None, None)
    models = json.loads(project.modelmint("models", "list", "--json").stdout)
    assert models == []
    assert not worktrees(project)


def test_a_mistake_in_the_section_is_one_message_before_anything_starts(project: Project):
    done = project.modelmint(
        "tune", "-S", "tune.parameters={train.epoch: {low: 1, high: 3}}", status=2
    )
    assert "did you mean 'epochs'?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.exists(project.root / "modelmint.db")
