"""Gates that compare with baselines, and that refuse a model of a single class."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from training_helpers import make_prepared

from flows.gates import read_gates
from tasks import params
from tasks.bundle.evaluation import (
    Baseline,
    Evaluation,
    Gate,
    check_gates,
    check_single_class,
)
from tasks.bundle.signature import Signature
from tasks.config import Bounds, Evaluate, Export, Optimizer, Train
from tasks.config.architectures import Logistic
from tasks.dataset import read_table, write_split
from tasks.errors import InputError
from tasks.export import export
from tasks.problems import PROBLEMS, Metrics
from tasks.train import train

SIMPLE = [
    Baseline("most frequent class", False, 9, 9, {"macro_f1": 0.4, "log_loss": 0.7}),
    Baseline("boosted trees", True, 9, 9, {"macro_f1": 0.8, "log_loss": 0.5}),
]
PROJECT = """
prepare: {{source: {{kind: digits}}}}
train: {{architecture: logistic}}
evaluate: {{gates: {gates}}}
registration: {{name: digits}}
"""


@pytest.mark.parametrize(
    ("metric", "gate", "value", "passed", "condition"),
    [
        ("macro_f1", Bounds(above_baseline=0.0), 0.8, True, ">= 0.8, as good as the baseline"),
        ("macro_f1", Bounds(above_baseline=0.0), 0.79, False, "the baseline (boosted trees)"),
        ("macro_f1", Bounds(above_baseline=0.05), 0.84, False, ">= 0.85, 0.05 better than"),
        ("macro_f1", Bounds(above_baseline=-0.1), 0.71, True, ">= 0.7, -0.1 better than"),
        ("macro_f1", Bounds(at_least=0.9, above_baseline=0.0), 0.85, False, ">= 0.9"),
        ("macro_f1", Bounds(at_least=0.5, above_baseline=0.0), 0.75, False, ">= 0.8, as good"),
        ("macro_f1", Bounds(at_least=0.5), 0.6, True, ">= 0.5"),
        ("macro_f1", 0.5, 0.6, True, ">= 0.5"),
        ("log_loss", Bounds(above_baseline=0.1), 0.41, False, "<= 0.4, 0.1 better than"),
        ("log_loss", Bounds(at_most=0.3, above_baseline=0.0), 0.35, False, "<= 0.3"),
        ("log_loss", Bounds(at_most=0.6, above_baseline=0.0), 0.45, True, "<= 0.5, as good as"),
        ("macro_f1", Bounds(above_baseline=0.0), float("nan"), False, ">= 0.8"),
        ("accuracy", Bounds(above_baseline=0.0), 1.0, False, "none was measured"),
    ],
)
def test_a_gate_can_demand_to_be_above_the_best_baseline(metric, gate, value, passed, condition):
    (found,) = check_gates({metric: gate}, {metric: value}, SIMPLE)
    assert found.passed == passed
    assert condition in found.condition


def test_a_gate_above_a_baseline_fails_without_baselines():
    (found,) = check_gates({"macro_f1": Bounds(above_baseline=0.0)}, {"macro_f1": 1.0})
    assert not found.passed
    assert found.refusal == (
        "macro_f1 is 1.0000, but must be better than a baseline, but none was measured"
    )


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        (
            "{accuracy: {at_lest: 0.5}}",
            "evaluate.gates.accuracy.at_lest: unknown key; did you mean",
        ),
        ("{accuracy: {}}", "gates.accuracy: give at_least, above_baseline or both"),
        ("{accuracy: {at_most: 0.5}}", "gates.accuracy: higher is better; give at_least in place"),
        ("{log_loss: {at_least: 0.5}}", "gates.log_loss: lower is better; give at_most in place"),
        ("{accuracy: high}", "evaluate.gates.accuracy: input should be a valid number"),
        ("{accuracy: {at_least: high}}", "evaluate.gates.accuracy.at_least: input should be"),
        ("{acuracy: {at_least: 0.5}}", "'acuracy' is not allowed; did you mean 'accuracy'"),
        (
            "{accuracy: {above_baseline: 0}}, baseline: false",
            "gates.accuracy.above_baseline needs baselines, but evaluate.baseline is false",
        ),
    ],
)
def test_a_mistake_in_a_gate_is_explained_in_one_line(gates, said, tmp_path):
    (tmp_path / "params.yaml").write_text(PROJECT.format(gates=gates))
    with pytest.raises(InputError) as error:
        params.load(tmp_path / "params.yaml")
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_numbers_and_mappings_are_gates_and_stay_as_they_were_given(tmp_path):
    gates = "{accuracy: 0.9, macro_f1: {at_least: 0.8, above_baseline: 0}}"
    (tmp_path / "params.yaml").write_text(PROJECT.format(gates=gates))
    found = params.load(tmp_path / "params.yaml").evaluate
    assert found.gates == {"accuracy": 0.9, "macro_f1": Bounds(at_least=0.8, above_baseline=0)}
    assert found.model_dump()["gates"]["accuracy"] == 0.9


def test_other_rows_are_evaluated_without_the_baselines_of_the_training(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(PROJECT.format(gates="{macro_f1: {at_least: 0.8, above_baseline: 0.1}}"))
    evaluation, notes = read_gates([], file)
    assert evaluation.gates == {"macro_f1": 0.8}
    assert notes == ["above_baseline of macro_f1 is checked in trainings only"]
    file.write_text(PROJECT.format(gates="{macro_f1: {above_baseline: 0.1}}"))
    with pytest.raises(InputError, match="only trainings have baselines"):
        read_gates([], file)
    evaluation, notes = read_gates(["macro_f1>=0.7"], file)
    assert evaluation.gates == {"macro_f1": 0.7}
    assert notes == [f"--gate takes precedence: macro_f1 >= 0.7, not above_baseline as in {file}"]


def measured(actual, predicted, classes=("no", "yes")):
    signature = Signature.of("binary", (), classes)
    chances = np.eye(len(classes), dtype=np.float32)[predicted]
    return PROBLEMS["classification"].compute_metrics(
        signature, np.array(actual), {"probabilities": chances}, 15
    )


def test_a_model_of_a_single_class_is_refused_and_told_what_to_do():
    found = measured([0] * 94 + [1] * 6, [0] * 100)
    assert found.summary["accuracy"] == 0.94
    (gate,), warnings = check_single_class(found, allowed=False)
    assert not gate.passed
    assert warnings == []
    assert gate.refusal.startswith("every one of the 100 test rows is predicted as 'no'")
    assert "set train.imbalance: weights or sampler" in gate.refusal
    assert gate.refusal.endswith("To register it anyway: evaluate.single_class: allow")


def test_a_model_of_a_single_class_that_is_allowed_has_a_warning():
    found = measured([0, 1], [1, 1])
    gates, warnings = check_single_class(found, allowed=True)
    assert gates == []
    assert warnings == ["every one of the 2 test rows is predicted as 'yes'"]


@pytest.mark.parametrize(
    "metrics", [measured([0, 1], [1, 0]), Metrics(rows=3, headline=["r2"], summary={"r2": 1.0})]
)
def test_several_predicted_classes_and_numbers_are_not_a_single_class(metrics):
    assert check_single_class(metrics, allowed=False) == ([], [])


def test_the_explanation_of_a_gate_is_kept_and_others_have_none():
    gate = Gate("a", 1.0, ">= 2", False, "because")
    assert gate.as_dict()["explanation"] == "because"
    assert "explanation" not in replace(gate, explanation="").as_dict()


@pytest.mark.parametrize(("single_class", "passed"), [("refuse", False), ("allow", True)])
def test_export_refuses_a_model_that_predicts_one_class_whatever_its_other_gates_say(
    single_class, passed, tmp_path
):
    prepared = make_prepared(tmp_path / "p", "tabular", "binary", rare=True)
    for name in ("train", "validation", "test"):  # the columns say nothing about the class
        table = read_table(prepared, name)
        drawn = np.random.default_rng(1).permutation(len(table))
        target = table["target"].combine_chunks().take(pa.array(drawn))
        shuffled = table.drop_columns("target").append_column("target", target)
        write_split(shuffled, tmp_path / "new.arrow")
        (tmp_path / "new.arrow").replace(prepared / f"{name}.arrow")
    still = Train(
        architecture=Logistic(name="logistic"),
        epochs=3,
        device="cpu",
        optimizer=Optimizer(learning_rate=0.05),
    )
    checkpoint = tmp_path / "checkpoint"
    train(
        still,
        prepared=prepared,
        base=tmp_path / "base",
        checkpoint=checkpoint,
        history=tmp_path / "history.csv",
        resume=tmp_path / "resume",
        confirm=lambda: None,
    )
    found = Evaluate(gates={"log_loss": 100.0}, single_class=single_class, baseline=False)
    given = {name: tmp_path / name for name in ("checkpoint", "base", "repeats", "bundle")}
    export(Export(), found, prepared=prepared, **given)
    evaluation = Evaluation.read(Path(tmp_path / "bundle/evaluation.json"))
    assert evaluation.passed == passed
    assert any("is predicted as" in text for text in evaluation.refusals) == (not passed)
    assert bool(evaluation.warnings) == passed
