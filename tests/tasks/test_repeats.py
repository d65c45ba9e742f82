"""`evaluate.repeat`: the same training with other seeds."""

import json
import statistics
from pathlib import Path

import pytest

import tasks.repeats
from tasks import params
from tasks.bundle.evaluation import Evaluation
from tasks.pipeline import STEPS
from tasks.workspace import Workspace

ROOT = Path(__file__).parents[2]
CHANGES = [
    "train.architecture=logistic",
    "train.epochs=2",
    "evaluate.gates={accuracy: 0.1}",
    "evaluate.baseline=false",
    f"prepare.source.path={ROOT / 'data/raw/digits.csv.gz'}",
]


def run(workspace, *changes, steps=tuple(STEPS)):
    chosen = params.load(ROOT / "params.yaml", [*CHANGES, *changes])
    return [STEPS[name].run(chosen, workspace) for name in steps]


def evaluation(workspace):
    return Evaluation.read(workspace.bundle / "evaluation.json")


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def test_repeats_are_the_trainings_with_the_next_seeds(workspace, tmp_path_factory):
    *_, report = run(workspace, "evaluate.repeat=3")
    found = evaluation(workspace)
    assert [one.seed for one in found.repeats] == [1, 2]
    assert not workspace.repeats.exists()
    for one in found.repeats:
        alone = Workspace(tmp_path_factory.mktemp("alone"))
        run(alone, f"train.seed={one.seed}")
        metrics = json.loads(alone.metrics.read_bytes())
        assert one.metrics == {name: metrics[name] for name in ("macro_f1", "accuracy")}
    values = [
        found.metrics.summary["accuracy"],
        *(one.metrics["accuracy"] for one in found.repeats),
    ]
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    text = f"accuracy {mean:.4f} ± {deviation:.4f} ({min(values):.4f} to {max(values):.4f})"
    assert str(report).splitlines()[-1].startswith("3 seeds: macro_f1 ")
    assert str(report).endswith(text)
    assert text.removeprefix("accuracy ") in (workspace.bundle / "card.md").read_text()


def test_without_repeats_nothing_is_said_and_the_bundle_is_the_same(workspace):
    *_, report = run(workspace)
    assert "repeats" not in json.loads((workspace.bundle / "evaluation.json").read_bytes())
    assert "seeds" not in str(report)
    before = (workspace.bundle / "model.onnx").read_bytes()
    run(workspace, "evaluate.repeat=2", steps=["export"])
    assert (workspace.bundle / "model.onnx").read_bytes() == before
    assert [one.seed for one in evaluation(workspace).repeats] == [1]


def test_a_training_that_has_ended_is_not_repeated_after_a_kill(workspace, monkeypatch, capsys):
    run(workspace, steps=["prepare", "train", "evaluate"])
    train, trained = tasks.repeats.train, []

    def killed(changed, **paths):
        trained.append(changed.seed)
        if trained == [1, 2]:
            raise KeyboardInterrupt
        return train(changed, **paths)

    monkeypatch.setattr(tasks.repeats, "train", killed)
    capsys.readouterr()
    with pytest.raises(KeyboardInterrupt):
        run(workspace, "evaluate.repeat=3", steps=["export"])
    run(workspace, "evaluate.repeat=3", steps=["export"])
    assert trained == [1, 2, 2]
    assert [one.seed for one in evaluation(workspace).repeats] == [1, 2]
    # The flow takes lines that begin with `epoch` for the progress of the stage `train`.
    assert not [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]


def test_other_parameters_train_again(workspace, monkeypatch):
    run(workspace, steps=["prepare", "train", "evaluate"])
    with monkeypatch.context() as changed:
        changed.setattr(tasks.repeats, "_metrics", lambda *_: {}["killed"])
        with pytest.raises(KeyError):
            run(workspace, "evaluate.repeat=2", steps=["export"])
    run(workspace, "train.epochs=3", steps=["train", "evaluate"])
    run(workspace, "train.epochs=3", "evaluate.repeat=2", steps=["export"])
    (other,) = evaluation(workspace).repeats
    alone = Workspace(workspace.root / "alone")
    alone.root.mkdir()
    run(alone, "train.epochs=3", "train.seed=1")
    assert other.metrics["accuracy"] == json.loads(alone.metrics.read_bytes())["accuracy"]
