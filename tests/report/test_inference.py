"""Intervals and counts of seeds agree with scipy's tests, and with what simulation finds."""

import numpy as np
import pytest
from scipy import stats

from stages.report.statistics import (
    CONFIDENCE,
    EQUALITY_CONFIDENCE,
    POWER,
    normal_interval,
    pooled_freedom,
    prediction_interval,
    probability_higher,
    seeds_to_be_equal,
    seeds_to_be_not_lower,
    seeds_to_differ,
    seeds_to_spread_apart,
    t_interval,
    variance_ratio_interval,
)

MARGIN = float(np.log(1.1))


def pairs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Log errors of two methods on the same seeds: 2 to 12 of them, the same or not."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 13))
    shared = rng.normal(5.5, 0.1, n)
    return shared + rng.normal(0.06 * (seed % 3), 0.05, n), shared + rng.normal(0, 0.02, n)


@pytest.mark.parametrize("seed", range(12))
def test_the_interval_is_that_of_the_paired_t_test(seed):
    first, second = pairs(seed)
    expected = stats.ttest_rel(first, second).confidence_interval(CONFIDENCE)
    assert t_interval(first - second, CONFIDENCE) == pytest.approx(tuple(expected), rel=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_equality_is_found_where_two_one_sided_tests_find_it(seed):
    first, second = pairs(seed)
    p = max(
        stats.ttest_rel(first + MARGIN, second, alternative="greater").pvalue,
        stats.ttest_rel(first - MARGIN, second, alternative="less").pvalue,
    )
    low, high = t_interval(first - second, EQUALITY_CONFIDENCE)
    assert (low > -MARGIN and high < MARGIN) == (p < 0.05)


def test_one_more_value_lies_where_the_t_test_does_not_tell_it_from_the_others():
    values = np.random.default_rng(0).normal(5.5, 0.1, 4)
    for end in prediction_interval(values, CONFIDENCE):
        assert stats.ttest_ind([end], values).pvalue == pytest.approx(1 - CONFIDENCE)


def test_one_seed_has_no_interval():
    assert t_interval([0.3], CONFIDENCE) is None
    assert prediction_interval([0.3], CONFIDENCE) is None


def test_a_normal_interval_is_scipys():
    expected = stats.norm.interval(0.9, loc=2, scale=0.5)
    assert normal_interval(2, 0.5, 0.9) == pytest.approx(expected)


def test_the_interval_of_a_ratio_of_variances_holds_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    one, two = rng.normal(0, 3, (4000, 6)), rng.normal(0, 1, (4000, 9))
    intervals = [
        variance_ratio_interval(ratio, 5, 8, CONFIDENCE)
        for ratio in one.var(axis=1, ddof=1) / two.var(axis=1, ddof=1)
    ]
    held = np.mean([low < 9 < high for low, high in intervals])
    assert held == pytest.approx(CONFIDENCE, abs=0.012)


@pytest.mark.parametrize("seeds", [3, 10])
def test_groups_of_the_same_spread_are_rarely_found_to_differ_whatever_their_models_spread(seeds):
    """Standard deviations of log errors like those of the models as released, last step."""
    rng = np.random.default_rng(0)
    groups = np.square([[0.018, 0.503, 0.515, 0.281], [0.035, 0.072, 0.029, 0.241]])
    groups /= groups.mean(1, keepdims=True)
    free = seeds - 1
    found = groups * rng.chisquare(free, (4000, 2, 4)) / free
    outside = {"pooled": 0, "all": 0}
    for one, two in found:
        freedoms = {"pooled": [pooled_freedom(one, free), pooled_freedom(two, free)]}
        for kind, freedom in (freedoms | {"all": [4 * free, 4 * free]}).items():
            low, high = variance_ratio_interval(one.mean() / two.mean(), *freedom, CONFIDENCE)
            outside[kind] += not low < 1 < high
    assert outside["pooled"] / len(found) == pytest.approx(1 - CONFIDENCE, abs=0.025)
    assert outside["all"] / len(found) > 0.1, "as if they spread equally"
    assert pooled_freedom([2, 2, 2], free) == pytest.approx(3 * free)
    assert pooled_freedom([9, 0, 0], free) == pytest.approx(free)


@pytest.mark.parametrize("ratio", [4.0, 0.25])
def test_the_seeds_that_spreads_need_find_them_apart_as_often_as_they_say(ratio):
    n = seeds_to_spread_apart(ratio, 3, 2)
    rng = np.random.default_rng(0)

    def found(seeds: int) -> float:
        over, under = 3 * (seeds - 1), 2 * (seeds - 1)
        one, two = (rng.chisquare(free, 4000) / free for free in (over, under))
        intervals = [variance_ratio_interval(r, over, under, CONFIDENCE) for r in ratio * one / two]
        return float(np.mean([low > 1 if ratio > 1 else high < 1 for low, high in intervals]))

    assert found(n - 1) < POWER + 0.02 and found(n) > POWER - 0.02
    assert found(n) - POWER < 0.1
    assert seeds_to_spread_apart(1.0, 3, 2) is None


def test_probability_of_improvement_is_that_of_the_rank_sum_test():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, 10), rng.integers(2, 9, 7)  # with ties
    u = stats.mannwhitneyu(first, second).statistic
    assert probability_higher(first, second) == pytest.approx(u / 70)


def found(what: str, mean: float, deviation: float, n: int) -> float:
    """How often `n` seeds find it in 20,000 made runs."""
    draws = np.random.default_rng(n).normal(mean, deviation, (20_000, n))
    confidence = CONFIDENCE if what == "difference" else EQUALITY_CONFIDENCE
    reach = stats.t.ppf((1 + confidence) / 2, n - 1) * draws.std(axis=1, ddof=1) / n**0.5
    low, high = draws.mean(1) - reach, draws.mean(1) + reach
    answers = {"difference": low > 0, "not lower": low > -MARGIN}
    answers["equality"] = answers["not lower"] & (high < MARGIN)
    return float(answers[what].mean())


SEEDS = {
    "difference": seeds_to_differ,
    "equality": lambda mean, deviation: seeds_to_be_equal(mean, deviation, MARGIN),
    "not lower": lambda mean, deviation: seeds_to_be_not_lower(mean, deviation, MARGIN),
}


@pytest.mark.parametrize(
    ("what", "mean", "deviation"),
    [
        ("difference", np.log(1.05), 0.03),
        ("difference", np.log(1.05), 0.08),
        ("difference", np.log(1.2), 0.1),
        ("equality", 0.0, 0.03),
        ("equality", 0.03, 0.05),
        ("equality", -0.05, 0.03),
        ("not lower", 0.02, 0.1),
        ("not lower", -0.04, 0.05),
    ],
)
def test_as_many_seeds_as_are_said_to_decide_do(what, mean, deviation):
    n = SEEDS[what](mean, deviation)
    assert found(what, mean, deviation, n) > POWER - 0.01
    assert found(what, mean, deviation, n - 1) < POWER + 0.01


def test_what_no_sensible_number_of_seeds_finds_has_none():
    assert seeds_to_differ(1e-4, 1.0) is None
    assert seeds_to_be_equal(0.2, 0.01, MARGIN) is None
    assert seeds_to_be_not_lower(-0.2, 0.01, MARGIN) is None
    assert seeds_to_differ(-0.1, 0.05) == seeds_to_differ(0.1, 0.05)
    assert seeds_to_differ(0.1, 0.0) == 2
