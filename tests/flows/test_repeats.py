"""The verdict of a study: when a trial is better than the defaults."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flows.tuning.repeats import Repeated, best_of, decide
from flows.tuning.studies import Trial
from tasks.config import Params
from tasks.dataset import write_split

ROWS, LOOKED_AT = 200, 500
LN2 = float(np.log(2))


def params(task: str = "classification", imbalance: str = "none") -> Params:
    gates = {"classification": {"accuracy": 0.5}, "regression": {"r2": 0.1}}
    return Params.model_validate(
        {
            "prepare": {"source": {"kind": "digits"}, "task": task},
            "train": {"architecture": "mlp", "imbalance": imbalance},
            "evaluate": {"gates": gates[task]},
            "registration": {"name": "m"},
        }
    )


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Two classes, equally frequent; there is no test split."""
    for split in ("train", "validation"):
        labels = pa.array(["no", "yes"] * (ROWS // 2)).dictionary_encode()
        write_split(pa.table({"target": labels}), tmp_path / f"{split}.arrow")
    return tmp_path


def defaults(*losses: float) -> Repeated:
    return Repeated(None, {}, list(losses), [0.5] * 3)


def trial(*losses: float, number: int = 4, metric: float = 0.5) -> Repeated:
    return Repeated(number, {"train.epochs": 3}, list(losses), [metric] * 3)


def test_a_trial_wins_if_it_is_better_with_every_seed(prepared: Path):
    verdict = decide(
        [defaults(0.50, 0.52, 0.51), trial(0.40, 0.49, 0.41)], LOOKED_AT, prepared, params()
    )
    assert verdict.winner == 4
    assert "better than the defaults with every seed" in verdict.reason


def test_a_trial_that_one_seed_of_the_defaults_reaches_does_not_win(prepared: Path):
    verdict = decide(
        [defaults(0.50, 0.52, 0.41), trial(0.40, 0.42, 0.40)], LOOKED_AT, prepared, params()
    )
    assert verdict.winner is None
    assert verdict.reason.startswith("no better than the defaults: the validation losses")


def test_of_several_trials_the_lowest_mean_decides(prepared: Path):
    found = [
        defaults(0.6, 0.6, 0.6),
        trial(0.3, 0.5, 0.5, number=1),
        trial(0.4, 0.4, 0.4, number=2),
    ]
    assert decide(found, LOOKED_AT, prepared, params()).winner == 2


def test_with_random_labels_the_luckiest_model_does_not_win(prepared: Path):
    """The best of many models is a little better than guessing, with every seed."""
    lucky = LN2 - 0.03
    found = [defaults(0.75, 0.74, 0.76), trial(lucky, lucky, lucky)]
    verdict = decide(found, LOOKED_AT, prepared, params())
    assert verdict.winner is None
    assert "hardly better than one constant prediction" in verdict.reason
    learnt = LN2 - np.log(LOOKED_AT / 0.05) / ROWS - 0.001
    found = [defaults(0.75, 0.74, 0.76), trial(learnt, learnt, learnt)]
    assert decide(found, LOOKED_AT, prepared, params()).winner == 4


def test_class_weights_count_in_the_constant_prediction(tmp_path: Path):
    labels = pa.array(["no"] * 190 + ["yes"] * 10).dictionary_encode()
    for split in ("train", "validation"):
        write_split(pa.table({"target": labels}), tmp_path / f"{split}.arrow")
    # Without weights, one constant prediction reaches 0.199; with them, log(2).
    found = [defaults(0.75, 0.74, 0.76), trial(0.6, 0.6, 0.6)]
    assert decide(found, LOOKED_AT, tmp_path, params()).winner is None
    assert decide(found, LOOKED_AT, tmp_path, params(imbalance="weights")).winner == 4


def test_of_numbers_the_share_of_the_variance_decides(tmp_path: Path):
    values = pa.array(np.random.default_rng(0).normal(size=ROWS))
    write_split(pa.table({"target": values}), tmp_path / "validation.arrow")
    for r2, winner in ((0.02, None), (0.3, 4)):
        found = [defaults(1.2, 1.2, 1.2), trial(0.9, 0.9, 0.9, metric=r2)]
        assert decide(found, LOOKED_AT, tmp_path, params("regression")).winner == winner


def test_only_complete_trials_with_a_finite_loss_are_repeated():
    def one(number: int, state: str, loss: float | None) -> Trial:
        return Trial(number, number, state, {}, loss, {}, None, 1.0, "", 1)

    found = [
        one(0, "complete", 0.3),
        one(1, "pruned", None),
        one(2, "complete", float("inf")),
        one(3, "complete", 0.1),
        one(4, "failed", None),
        one(5, "complete", 0.2),
        one(6, "complete", 0.4),
    ]
    assert [trial.number for trial in best_of(found)] == [3, 5, 0]
