"""Estimates agree with scipy's tests and with simulation; comparisons pair seeds and images."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from stages.measure.records import Record
from stages.report.statistics import (
    ALPHA,
    CONFIDENCE,
    MOST_SEEDS,
    POWER,
    SIDES,
    Effect,
    Estimate,
    beats_mean_picture,
    bootstrapped,
    compare,
    compare_spreads,
    fisher,
    holm,
    mean_over_seeds,
    pooled_freedom,
    prediction_interval,
    seeds_to_find,
    student,
    t_interval,
)
from tests.made_records import IMAGES, Made, averaged, make, with_mean_picture

INFINITE = float("inf")
MARGIN = float(np.log(1.1))


@pytest.mark.parametrize("seed", range(12))
def test_intervals_and_p_values_over_seeds_are_those_of_the_paired_t_test(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 13))
    first, second = rng.normal(0.06 * (seed % 3), 0.05, n), rng.normal(0, 0.02, n)
    expected = stats.ttest_rel(first, second).confidence_interval(CONFIDENCE)
    assert t_interval(first - second, CONFIDENCE) == pytest.approx(tuple(expected), rel=1e-9)

    def p(alternative: str, shift: float = 0) -> float:
        return float(stats.ttest_rel(first + shift, second, alternative=alternative).pvalue)

    estimate = mean_over_seeds(first - second)
    assert {side: estimate.p(side, MARGIN) for side in {*SIDES["higher"], *SIDES["not lower"]}} == {
        "above": pytest.approx(2 * p("greater")),
        "below": pytest.approx(2 * p("less")),
        "equal": pytest.approx(max(p("greater", MARGIN), p("less", -MARGIN))),
        "not below": pytest.approx(p("greater", MARGIN)),
        "far below": pytest.approx(p("less", MARGIN)),
    }


def test_one_more_value_lies_where_the_t_test_does_not_tell_it_from_the_others():
    values = np.random.default_rng(0).normal(5.5, 0.1, 4)
    for end in prediction_interval(values, CONFIDENCE):
        assert stats.ttest_ind([end], values).pvalue == pytest.approx(1 - CONFIDENCE)


DRAWS = np.random.default_rng(0).normal(0.2, 0.1, 2000)


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (student(2, 0.5), stats.norm.interval(CONFIDENCE, loc=2, scale=0.5)),
        (student(2, 0.5, 4), stats.t.interval(CONFIDENCE, 4, loc=2, scale=0.5)),
        (fisher(3.0, 5, 8), np.log(3 / stats.f.ppf([0.975, 0.025], 5, 8)) / 2),
        (bootstrapped(DRAWS), np.quantile(DRAWS, [0.025, 0.975])),
    ],
)
def test_p_values_are_those_at_which_the_interval_excludes(estimate, expected):
    assert estimate.interval() == pytest.approx(tuple(expected))
    for confidence in (0.5, 0.9, CONFIDENCE):
        low, high = estimate.interval(confidence)
        assert 2 * estimate.at_most(low) == pytest.approx(1 - confidence, abs=2e-3)
        assert 2 * (1 - estimate.at_most(high)) == pytest.approx(1 - confidence, abs=2e-3)


def test_p_values_of_a_bootstrap_are_never_zero_and_a_tie_finds_nothing():
    assert bootstrapped(np.ones(1998)).p("above", MARGIN) == pytest.approx(2 / 2000)
    for estimate in (bootstrapped(np.zeros(2000)), student(0, 0.0)):
        assert estimate.p("above", MARGIN) == estimate.p("below", MARGIN) == 1
    for estimate in (bootstrapped(np.array([np.nan, 1])), student(1, np.nan)):
        assert estimate.interval() == (-INFINITE, INFINITE)
        assert min(estimate.p(side, MARGIN) for side in SIDES["higher"]) == 0.5


def test_holms_correction_is_his():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1] and holm([]) == []


@pytest.mark.parametrize("seeds", [3, 10])
def test_groups_of_the_same_spread_are_rarely_found_to_differ_whatever_their_models_spread(seeds):
    """Standard deviations of log errors like those of the models as released, last step."""
    rng = np.random.default_rng(0)
    groups = np.square([[0.018, 0.503, 0.515, 0.281], [0.035, 0.072, 0.029, 0.241]])
    groups /= groups.mean(1, keepdims=True)
    free = seeds - 1
    outside = {"pooled": [], "all": []}
    for one, two in groups * rng.chisquare(free, (4000, 2, 4)) / free:
        freedoms = {"pooled": [pooled_freedom(one, free), pooled_freedom(two, free)]}
        for kind, freedom in (freedoms | {"all": [4 * free, 4 * free]}).items():
            spread = fisher(one.mean() / two.mean(), *freedom)
            outside[kind].append(min(spread.p("above", 0), spread.p("below", 0)) <= ALPHA)
    assert np.mean(outside["pooled"]) == pytest.approx(ALPHA, abs=0.025)
    assert np.mean(outside["all"]) > 0.1, "as if they spread equally"


@pytest.mark.parametrize("deviation", [0.03, 0.08, 0.2])
def test_as_many_seeds_as_are_named_find_a_difference_as_large_as_the_margin(deviation):
    n = seeds_to_find(MARGIN, deviation)

    def found(n: int) -> float:
        draws = np.random.default_rng(n).normal(MARGIN, deviation, (20_000, n))
        p = stats.ttest_1samp(draws, 0, axis=1).pvalue
        return float(((p < ALPHA) & (draws.mean(1) > 0)).mean())

    assert found(n) > POWER - 0.01 and found(n - 1) < POWER + 0.01


def two(first: Made, second: Made) -> tuple[Record, Record]:
    """A recursive and a stacked model."""
    one, other = averaged({"recursive": first, "stacked": second}).values()
    return one, other


def errors(first: list[float], second: list[float]) -> Effect:
    return compare("error", *two(Made(first), Made(second)))


def test_the_ratio_of_errors_is_taken_seed_by_seed():
    one, two = np.array([200.0, 260.0, 240.0]), np.array([100.0, 110.0, 125.0])
    effect = errors(list(one), list(two))
    assert effect.values == pytest.approx(np.log(one / two))
    assert effect.seeds.interval() == pytest.approx(t_interval(effect.values, CONFIDENCE))
    assert (effect.first, effect.second) == pytest.approx((one.mean(), two.mean()))


def test_without_a_common_seed_or_a_measure_nothing_is_compared():
    one, other = two(Made([1.0, 2.0], settings={"seeds": [4, 5]}), Made([1.0, 2.0]))
    assert compare("error", one, other) is None
    assert compare("ms_ssim", *two(Made(), Made())) is None  # not measured


def test_images_are_compared_seed_by_seed_whatever_the_order_of_the_seeds():
    one, other = two(Made([100.0, 200, 400]), Made([800.0, 100, 50], settings={"seeds": [7, 0, 2]}))
    effect, expected = compare("error", one, other), np.log([100 / 100, 400 / 50])
    assert effect.values == pytest.approx(expected)
    low, high = effect.images.interval()
    assert low < expected.mean() < high < low + 0.5
    spreads = compare_spreads([one], [other], "seeds")
    assert np.exp(spreads.mean) == pytest.approx(np.log(4) / np.log(2), rel=1e-3)
    low, high = spreads.images.interval()
    assert low < spreads.mean < high


def test_a_single_image_says_nothing_of_others():
    """Its error is no sample of images, whatever the seeds say."""
    alone = []
    for record in two(Made([100.0, 101, 102]), Made([200.0, 202, 204])):
        measures = record.measures.copy()
        measures["standard_error"] = np.nan
        alone.append(replace(record, measures=measures, test_error=record.test_error[:, :1]))
    effects = [compare(measure, *alone) for measure in ("error", "ssim", "grid_ratio")]
    effects.append(compare_spreads(alone[:1], alone[1:], "seeds"))
    for effect in effects:
        assert effect.images.interval() == (-INFINITE, INFINITE)
        assert effect.is_("higher") is effect.is_("not lower") is None
        assert effect.seeds_needed.startswith("these images are too few to find a ")


def test_the_interval_over_images_is_that_of_paired_images():
    one, other = two(Made([100.0]), Made([100.0]))
    difference = np.log(one.test_error / other.test_error)[0]
    low, high = compare("error", one, other).images.interval()
    assert high - low == pytest.approx(2 * 1.96 * difference.std(ddof=1) / IMAGES**0.5, rel=0.25)
    assert high - low < np.log(one.test_error[0]).std() / IMAGES**0.5  # were they not paired


def test_the_input_is_the_reference_where_no_model_is():
    models = {"recursive_vae": Made(samples_found=0.3)}
    model, references = averaged(models)["recursive_vae"], make(models).references
    rate = compare("faces_found", model, references, "samples", factor=0.5)
    assert (rate.first, rate.second) == pytest.approx((0.3, 0.98))
    assert rate.mean == pytest.approx(0.3 - 0.5 * 0.98)
    assert "0.3 against 0.5 times 0.98, difference -0.190" in str(rate)
    blur = compare("high_frequency_ratio", model, references, factor=0.5)
    assert blur.mean == pytest.approx(np.log(0.2 / 0.5))


def test_rates_of_none_still_have_an_interval_over_images():
    models = averaged(dict.fromkeys(("recursive_vae", "stacked_vae"), Made(samples_found=0.0)))
    effect = compare("faces_found", *models.values(), "samples")
    assert effect.first == effect.second == effect.mean == 0
    low, high = effect.images.interval()
    assert low < 0 < high


@pytest.mark.parametrize(("factor", "answer"), [(2, True), (4, False)])
def test_the_factor_multiplies_the_reference_once(factor, answer):
    one, other = two(Made([300, 303, 306]), Made([100, 101, 102]))
    effect = compare("error", one, other, factor=factor)
    assert np.exp(effect.mean) == pytest.approx(3 / factor)
    assert effect.is_("higher") is answer
    assert effect.second == pytest.approx(101)


def within(low: float, high: float) -> Estimate:
    """A normal estimate with this interval."""
    return student((low + high) / 2, (high - low) / 2 / 1.96)


@pytest.mark.parametrize(
    ("seeds", "images", "higher", "lower", "not_lower"),
    [
        ((0.10, 0.30), (0.05, 0.40), True, False, True),
        ((-0.30, -0.10), (-0.40, -0.10), False, True, False),
        ((-0.30, -0.10), (-0.40, -0.05), False, True, None),  # by how much is not clear
        ((0.01, 0.02), (0.01, 0.02), True, False, True),  # by little, but for certain
        ((-0.02, -0.01), (-0.02, -0.01), False, True, True),
        ((-0.30, 0.30), (0.10, 0.20), None, None, None),
        ((0.10, 0.20), (-0.30, 0.30), None, None, None),
        ((-0.05, 0.06), (-0.02, 0.03), False, False, True),  # equal
        ((-0.05, 0.20), (-0.02, 0.03), None, None, True),
        ((-0.20, 0.05), (-0.02, 0.03), None, None, None),
        (None, (0.90, 1.10), None, None, None),  # one seed
    ],
)
def test_a_relation_is_found_where_both_estimates_show_it(seeds, images, higher, lower, not_lower):
    over_seeds = within(*seeds) if seeds else None
    effect = Effect(2.0, 1.0, 1.0, True, np.zeros(3), over_seeds, within(*images))
    answers = {"higher": higher, "lower": lower, "not lower": not_lower}
    for relation, answer in answers.items():
        assert effect.is_(relation) is answer
        side, p = effect.found(relation)
        assert (side is None) == (answer is None) == (p > ALPHA)
        if seeds and side:
            assert p == max(known.p(side, MARGIN) for known in (effect.seeds, effect.images))
    equal = "equal" in [effect.found(relation)[0] for relation in answers]
    factored = replace(effect, factor=2.0)  # equality is not asked for
    assert factored.is_("higher") is (None if equal else higher)


def test_one_seed_agrees_as_often_as_pairs_of_seeds_do():
    """As the rank-sum test counts them, ties as halves; a little lower is *not lower*."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(100, 109, 10), rng.integers(102, 109, 7)
    u = stats.mannwhitneyu(first, second).statistic
    effect = errors([float(x) for x in first], [float(x) for x in second])
    assert effect.agreement("higher") == pytest.approx(u / 70)
    assert effect.agreement("lower") == pytest.approx(1 - u / 70)
    assert errors([95.0, 105.0, 89.0], [100.0]).agreement("not lower") == pytest.approx(2 / 3)


