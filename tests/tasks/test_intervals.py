"""Bootstrap intervals of the headline metrics."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    mean_absolute_error,
    precision_score,
    r2_score,
    recall_score,
    roc_auc_score,
)

from tasks.bundle.evaluation import Evaluation, with_interval
from tasks.bundle.signature import Signature
from tasks.problems import PROBLEMS, Metrics
from tasks.problems.bootstrap import (
    DRAWS,
    DRAWS_OF_ROWS,
    MOST,
    interval,
    resampled_counts,
    resampled_sums,
)
from tasks.problems.class_draws import draw_classes
from tasks.problems.language_model import Scored as TextsScored
from tasks.problems.regression import Scored as RegressionScored

EARLIER = Path(__file__).parents[1] / "data/release_0_1/bundle/evaluation.json"
RNG = np.random.default_rng(2)
NUMBER = Signature.of("regression", (), ())


def classes(actual, predicted, count):
    signature = Signature.of("multiclass", (), tuple(f"c{i}" for i in range(count)))
    outputs = {"probabilities": np.eye(count, dtype=np.float32)[predicted]}
    return PROBLEMS["classification"].scored(signature, np.asarray(actual), outputs, 15)


def redrawn(problem, scored, seed):
    """The draws of the headline metrics of one model."""
    (drawn,) = PROBLEMS[problem].redrawn([scored], PROBLEMS[problem].headline, seed)
    return drawn


def plain_bootstrap(metric, *columns, draws=2000):
    """The interval, with the metric computed from the rows of each draw."""
    rows = RNG.integers(0, len(columns[0]), (draws, len(columns[0])))
    found = [metric(*(column[drawn] for column in columns)) for drawn in rows]
    return np.quantile(found, (0.025, 0.975))


@pytest.mark.parametrize("count", [2, 5])
def test_intervals_of_classes_agree_with_a_bootstrap_of_rows(count):
    actual = RNG.integers(0, count, 150)
    predicted = np.where(RNG.random(150) < 0.7, actual, RNG.integers(0, count, 150))
    drawn = redrawn("classification", classes(actual, predicted, count), 3)
    labels = np.arange(count)

    def macro(a, p):
        return f1_score(a, p, average="macro", labels=labels, zero_division=0)

    for name, metric in (("accuracy", accuracy_score), ("macro_f1", macro)):
        assert drawn[name].shape == (DRAWS,)
        expected = plain_bootstrap(metric, actual, predicted, draws=400)
        assert interval(drawn[name]) == pytest.approx(expected, abs=0.03)


def test_intervals_of_numbers_agree_with_a_bootstrap_of_rows():
    actual = 1e6 + RNG.normal(0, 5, 200)
    predicted = actual + RNG.normal(0, 2, 200)
    scored = PROBLEMS["regression"].scored(NUMBER, actual, {"prediction": predicted}, 15)
    drawn = redrawn("regression", scored, 3)
    for name, metric, within in (("r2", r2_score, 0.02), ("mae", mean_absolute_error, 0.05)):
        expected = plain_bootstrap(metric, actual, predicted, draws=500)
        assert interval(drawn[name]) == pytest.approx(expected, abs=within)


def test_a_perplexity_of_equal_texts_has_an_interval_of_one_value():
    outputs = {"log_likelihood": np.full(9, -6.0, np.float32), "scored": np.full(9, 3)}
    scored = PROBLEMS["language_model"].scored(None, None, outputs, 15)
    drawn = redrawn("language_model", scored, 0)
    assert interval(drawn["perplexity"]) == pytest.approx((np.exp(2), np.exp(2)))


ALL = {
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
    **{
        f"{average}_{name}": partial(score, average=average, labels=range(3), zero_division=0)
        for average in ("macro", "weighted")
        for name, score in (
            ("precision", precision_score),
            ("recall", recall_score),
            ("f1", f1_score),
        )
    },
}


@pytest.mark.parametrize("name", ALL)
def test_metrics_of_counted_classes_are_those_of_scikit_learn(name):
    actual, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])  # class 2 is absent
    (counts,) = draw_classes(actual, [predicted], 3, seed=1)
    found = counts.metrics()[name]
    cells = {(0, 0): 0, (0, 1): 1, (1, 0): 2, (1, 1): 3}
    drawn = resampled_counts(np.array([1, 1, 1, 2]), 1)
    for value, count in zip(found[:20], drawn, strict=False):
        pairs = [pair for pair, place in cells.items() for _ in range(count[place])]
        assert value == pytest.approx(ALL[name](*np.array(pairs).T))


@pytest.mark.parametrize("problem", ["classification", "regression", "language_model"])
def test_the_same_rows_are_drawn_for_all_models(problem):
    """Two models that are one are equal in every draw; one that is always better always wins."""
    if problem == "classification":
        actual = RNG.integers(0, 3, 60)
        poor = np.where(RNG.random(60) < 0.6, actual, RNG.integers(0, 3, 60))
        good = np.where(RNG.random(60) < 0.5, actual, poor)
        models = [classes(actual, predicted, 3) for predicted in (poor, good, poor)]
        name, sign = "accuracy", 1
    elif problem == "regression":
        actual, error = RNG.normal(0, 1, 60), RNG.normal(0, 1, 60)
        models = [RegressionScored(actual, actual + size * error) for size in (1, 0.9, 1)]
        name, sign = "rmse", -1
    else:
        likelihood, tokens = RNG.normal(-9, 1, 60), RNG.integers(2, 5, 60)
        models = [TextsScored(likelihood + more, tokens) for more in (0, 0.1, 0)]
        name, sign = "perplexity", -1
    poor, good, again = (drawn[name] for drawn in PROBLEMS[problem].redrawn(models, [name], 3))
    # A matrix product may add up equal columns in another order.
    np.testing.assert_allclose(poor, again, rtol=1e-12)
    assert (sign * good >= sign * poor).all()
    assert np.ptp(poor) > 0


def test_a_metric_of_probabilities_is_drawn_by_rows():
    signature = Signature.of("binary", (), ("no", "yes"))
    actual = RNG.integers(0, 2, 400)
    chance = np.clip(actual * 0.3 + RNG.random(400) * 0.7, 0.01, 0.99).astype(np.float32)
    outputs = {"probabilities": np.stack([1 - chance, chance], axis=1)}
    problem = PROBLEMS["classification"]
    scored = problem.scored(signature, actual, outputs, 15)
    (drawn,) = problem.redrawn([scored], ["roc_auc", "accuracy"], 0)
    assert (drawn["roc_auc"].shape, drawn["accuracy"].shape) == ((DRAWS_OF_ROWS,), (DRAWS,))
    expected = plain_bootstrap(roc_auc_score, actual, chance, draws=400)
    assert interval(drawn["roc_auc"]) == pytest.approx(tuple(expected), abs=0.03)


def test_one_row_one_class_and_equal_numbers_are_no_error():
    drawn = redrawn("classification", classes([1], [1], 2), 0)
    assert interval(drawn["accuracy"]) == (1.0, 1.0)
    assert interval(drawn["macro_f1"]) == (0.5, 0.5)
    scored = PROBLEMS["regression"].scored(NUMBER, np.ones(3), {"prediction": np.ones(3)}, 15)
    drawn = redrawn("regression", scored, 0)
    assert interval(drawn["r2"]) is None  # 0 / 0
    assert interval(drawn["mae"]) == (0.0, 0.0)


def test_many_rows_are_drawn_in_groups_and_the_spread_stays():
    rows = MOST * 3 + 7
    values = RNG.normal(0, 1, (rows, 1))
    sums = resampled_sums(np.column_stack([np.ones(rows), values]), 0)
    assert sums.shape == (DRAWS, 2)
    means = sums[:, 1] / sums[:, 0]
    assert means.std() == pytest.approx(1 / np.sqrt(rows), rel=0.15)


def test_the_same_seed_gives_the_same_draws():
    first, again, other = (
        np.array(list(resampled_counts(np.array([5, 3]), seed))) for seed in (1, 1, 2)
    )
    assert first.shape == (DRAWS, 2)
    assert (first == again).all()
    assert (first != other).any()
    assert (first.sum(axis=1) == 8).all()


def test_metrics_have_intervals_if_a_seed_is_given():
    signature = Signature.of("binary", (), ("no", "yes"))
    outputs = {"probabilities": np.eye(2, dtype=np.float32)[[0, 1, 1, 0]]}
    measure = PROBLEMS["classification"].compute_metrics
    assert measure(signature, np.array([0, 1, 0, 0]), outputs, 15).intervals == {}
    found = measure(signature, np.array([0, 1, 0, 0]), outputs, 15, seed=0)
    assert found.intervals.keys() == set(found.headline)
    low, high = found.intervals["accuracy"]
    assert 0 <= low < found.summary["accuracy"] <= high <= 1


def test_an_interval_is_shown_beside_its_metric():
    found = Metrics(3, ["r2"], {"r2": 0.5, "mae": 1.0}, intervals={"r2": (0.4, 0.61)})
    assert with_interval(found, "r2") == "0.5000 [0.4000, 0.6100]"
    assert with_interval(found, "mae") == "1.0000"


def test_an_evaluation_of_the_first_format_has_no_intervals():
    assert Evaluation.read(EARLIER).metrics.intervals == {}
