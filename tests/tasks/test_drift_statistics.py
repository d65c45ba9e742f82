"""Distances between counts, and whether chance explains them, beside scipy and by simulation."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import chdtrc
from scipy.stats import binomtest, chi2_contingency, ks_2samp

from tasks.drift.bins import (
    MOST_LABELS,
    Bins,
    as_document,
    between_quantiles,
    of_document,
    of_frequent,
)
from tasks.drift.statistics import chi_square_tail, distances, holm, joined, rare
from tasks.measures import Measure

VALUE = Measure("value", lambda arrays: arrays["x"])
COMPUTED = Measure("value", lambda arrays: arrays["x"], computed=True)
NOW, THEN = np.array([60, 200, 240]), np.array([1_000, 1_000, 1_000])


def test_distances_are_those_of_scipy_and_of_the_textbook():
    found = distances(NOW, THEN, ordered=True)
    p, q = NOW / NOW.sum(), THEN / THEN.sum()
    assert found.psi == pytest.approx(((p - q) * np.log(p / q)).sum(), rel=0.02)
    assert found.js == pytest.approx(jensenshannon(p, q, base=2))
    values = [np.repeat([0.0, 1.0, 2.0], counts) for counts in (NOW, THEN)]
    assert found.ks == pytest.approx(ks_2samp(*values).statistic)
    expected = chi2_contingency(np.array([NOW, THEN]), correction=False)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert distances(NOW, THEN, ordered=False).ks is None
    apart = distances(np.array([9, 0]), np.array([0, 9]), ordered=True)
    assert (apart.js, apart.ks) == (1, 1)


@pytest.mark.parametrize("degrees", [1, 2, 3, 9, 12, 49, 50])
def test_chi_square_tail_is_that_of_scipy(degrees):
    for statistic in (0.0, 0.1, 3.0, 33.7, 200.0, 1_400.0):
        expected = chdtrc(degrees, statistic)
        assert chi_square_tail(statistic, degrees) == pytest.approx(expected, rel=1e-9)


def test_few_rows_are_compared_exactly():
    expected = binomtest(3, 5, 200 / 1_200, alternative="greater").pvalue
    assert rare(3, 200, 2, 1_000) == pytest.approx(2 * expected)
    assert rare(2, 1_000, 3, 200) == pytest.approx(2 * expected)
    assert rare(197, 200, 998, 1_000) == pytest.approx(2 * expected)  # of what nearly all have
    assert rare(0, 200, 0, 1_000) == 1
    # One row of 200, where 100,000 had none: chi-square would say 1e-100.
    assert distances(np.array([199, 1]), np.array([100_000, 0]), ordered=False).p > 0.003


def test_psi_without_any_change_is_as_large_as_its_mean_says():
    rng, n, m, bins = np.random.default_rng(1), 400, 700, 10
    found = [
        distances(
            rng.multinomial(n, [1 / bins] * bins),
            rng.multinomial(m, [1 / bins] * bins),
            ordered=True,
        )
        for _ in range(500)
    ]
    mean = (bins - 1) * (1 / n + 1 / m)
    assert np.mean([each.psi for each in found]) == pytest.approx(mean, rel=0.1)
    below = np.mean([each.p < 0.05 for each in found])
    assert 0.02 < below < 0.08


def test_bins_with_few_rows_are_joined_and_no_row_is_lost():
    now, then = np.array([1, 0, 3, 100, 1, 0]), np.array([2, 1, 2, 100, 0, 2])
    for ordered in (True, False):
        some, others = joined(now, then, ordered=ordered)
        assert (some.sum(), others.sum()) == (now.sum(), then.sum())
        assert len(some) < len(now)
        assert ((some + others) * 105 / (105 + 107) >= 5).all()


def test_holm_corrects_for_the_number_of_p_values():
    assert holm(np.array([0.04, 0.01, 0.03, 0.5])).tolist() == pytest.approx(
        [0.09, 0.04, 0.09, 0.5]
    )
    assert holm(np.array([])).tolist() == []


def test_nothing_is_different_without_rows():
    assert distances(np.array([0, 0]), np.array([3, 4]), ordered=True) == (0, 0, 0, 0, 1)


def test_quantile_bins_have_equal_rows_and_bins_for_what_is_beyond():
    values = np.random.default_rng(2).lognormal(size=10_000).astype(np.float32)
    bins = between_quantiles(values, VALUE)
    assert bins.count(values, VALUE).tolist() == [0, *[1_000] * 10, 0]
    beyond = np.array([values.min() / 2, values.max() * 2], np.float32)
    assert bins.count(beyond, VALUE).tolist() == [1, *[0] * 10, 1]


def test_few_distinct_values_have_a_bin_each():
    values = np.array([3.0, 1.0, 1.0, 2.0] * 50, np.float32)
    bins = between_quantiles(values, VALUE)
    assert bins.count(values, VALUE).tolist() == [0, 100, 50, 50, 0]
    constant = between_quantiles(np.array([50, 50, 50]), VALUE)
    assert constant.count(np.array([30, 50, 51, 52]), VALUE).tolist() == [1, 1, 2]


def test_a_frequent_value_has_a_bin_of_its_own():
    rng = np.random.default_rng(2)
    values = np.where(rng.random(5_000) < 0.4, 0, rng.normal(size=5_000)).astype(np.float32)
    bins = between_quantiles(values, VALUE)
    zeros = bins.count(np.zeros(7, np.float32), VALUE)
    own = int(zeros.argmax())
    assert zeros[own] == 7
    assert bins.count(values, VALUE)[own] == (values == 0).sum()


def test_rounding_moves_no_prediction_into_another_bin():
    rng = np.random.default_rng(2)
    of_few_kinds = rng.random(300).astype(np.float32)
    values = of_few_kinds[rng.integers(0, 300, 20_000)]
    bins = between_quantiles(values, COMPUTED)
    expected = bins.count(values, COMPUTED).tolist()
    for other in (np.nextafter(values, 0), np.nextafter(values, 1), values * np.float32(1 + 1e-6)):
        assert bins.count(other.astype(np.float32), COMPUTED).tolist() == expected
    exact = between_quantiles(values, VALUE)
    lower = exact.count(np.nextafter(values, 0), VALUE)
    assert lower.tolist() != exact.count(values, VALUE).tolist()


@pytest.mark.parametrize(
    "values",
    [
        np.array([3.4e38, -3.4e38, 3.4028235e38], np.float32),
        np.array([5, 5, 7], np.int64),
        np.array([0.1]),
        np.array([], np.float32),
        np.array([-0.0, 0.0, 1e-45], np.float32),
    ],
    ids=["huge", "whole", "one", "none", "tiny"],
)
def test_every_row_is_in_one_bin_also_after_the_way_through_json(values):
    for measure in (VALUE, COMPUTED):
        bins = between_quantiles(values, measure)
        counts = bins.count(values, measure)
        assert counts.sum() == len(values)
        again, same = of_document(as_document(bins, counts, 0.0))
        assert again == bins
        assert same.tolist() == counts.tolist()


@pytest.mark.parametrize("rows", [100, 10_000])
def test_each_way_of_counting_gives_the_same(rows):
    values = np.random.default_rng(rows).integers(0, 9, rows).astype(np.float32)
    bins = Bins(edges=(-1.0, 0.0, 2.5, 8.0, 9.0))
    expected = [
        ((values >= low) & (values < high)).sum()
        for low, high in zip([-9, *bins.edges], [*bins.edges, 99], strict=True)
    ]
    assert bins.count(values, VALUE).tolist() == expected


def test_labels_beyond_the_most_frequent_share_a_bin_with_unknown_ones():
    labels = tuple(f"l{number}" for number in range(MOST_LABELS + 20))
    measure = Measure("value", lambda arrays: arrays["x"], labels)
    places = np.repeat(np.arange(1, len(labels) + 1), np.arange(1, len(labels) + 1))
    bins = of_frequent(places, measure)
    assert bins.labels == labels[20:]
    counts = bins.count(np.array([0, 1, 21, 21]), measure)
    assert counts.sum() == 4
    assert (counts[0], counts[-1]) == (2, 2)
