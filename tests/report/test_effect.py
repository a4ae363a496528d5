"""How many seeds an effect asks for, held to made effects of that many."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from stages.report.statistics import (
    CONFIDENCE,
    EQUALITY_CONFIDENCE,
    POWER,
    Effect,
    Interval,
    Side,
    t_interval,
)

RUNS = 2000


def made(
    values: np.ndarray, images: Interval, factor: float = 1.0, diverged: float = 0.0
) -> Effect:
    """Log ratios, one a seed; both intervals over images are the same."""
    wide, narrow = t_interval(values, CONFIDENCE), t_interval(values, EQUALITY_CONFIDENCE)
    return Effect(
        first=100.0,
        second=100.0,
        factor=factor,
        ratio=True,
        values=values,
        seeds=(wide, narrow) if wide and narrow else None,
        images=(images, images),
        diverged=(diverged, 0.0),
        better="lower",
    )


def spread(n: int, mean: float, deviation: float) -> np.ndarray:
    """n values of exactly that mean and standard deviation."""
    return mean + deviation * stats.zscore(np.arange(n), ddof=1)


@pytest.mark.parametrize(
    ("relation", "found", "mean", "deviation", "images", "factor"),
    [
        ("higher", "above", 0.07, 0.08, (0.06, 0.08), 1.0),  # equal takes more seeds
        ("higher", "below", -0.05, 0.08, (-0.06, -0.04), 1.0),
        ("lower", "below", -0.3, 0.4, (-0.4, -0.2), 1.0),
        ("higher", "above", 0.05, 0.08, (0.04, 0.06), 2.0),
        ("higher", "equal", 0.01, 0.08, (-0.02, 0.04), 1.0),
        ("lower", "equal", 0.01, 0.08, (-0.02, 0.04), 1.0),
        ("higher", "equal", 0.02, 0.06, (0.01, 0.03), 1.0),  # above takes more seeds
        ("not lower", True, 0.0, 0.15, (-0.05, 0.2), 1.0),
        ("not lower", True, -0.03, 0.06, (-0.06, -0.01), 1.0),
        ("not lower", False, -0.3, 0.3, (-0.4, -0.2), 1.0),
    ],
)
def test_as_many_seeds_as_would_decide_do(relation, found, mean, deviation, images, factor):
    """They answer as often as POWER says; with one less the likeliest finding comes less often."""
    told = made(spread(3, mean, deviation), images, factor).seeds_needed(relation)
    about, needed, *rest = told.split()
    assert (about, rest) == ("about", ["seeds", "would", "decide"])
    rng = np.random.default_rng(0)

    def runs(n: int) -> list[Effect]:
        return [made(values, images, factor) for values in rng.normal(mean, deviation, (RUNS, n))]

    def finding(effect: Effect) -> Side | bool | None:
        return effect.is_(relation) if relation == "not lower" else effect.side

    answers = [effect.is_(relation) is not None for effect in runs(int(needed))]
    assert np.mean(answers) > POWER - 0.03
    assert np.mean([finding(effect) == found for effect in runs(int(needed) - 1)]) < POWER + 0.03


@pytest.mark.parametrize(
    ("relation", "images", "factor"),
    [
        ("higher", (-0.2, 0.05), 1.0),  # neither apart nor within the margin
        ("higher", (-0.05, 0.2), 1.0),
        ("higher", (-0.02, 0.02), 2.0),  # equality is asked for a factor of 1 alone
        ("not lower", (-0.2, 0.1), 1.0),
    ],
)
def test_where_images_do_not_tell_no_number_of_seeds_does(relation, images, factor):
    effect = made(spread(3, 0.0, 0.1), images, factor)
    assert effect.seeds_needed(relation) == "no number of seeds would decide on these images"
    spreads = replace(effect, freedom=(1.0, 1.0))
    assert spreads.seeds_needed("higher") == "no number of seeds would decide on these images"


def test_what_is_not_decided_wants_more_seeds_than_there_are():
    """Other seeds that spread as these do would be as likely as not to decide with fewer."""
    effect = made(spread(20, 0.1, 0.1), (0.05, 0.15))
    assert effect.seeds_needed("higher") == "about 21 seeds would decide"


def test_seeds_that_would_have_to_be_too_many_are_not_counted():
    effect = made(spread(3, 0.001, 1.0), (0.0005, 0.0015), 2.0)
    assert effect.seeds_needed("higher") == "more than 1,000 seeds would decide"


def test_without_a_spread_over_seeds_no_number_is_told():
    images = (0.05, 0.15)
    assert "one seed" in made(np.array([0.1]), images).seeds_needed("higher")
    diverged = made(spread(3, 0.1, 0.1), images, diverged=1 / 3)
    assert diverged.seeds_needed("higher") == "a seed diverged"
