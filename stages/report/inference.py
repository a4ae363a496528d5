"""What a handful of seeds says about a method: intervals, equality, and how many would decide.

`values` are one paired difference a seed, (n,): of a method against another, zero where they are
the same.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtr, fdtri, nctdtr, stdtrit

CONFIDENCE = 0.95  # of an interval that a difference has to keep clear of zero
EQUALITY_CONFIDENCE = 0.90  # of the one that equality has to keep: two one-sided tests at 5 %
POWER = 0.8  # how likely "as many seeds as decide" are to decide
MOST_SEEDS = 1000  # more are not counted

Interval = tuple[float, float]


def t_interval(values: ArrayLike, confidence: float) -> Interval | None:
    """Student's interval of the mean; None for fewer than two values."""
    return _around_mean(values, confidence, more=0)


def prediction_interval(values: ArrayLike, confidence: float) -> Interval | None:
    """Where one more value would lie, by Student's t; None for fewer than two values."""
    return _around_mean(values, confidence, more=1)


def _around_mean(values: ArrayLike, confidence: float, more: int) -> Interval | None:
    """more: how many values' own variance comes to that of the mean."""
    values = np.asarray(values, np.float64)
    n = len(values)
    if n < 2:
        return None
    deviation = values.std(ddof=1) * (1 / n + more) ** 0.5
    reach = stdtrit(n - 1, (1 + confidence) / 2) * deviation
    return float(values.mean() - reach), float(values.mean() + reach)


def normal_interval(mean: float, standard_error: float, confidence: float) -> Interval:
    reach = float(stdtrit(np.inf, (1 + confidence) / 2)) * standard_error
    return mean - reach, mean + reach


def pooled_freedom(variances: ArrayLike, freedom: int) -> float:
    """Degrees of freedom of the mean of variances that have `freedom` of their own (Satterthwaite,
    1946): as many as all together where they are equal, those of one where it outweighs the others.
    """
    variances = np.asarray(variances, np.float64)
    return float(freedom * variances.sum() ** 2 / np.square(variances).sum())


def variance_ratio_interval(ratio: float, over: float, under: float, confidence: float) -> Interval:
    """Fisher's F: the interval of a ratio of two variances with `over` and `under` degrees of
    freedom, from the ratio that was seen."""
    tail = (1 + confidence) / 2
    return ratio / float(fdtri(over, under, tail)), ratio * float(fdtri(under, over, tail))


def probability_higher(first: ArrayLike, second: ArrayLike) -> float:
    """How likely a value of `first` is to lie above one of `second`: over all pairs of them, a tie
    counting half. Probability of improvement of Agarwal et al., 2021, where higher is better."""
    pairs = np.subtract.outer(np.asarray(first, np.float64), np.asarray(second, np.float64))
    return float((pairs > 0).mean() + (pairs == 0).mean() / 2)


def difference_power(mean: float, deviation: float, n: NDArray[np.int_]) -> NDArray[np.float64]:
    """How likely the paired t-test with `n` seeds is to find a difference, on its right side.

    mean and deviation: those of the difference over seeds; the test is two-sided.
    """
    critical = stdtrit(n - 1, (1 + CONFIDENCE) / 2)
    missed = nctdtr(n - 1, abs(mean) / deviation * np.sqrt(n), critical)
    return 1 - np.asarray(missed, np.float64)


def equality_power(
    mean: float, deviation: float, margin: float, n: NDArray[np.int_]
) -> NDArray[np.float64]:
    """How likely two one-sided t-tests with `n` seeds are to find the mean within ± `margin`.

    At least: as if the two could not fail together.
    """
    either = (margin_power(side * mean, deviation, margin, n) for side in (1, -1))
    return np.maximum(sum(either) - 1, 0)


def margin_power(
    mean: float, deviation: float, margin: float, n: NDArray[np.int_]
) -> NDArray[np.float64]:
    """How likely a one-sided t-test with `n` seeds is to find the mean above -`margin`."""
    critical = stdtrit(n - 1, (1 + EQUALITY_CONFIDENCE) / 2)
    missed = nctdtr(n - 1, (mean + margin) / deviation * np.sqrt(n), critical)
    return 1 - np.asarray(missed, np.float64)


def seeds_to_differ(mean: float, deviation: float) -> int | None:
    """The fewest seeds whose paired t-test finds the difference with POWER; None for too many.

    mean and deviation: as seen over the seeds there are.
    """
    n = np.arange(2, MOST_SEEDS + 1)
    return _fewest(n, difference_power(mean, deviation, n) if deviation else n > 1)


def spread_power(
    ratio: float, over: float, under: float, n: NDArray[np.int_]
) -> NDArray[np.float64]:
    """How likely Fisher's F with `n` seeds is to find a ratio of two variances, on its right side.

    over, under: degrees of freedom that each seed but the first gives to either.
    """
    if ratio < 1:
        ratio, over, under = 1 / ratio, under, over
    free = over * (n - 1), under * (n - 1)
    critical = fdtri(*free, (1 + CONFIDENCE) / 2)
    return 1 - np.asarray(fdtr(*free, critical / ratio), np.float64)


def seeds_to_spread_apart(ratio: float, over: float, under: float) -> int | None:
    """The fewest seeds that find this ratio of two variances with POWER; None for too many."""
    n = np.arange(2, MOST_SEEDS + 1)
    return _fewest(n, spread_power(ratio, over, under, n))


def seeds_to_be_equal(mean: float, deviation: float, margin: float) -> int | None:
    """The fewest seeds that find the mean within ± `margin` with POWER; None for too many."""
    n = np.arange(2, MOST_SEEDS + 1)
    if abs(mean) >= margin:
        return None
    return _fewest(n, equality_power(mean, deviation, margin, n) if deviation else n > 1)


def seeds_to_be_not_lower(mean: float, deviation: float, margin: float) -> int | None:
    """The fewest seeds that find the mean above -`margin` with POWER; None for too many."""
    n = np.arange(2, MOST_SEEDS + 1)
    if mean <= -margin:
        return None
    return _fewest(n, margin_power(mean, deviation, margin, n) if deviation else n > 1)


def _fewest(n: NDArray[np.int_], power: ArrayLike) -> int | None:
    enough = n[np.asarray(power) >= POWER]
    return int(enough[0]) if len(enough) else None