def spread(mean: float, deviation: float) -> list[float]:
    """Three errors whose logarithms over 250 have exactly that mean and standard deviation."""
    return list(250 * np.exp([mean - deviation, mean, mean + deviation]))


def test_the_number_of_seeds_is_that_for_the_margin_whatever_difference_was_seen():
    for mean in (0.0, 0.02, 0.3):
        effect = errors(spread(mean, 0.15), [250.0] * 3)
        needed = seeds_to_find(MARGIN, 0.15)
        assert effect.seeds_needed == f"about {needed} seeds would find a factor of 1.1"
    wide = errors(spread(0.0, 0.5), [250.0] * 3)
    assert wide.seeds_needed.startswith(f"more than {MOST_SEEDS} seeds would be needed to find")
    ssim = compare("ssim", *two(Made(ssim=0.7), Made(ssim=0.69)))
    assert ssim.seeds_needed.endswith("to find a difference of 0.02")
    broken = errors([INFINITE, 250.0, 251.0], [250.0] * 3)
    assert broken.seeds_needed == "seeds diverged"


def test_a_reference_at_its_worst_cannot_be_exceeded():
    worst, fine = Made([INFINITE] * 3), Made([250.0, 251.0, 252.0])
    for first, second, answer in ((worst, fine, True), (fine, worst, False), (worst, worst, None)):
        effect = compare("error", *two(first, second), factor=2)
        assert effect.is_("higher") is answer
    assert effect.agreement("higher") == effect.agreement("lower") == 0.5
    assert effect.images.interval() == (0, 0)


