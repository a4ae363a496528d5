"""What two records say of one another: paired by seed and by image, in both kinds of intervals."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from stages.measure.records import Model, Record
from stages.report.statistics import (
    Effect,
    compare,
    compare_each_image,
    compare_spreads,
    seeds_to_be_equal,
    seeds_to_differ,
    seeds_to_spread_apart,
)
from tests.made_records import IMAGES, Made, make

INFINITE = float("inf")


def two(first: Made, second: Made) -> tuple[Record, Record]:
    """A recursive and a stacked model."""
    found = make({"recursive": first, "stacked": second}).found
    one, other = (found[Model(name, "described", "averaged")] for name in ("recursive", "stacked"))
    return one, other


def errors(first: list[float], second: list[float]) -> Effect:
    return compare("error", *two(Made(first), Made(second)))


def test_the_ratio_of_errors_is_taken_seed_by_seed():
    one, two = np.array([200.0, 260.0, 240.0]), np.array([100.0, 110.0, 125.0])
    effect = errors(list(one), list(two))
    assert effect.mean == pytest.approx(np.log(one / two).mean())
    expected = stats.ttest_rel(np.log(one), np.log(two)).confidence_interval(0.95)
    assert effect.seeds[0] == pytest.approx(tuple(expected))
    assert (effect.first, effect.second, effect.n) == pytest.approx((one.mean(), two.mean(), 3))


def test_only_the_seeds_that_both_have_are_compared():
    effect = errors([200, 220, 900, 900], [100, 110])
    assert effect.n == 2
    assert np.exp(effect.mean) == pytest.approx(2)


def test_without_a_common_seed_nothing_is_compared():
    one, other = two(Made([1.0, 2.0], settings={"seeds": [4, 5]}), Made([1.0, 2.0]))
    assert compare("error", one, other) is None


def test_images_are_compared_seed_by_seed_whatever_the_order_of_the_seeds():
    one, other = two(Made([100.0, 200, 400]), Made([800.0, 100, 50], settings={"seeds": [7, 0, 2]}))
    effect, expected = compare("error", one, other), np.log([100 / 100, 400 / 50])
    assert effect.values == pytest.approx(expected)
    low, high = effect.images[0]
    assert low < expected.mean() < high < low + 0.5
    mean, (low, high), _ = compare_each_image(one, other)
    assert low < mean < high and mean == pytest.approx(8**0.5, rel=0.05)
    spreads = compare_spreads([one], [other], "seeds")
    assert np.exp(spreads.mean) == pytest.approx(np.log(4) / np.log(2), rel=1e-3)
    low, high = spreads.images[0]
    assert low < spreads.mean < high


def test_a_single_image_says_nothing_of_others():
    """Its error is no sample of images, whatever the seeds say."""
    seeds = [100.0, 101, 102], [200.0, 202, 204]
    alone = []
    for record in two(*map(Made, seeds)):
        measures = record.measures.copy()
        measures["standard_error"] = np.nan
        alone.append(replace(record, measures=measures, test_error=record.test_error[:, :1]))
    effects = [compare(measure, *alone) for measure in ("error", "ssim", "grid_ratio")]
    effects.append(compare_spreads(alone[:1], alone[1:], "seeds"))
    for effect in effects:
        assert effect.images == ((-INFINITE, INFINITE),) * 2
        assert effect.side is None and effect.is_("not lower") is None
        assert effect.seeds_needed("higher") == "no number of seeds would decide on these images"
    _, interval, _ = compare_each_image(*alone)
    assert interval == (0, INFINITE)


def test_the_interval_over_images_is_that_of_paired_images():
    one, other = two(Made([100.0]), Made([100.0]))
    difference = np.log(one.test_error / other.test_error)[0]
    low, high = compare("error", one, other).images[0]
    assert high - low == pytest.approx(2 * 1.96 * difference.std(ddof=1) / IMAGES**0.5, rel=0.25)
    assert high - low < np.log(one.test_error[0]).std() / IMAGES**0.5  # were they not paired


def test_an_images_errors_are_compared_one_by_one():
    mean, (low, high), fraction = compare_each_image(*two(Made([200, 200]), Made([100, 100])))
    assert low < mean < high
    assert mean == pytest.approx(2, rel=0.01)
    assert fraction == 0


def test_the_input_is_the_reference_where_no_model_is():
    records = make({"recursive_vae": Made(samples_found=0.3), "stacked_vae": Made()})
    model = records.found[Model("recursive_vae", "described", "averaged")]
    rate = compare("faces_found", model, records.references, "samples", factor=0.5)
    assert (rate.first, rate.second) == pytest.approx((0.3, 0.98))
    assert rate.mean == pytest.approx(0.3 - 0.5 * 0.98)
    assert "0.3 against 0.5 times 0.98, difference -0.190" in str(rate)
    blur = compare("high_frequency_ratio", model, records.references, factor=0.5)
    assert blur.mean == pytest.approx(np.log(0.2 / 0.5))


def test_rates_of_none_still_have_an_interval_over_images():
    records = make({name: Made(samples_found=0.0) for name in ("recursive_vae", "stacked_vae")})
    one, other = (record for key, record in records.found.items() if key.weights == "averaged")
    effect = compare("faces_found", one, other, "samples")
    assert effect.first == effect.second == effect.mean == 0
    assert effect.images[0][0] < 0 < effect.images[0][1]


def test_what_was_not_measured_is_not_compared():
    assert compare("ms_ssim", *two(Made(), Made())) is None


def test_the_factor_multiplies_the_reference_once():
    one, other = two(Made([300, 303, 306]), Made([100, 101, 102]))
    for factor, answer in ((2, True), (4, False)):
        effect = compare("error", one, other, factor=factor)
        assert np.exp(effect.mean) == pytest.approx(3 / factor)
        assert effect.is_("higher") is answer
        assert effect.second == pytest.approx(101)


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
def test_a_relation_is_found_where_both_intervals_show_it(seeds, images, higher, lower, not_lower):
    values = np.full(3 if seeds else 1, np.mean(seeds or images))
    pair = (seeds, seeds) if seeds else None
    effect = Effect(2.0, 1.0, 1.0, True, values, pair, (images, images))
    assert effect.is_("higher") is higher
    assert effect.is_("lower") is lower
    assert effect.is_("not lower") is not_lower


def test_equality_is_not_asked_for_where_there_is_a_factor():
    near = (-0.01, 0.01)
    for factor, answer in ((1.0, False), (2.0, None)):
        effect = Effect(2.0, 1.0, factor, True, np.zeros(3), (near, near), (near, near))
        assert effect.is_("higher") is answer


def test_one_seed_agrees_that_a_model_is_not_lower_within_the_margin():
    effect = errors([95.0, 105.0, 89.0], [100.0])
    assert effect.agreement("higher") == pytest.approx(1 / 3)
    assert effect.agreement("lower") == pytest.approx(2 / 3)
    assert effect.agreement("not lower") == pytest.approx(2 / 3)  # 89 is more than 10 % lower


def test_one_seed_decides_nothing_however_large_the_difference():
    effect = errors([9000.0], [100.0])
    assert effect.is_("higher") is None
    assert "one seed" in effect.seeds_needed("higher")


def test_a_difference_around_the_margin_is_not_refused():
    """As often as not it would be, were any certain difference the opposite of *not lower*."""
    values = [-0.07, -0.08, -0.11, -0.09]
    effect = errors([float(np.exp(5 + value)) for value in values], [float(np.exp(5))] * 4)
    assert effect.is_("lower") is True and effect.is_("not lower") is None
    assert "about" in effect.seeds_needed("not lower")
    further = errors([float(np.exp(4.95 + value)) for value in values], [float(np.exp(5))] * 4)
    assert further.is_("not lower") is False


def test_a_reference_at_its_worst_cannot_be_exceeded():
    worst, fine = [INFINITE] * 3, [250.0, 251.0, 252.0]
    assert compare("error", *two(Made(worst), Made(worst)), factor=2).is_("higher") is None
    assert compare("error", *two(Made(worst), Made(fine)), factor=2).is_("higher") is True
    assert compare("error", *two(Made(fine), Made(worst)), factor=2).is_("higher") is False
    tie = compare("error", *two(Made(worst), Made(worst)), factor=2)
    assert tie.agreement("higher") == tie.agreement("lower") == 0.5
    assert tie.images[0] == (0, 0)


@pytest.mark.parametrize("diverged", [1, 2, 8, 10])
def test_a_method_with_a_diverged_seed_is_never_found_better_equal_or_not_worse(diverged):
    """However much lower its other errors are; with most of its seeds gone it is the worse."""
    broken = [INFINITE] * diverged + [50.0 + k for k in range(10 - diverged)]
    whole = [250.0 + k for k in range(10)]
    effect, mirrored = errors(broken, whole), errors(whole, broken)
    assert effect.n == 10
    assert effect.is_("lower") is not True
    assert effect.is_("higher") is not False
    assert mirrored.is_("not lower") is not True
    assert mirrored.is_("higher") is not True
    assert effect.is_("higher") is (True if diverged >= 8 else None)
    assert mirrored.is_("lower") is (True if diverged >= 8 else None)
    assert effect.agreement("higher") == pytest.approx(diverged / 10)


def test_a_seed_that_diverged_counts_also_where_the_other_model_lacks_it():
    shorter = Made([100.0 + k for k in range(3)])
    effect = errors([50.0, 51.0, 52.0, INFINITE], shorter.error)
    assert effect.n == 3 and effect.mean < 0
    assert effect.is_("lower") is None
    assert errors([50.0, 51.0, 52.0, 53.0], shorter.error).is_("lower") is True
    mirrored = errors(shorter.error, [50.0, 51.0, 52.0, INFINITE])
    assert mirrored.is_("higher") is None and mirrored.is_("not lower") is None


def test_a_method_with_a_diverged_seed_is_not_equal_to_one_without():
    values = [250.0 + k for k in range(10)]
    assert errors(values, values).side == "equal"
    assert errors([INFINITE, *values[1:]], values).side is None


def test_measures_of_a_diverged_seed_are_the_worst_or_unknown():
    one, other = two(Made([INFINITE, 250, 251], ssim=0.9), Made([250, 251, 252]))
    effect = compare("ssim", one, other)
    assert effect.values == pytest.approx([-1.7, 0.2, 0.2])
    assert effect.is_("not lower") is None
    assert compare("grid_ratio", one, other) is None


@pytest.mark.parametrize("over", ["seeds", "variants"])
def test_spreads_of_diverged_seeds_are_unknown(over):
    first = make({"recursive": Made([250, 300, INFINITE]), "recursive_bn": Made([1, 2, 3])})
    diverged, whole = (r for model, r in first.found.items() if model.weights == "averaged")
    for pair in ([diverged], [whole]), ([whole], [diverged]), ([whole, diverged], [whole, whole]):
        assert compare_spreads(*pair, over) is None


def test_spreads_over_seeds_have_the_interval_of_fishers_f():
    one, other = two(Made([200, 250, 300, 310]), Made([240, 250, 260, 255]))
    effect = compare_spreads([one], [other], "seeds")
    logs = [np.log(record.test_error.mean(1)) for record in (one, other)]
    ratio = logs[0].var(ddof=1) / logs[1].var(ddof=1)
    assert np.exp(2 * effect.mean) == pytest.approx(ratio)
    p = 2 * stats.f.sf(ratio, 3, 3)
    assert (effect.seeds[0][0] > 0) == (p < 0.05)
    edge = ratio / stats.f.ppf(0.975, 3, 3)
    assert np.exp(2 * effect.seeds[0][0]) == pytest.approx(edge)
    few = compare_spreads(
        *([record] for record in two(Made([200, 250, 300]), Made([240, 245, 265]))), "seeds"
    )
    assert few.is_("higher") is None
    needed = seeds_to_spread_apart(float(np.exp(2 * few.mean)), 1, 1)
    assert few.seeds_needed("higher") == f"about {needed} seeds would decide"


def test_spreads_over_seeds_are_pooled_over_the_models():
    """With the degrees of freedom of Welch's t-test, from which Satterthwaite's can be told."""
    made = {
        "recursive": Made([200, 250, 300, 310]),
        "recursive_bn": Made([240, 250, 260, 255]),
        "stacked": Made([240, 243, 239, 238]),
        "stacked_bn": Made([240, 250, 231, 245]),
    }
    found = {m.variant: r for m, r in make(made).found.items() if m.weights == "averaged"}
    effect = compare_spreads(
        [found["recursive"], found["recursive_bn"]],
        [found["stacked"], found["stacked_bn"]],
        "seeds",
    )
    logs = {name: np.log(record.test_error.mean(1)) for name, record in found.items()}
    (over, above), (under, below) = (
        (np.mean([logs[a].var(ddof=1), logs[b].var(ddof=1)]), welch(logs[a], logs[b]))
        for a, b in (("recursive", "recursive_bn"), ("stacked", "stacked_bn"))
    )
    assert np.exp(2 * effect.mean) == pytest.approx(over / under)
    for interval, tail in zip(effect.seeds, (0.975, 0.95), strict=True):
        low, high = np.exp(2 * np.array(interval))
        assert low == pytest.approx(over / under / stats.f.ppf(tail, above, below))
        assert high == pytest.approx(over / under * stats.f.ppf(tail, below, above))


def welch(one: np.ndarray, other: np.ndarray) -> float:
    return float(stats.ttest_ind(one, other, equal_var=False).df)


def test_spreads_over_variants_are_compared_seed_by_seed():
    made = {f"recursive{k}": Made([100.0 * k, 110.0 * k, 105.0 * k]) for k in (1, 2)}
    made |= {f"stacked{k}": Made([100.0 + k, 110.0 * k, 105.0 - 9 * k]) for k in (1, 2)}
    found = [record for model, record in make(made).found.items() if model.weights == "averaged"]
    recursive, stacked = found[:2], found[2:]
    values = [
        np.log(np.stack([record.test_error.mean(1) for record in half])).std(axis=0, ddof=1)
        for half in (recursive, stacked)
    ]
    effect = compare_spreads(recursive, stacked, "variants")
    assert effect.values == pytest.approx(np.log(values[0] / values[1]), rel=1e-9)


# The rule on many made runs: `spread` is the standard deviation over seeds of the log ratio.

SPREAD = 0.06


def answers(ratio: float, n: int, runs: int) -> list[Effect]:
    """Effects of `runs` pairs of methods whose errors are `ratio` apart, with `n` seeds."""
    one, other = two(Made([1.0] * n), Made([1.0] * n))
    rng = np.random.default_rng(n)
    effects = []
    for _ in range(runs):
        seed = rng.normal(np.log(250), 0.1, n)  # what a seed does to both
        apart = rng.normal(np.log(ratio), SPREAD, n)
        effects.append(
            compare("error", measured(one, np.exp(seed + apart)), measured(other, np.exp(seed)))
        )
    return effects


def measured(record: Record, errors: np.ndarray) -> Record:
    """The same but for its held-out error."""
    measures = record.measures.copy()
    measures.loc[("test", "error"), "value"] = errors
    return replace(record, measures=measures, test_error=record.test_error * errors[:, None])


def test_methods_that_are_the_same_are_found_to_differ_as_rarely_as_the_rule_says():
    effects = answers(1.0, n=10, runs=300)
    wrong = np.mean([effect.side in ("above", "below") for effect in effects])
    assert 0.025 < wrong < 0.07
    # ... and those at the margin to be equal no more often.
    effects = answers(1.1, n=10, runs=150)
    assert np.mean([effect.side == "equal" for effect in effects]) < 0.07


def test_methods_that_are_the_same_are_found_equal_with_the_seeds_that_the_rule_says():
    n = seeds_to_be_equal(0.0, SPREAD, float(np.log(1.1)))
    equal = np.mean([effect.not_below and effect.side == "equal" for effect in answers(1, n, 150)])
    assert equal > 0.7  # a few are found to differ instead


def test_a_difference_of_5_percent_is_found_with_the_seeds_that_the_rule_says():
    n = seeds_to_differ(np.log(1.05), SPREAD)
    found = np.mean([effect.is_("higher") is True for effect in answers(1.05, n, 150)])
    assert found == pytest.approx(0.8, abs=0.06)
    unclear = [effect for effect in answers(1.05, 4, 20) if effect.side is None]
    assert all("seeds would decide" in effect.seeds_needed("higher") for effect in unclear)
