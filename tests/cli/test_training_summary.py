"""The summary of a training."""

from cli import output
from flows.outcome import Outcome

SIMPLE = {"name": "boosted trees", "quick": True, "rows": 9, "of": 90, "metrics": {"r2": 0.9}}


def shown(capsys, outcome):
    output.training(outcome)
    return [line for line in capsys.readouterr().err.splitlines() if line.strip()]


def outcome(**given):
    return Outcome(dataset="d", architecture="mlp", metrics={"r2": 0.8}, headline=["r2"], **given)


def test_a_better_baseline_is_the_first_line_of_the_summary(capsys):
    lines = shown(capsys, outcome(warnings=["R² is worse"], baselines=[SIMPLE]))
    assert lines[0].split() == ["warning", "R²", "is", "worse"]
    assert any("boosted trees: r2 0.9000 (9 of 90 training rows)" in line for line in lines)


def test_the_headline_metrics_have_their_intervals(capsys):
    lines = shown(capsys, outcome(intervals={"r2": (0.71, 0.86)}))
    assert lines[0].startswith("dataset")
    assert any("0.8000 [0.7100, 0.8600]  (ONNX Runtime, test split)" in line for line in lines)