@pytest.mark.parametrize("diverged", [1, 2, 8, 10])
def test_a_method_with_a_diverged_seed_is_never_found_better_equal_or_not_worse(diverged):
    """However much lower its other errors are; with most of its seeds gone it is the worse."""
    broken = [INFINITE] * diverged + [50.0 + k for k in range(10 - diverged)]
    whole = [250.0 + k for k in range(10)]
    effect, mirrored = errors(broken, whole), errors(whole, broken)
    assert effect.n == 10
    assert effect.is_("lower") is not True and mirrored.is_("not lower") is not True
    worse = True if diverged >= 8 else None
    assert effect.is_("higher") is mirrored.is_("lower") is worse
    assert effect.agreement("higher") == pytest.approx(diverged / 10)


def test_a_seed_that_diverged_counts_also_where_the_other_model_lacks_it():
    shorter, broken = [100.0, 101.0, 102.0], [50.0, 51.0, 52.0, INFINITE]
    effect, mirrored = errors(broken, shorter), errors(shorter, broken)
    assert effect.n == 3 and effect.mean < 0
    assert effect.is_("lower") is None
    assert errors([50.0, 51.0, 52.0, 53.0], shorter).is_("lower") is True
    assert mirrored.is_("higher") is None and mirrored.is_("not lower") is None


def test_measures_of_a_diverged_seed_are_the_worst_or_unknown():
    one, other = two(Made([INFINITE, 250, 251], ssim=0.9), Made([250, 251, 252]))
    effect = compare("ssim", one, other)
    assert effect.values == pytest.approx([-1.7, 0.2, 0.2])
    assert effect.is_("not lower") is None
    assert compare("grid_ratio", one, other) is None


@pytest.mark.parametrize(
    ("seeds", "better"),
    [
        ([250.0, 251.0], True),
        ([250.0, 2200.0, 251.0], True),  # the median seed counts
        ([2200.0, 2300.0], False),
        ([250.0, INFINITE, INFINITE], False),
    ],
)
def test_a_model_is_held_against_the_mean_picture(seeds, better):
    records, record = make({"stacked": Made(seeds)}), averaged({"stacked": Made(seeds)})["stacked"]
    assert beats_mean_picture(record, records.references) is None
    assert beats_mean_picture(record, with_mean_picture(records, 2100).references) is better


@pytest.mark.parametrize("over", ["seeds", "variants"])
def test_spreads_of_diverged_seeds_are_unknown(over):
    diverged, whole = two(Made([250, 300, INFINITE]), Made([1, 2, 3]))
    for pair in ([diverged], [whole]), ([whole], [diverged]), ([whole, diverged], [whole, whole]):
        assert compare_spreads(*pair, over) is None


def test_spreads_over_seeds_are_pooled_over_the_models():
    """With the degrees of freedom of Welch's t-test, from which Satterthwaite's can be told."""
    wide = two(Made([200, 250, 300, 310]), Made([240, 250, 260, 255]))
    narrow = two(Made([240, 243, 239, 238]), Made([240, 250, 231, 245]))
    effect = compare_spreads(wide, narrow, "seeds")
    variances, freedoms = [], []
    for group in (wide, narrow):
        logs = [np.log(record.test_error.mean(1)) for record in group]
        variances.append(np.mean([log.var(ddof=1) for log in logs]))
        freedoms.append(float(stats.ttest_ind(*logs, equal_var=False).df))
    (over, under), (above, below) = variances, freedoms
    assert np.exp(2 * effect.mean) == pytest.approx(over / under)
    assert effect.seeds.p("above", 0) == pytest.approx(2 * stats.f.sf(over / under, above, below))
    expected = over / under / stats.f.ppf([0.975, 0.025], above, below)
    assert np.exp(2 * np.array(effect.seeds.interval())) == pytest.approx(expected)
    assert effect.agreement("higher") is None
    assert effect.seeds_needed.startswith("more than")


def test_spreads_over_variants_are_compared_seed_by_seed():
    first = two(*(Made([100.0 * k, 110.0 * k, 105.0 * k]) for k in (1, 2)))
    second = two(*(Made([100.0 + k, 110.0 * k, 105.0 - 9 * k]) for k in (1, 2)))
    one, other = (
        np.log([record.test_error.mean(1) for record in group]).std(axis=0, ddof=1)
        for group in (first, second)
    )
    effect = compare_spreads(first, second, "variants")
    assert effect.values == pytest.approx(np.log(one / other), rel=1e-9)
