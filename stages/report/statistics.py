"""What numbers say: how far two models are apart, how sure that is, how many seeds would find it.

Two models differ by one value a seed. Two estimates say how sure the mean of these values is: over
further seeds, and over further images. A finding needs both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtr, fdtri, nctdtr, stdtr, stdtrit

from stages.measure import statistics
from stages.measure.measures import MEASURES, Measure
from stages.measure.records import Record, References

ALPHA = 0.05  # the largest p-value of a finding
CONFIDENCE = 1 - ALPHA  # of an interval that excludes zero where a two-sided test does
EQUAL_RATIO, EQUAL_DIFFERENCE = 1.1, 0.02  # the margins: two values that are closer are equal
POWER = 0.8  # how likely as many seeds as the report names are to find a difference
MOST_SEEDS = 100  # no larger number of seeds is named
DRAWS = 2000  # bootstrap draws of the held-out images

Interval = tuple[float, float]
Array = NDArray[np.float64]
Over = Literal["variants", "seeds"]
Relation = Literal["higher", "lower", "not lower"]
Side = Literal["above", "below", "equal", "not below", "far below"]

# What answers a question: the first with yes, the others with no. The null hypotheses of a question
# exclude each other (no difference; one beyond the margin), so that they need no correction.
SIDES: dict[Relation, tuple[Side, ...]] = {
    "higher": ("above", "below", "equal"),
    "lower": ("below", "above", "equal"),
    "not lower": ("not below", "far below"),
}


def number(value: float) -> str:
    """Three significant digits, without an exponent for the errors of this project."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Estimate:
    """How sure a value is.

    at_most: of a number, the p-value of "the true value is at most this". quantile: its inverse.
    """

    at_most: Callable[[float], float]
    quantile: Callable[[float], float]

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        return self.quantile((1 - confidence) / 2), self.quantile((1 + confidence) / 2)

    def p(self, side: Side, margin: float) -> float:
        """The p-value of finding the true value on that side of zero, or of the margin."""
        return {
            "above": 2 * self.at_most(0),
            "below": 2 * (1 - self.at_most(0)),
            "equal": max(self.at_most(-margin), 1 - self.at_most(margin)),
            "not below": self.at_most(-margin),
            "far below": 1 - self.at_most(-margin),
        }[side]


def student(mean: float, error: float, freedom: float = np.inf) -> Estimate:
    """By Student's t; normal without `freedom`. A standard error of nan leaves everything open."""
    error = max(error, 1e-300) if np.isfinite(error) else np.inf
    return Estimate(
        lambda x: float(stdtr(freedom, (x - mean) / error)),
        lambda q: mean + error * float(stdtrit(freedom, q)),
    )


def fisher(ratio: float, over: float, under: float) -> Estimate:
    """The logarithm of a ratio of standard deviations, by Fisher's F.

    ratio: of the two variances, as seen. over, under: their degrees of freedom.
    """
    return Estimate(
        lambda x: float(fdtr(under, over, np.exp(2 * x) / ratio)),
        lambda q: float(np.log(ratio * fdtri(under, over, q)) / 2),
    )


def bootstrapped(draws: Array) -> Estimate:
    """By the quantiles of the draws; nan among them leaves everything open."""
    if np.isnan(draws).any():
        return student(0, np.nan)

    def at_most(x: float) -> float:
        below = (draws < x).sum() + (draws == x).sum() / 2
        return float((below + 1) / (len(draws) + 2))  # a p-value of 0 would need endless draws

    return Estimate(at_most, lambda q: float(np.quantile(draws, q)))


def mean_over_seeds(values: ArrayLike, more: int = 0) -> Estimate | None:
    """The mean of paired differences, one a seed (n,); None for fewer than two.

    more: how many times the variance of a single value is added to that of the mean.
    """
    values = np.asarray(values, np.float64)
    n = len(values)
    if n < 2:
        return None
    return student(float(values.mean()), float(values.std(ddof=1) * (1 / n + more) ** 0.5), n - 1)


def t_interval(values: ArrayLike, confidence: float) -> Interval | None:
    """Student's interval of the mean; None for fewer than two values."""
    estimate = mean_over_seeds(values)
    return estimate.interval(confidence) if estimate else None


def prediction_interval(values: ArrayLike, confidence: float) -> Interval | None:
    """Where one more value would lie, by Student's t; None for fewer than two values."""
    estimate = mean_over_seeds(values, more=1)
    return estimate.interval(confidence) if estimate else None


def pooled_freedom(variances: ArrayLike, freedom: int) -> float:
    """Degrees of freedom of the mean of variances that have `freedom` each (Satterthwaite, 1946).

    As many as all together where the variances are equal; those of one where it outweighs the rest.
    """
    variances = np.asarray(variances, np.float64)
    return float(freedom * variances.sum() ** 2 / np.square(variances).sum())


def seeds_to_find(difference: float, deviation: float) -> int | None:
    """The fewest seeds whose paired t-test finds so large a difference with POWER.

    deviation: the standard deviation, above 0, of the difference over seeds. None for more than
    MOST_SEEDS.
    """
    n = np.arange(2, MOST_SEEDS + 1)
    critical = stdtrit(n - 1, (1 + CONFIDENCE) / 2)
    missed = nctdtr(n - 1, difference / deviation * np.sqrt(n), critical)
    enough = n[1 - missed >= POWER]
    return int(enough[0]) if len(enough) else None


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for how many they are (Holm, 1979), in the order given."""
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    steps = np.arange(len(p), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p)[order] * steps), 1)
    return [float(each) for each in adjusted]


class Compared(NamedTuple):
    """How two models compare: a ratio or difference, its CONFIDENCE interval over seeds, and how
    many these are."""

    value: float
    low: float
    high: float
    n: int


def ratio(mean: float, interval: Interval, n: int, factor: float = 1.0) -> Compared:
    """Of natural logarithms, times `factor`."""
    value, low, high = factor * np.exp([mean, *interval])
    return Compared(float(value), float(low), float(high), n)


@dataclass(frozen=True)
class Effect:
    """How far `first` lies above (below 0: under) `factor` times `second`, seed by seed.

    first, second: means over the common seeds. values: a difference a seed, natural logarithms of
    ratios where `ratio`. seeds, images: how sure their mean is over further seeds, None over a
    single one, and over further images. pairs: the difference of every seed of the first to every
    one of the second, None for a spread. only: the side of the model of which more seeds diverged;
    no other finding is possible.
    """

    first: float
    second: float
    factor: float
    ratio: bool
    values: Array
    seeds: Estimate | None
    images: Estimate
    pairs: Array | None = None
    only: Side | None = None

    @property
    def n(self) -> int:
        """Seeds compared."""
        return len(self.values)

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def compared(self) -> Compared | None:
        """The two models' values, the factor of a ratio undone; None over a single seed."""
        if self.seeds is None:
            return None
        if self.ratio:
            return ratio(self.mean, self.seeds.interval(), self.n, self.factor)
        return Compared(self.mean, *self.seeds.interval(), self.n)

    @property
    def margin(self) -> float:
        """What is no difference, either way."""
        return float(np.log(EQUAL_RATIO)) if self.ratio else EQUAL_DIFFERENCE

    def p(self, side: Side) -> float:
        """The larger p-value, of seeds and images; 1 where the side cannot be found."""
        possible = {"above": ("above", "not below"), "below": ("below", "far below")}
        if self.only:
            excluded = side not in possible[self.only]
        else:
            excluded = side == "equal" and self.factor != 1
        if self.seeds is None or excluded:
            return 1.0
        return min(1.0, max(known.p(side, self.margin) for known in (self.seeds, self.images)))

    def found(self, relation: Relation) -> tuple[Side | None, float]:
        """The side that answers whether the first stands in that relation to the second, None where
        none is found, and its p-value or the smallest."""
        p = {side: self.p(side) for side in SIDES[relation]}
        sides = [side for side in p if p[side] <= ALPHA]
        return (sides[0], p[sides[0]]) if sides else (None, min(p.values()))

    def is_(self, relation: Relation) -> bool | None:
        """Whether the first stands in that relation to the second; None: not decided."""
        side, _ = self.found(relation)
        return None if side is None else side == SIDES[relation][0]

    def agreement(self, relation: Relation) -> float | None:
        """How likely one seed of either is to show the relation, a tie counting half; None for a
        spread. Probability of improvement of Agarwal et al., 2021, where higher is better."""
        if self.pairs is None:
            return None
        apart = -self.pairs if relation == "lower" else self.pairs
        limit = -self.margin if relation == "not lower" else 0
        return float((apart > limit).mean() + (apart == limit).mean() / 2)

    @property
    def seeds_needed(self) -> str:
        """How many seeds would find a difference as large as the margin, in words."""
        if self.seeds is None:
            return "one seed decides nothing about a method"
        if self.only:
            return "seeds diverged"
        what = f"a factor of {EQUAL_RATIO:g}" if self.ratio else f"a difference of {self.margin:g}"
        low, high = self.images.interval()
        if high - low > 2 * self.margin:
            return f"these images are too few to find {what}"
        # A spread over seeds is a single value: to find this factor by F takes hundreds of seeds.
        deviation = float(self.values.std(ddof=1))
        needed = seeds_to_find(self.margin, deviation) if deviation else None
        if needed is None:
            return f"more than {MOST_SEEDS} seeds would be needed to find {what}"
        return f"about {needed} seeds would find {what}"

    def interval(self, over: Estimate) -> str:
        return " to ".join(self._value(end) for end in over.interval())

    @property
    def estimate(self) -> str:
        """The mean, and its interval over seeds where there are several."""
        seeds = self.interval(self.seeds) if self.seeds else "one seed"
        return f"{self._value(self.mean)} ({seeds})"

    def _value(self, value: float) -> str:
        return number(float(np.exp(value))) if self.ratio else f"{value:+.3f}"

    def __str__(self) -> str:
        times = f"{self.factor:g} times " if self.factor != 1 else ""
        kind = "ratio" if self.ratio else "difference"
        seeds = f"{self.interval(self.seeds)} over {self.n} seeds" if self.seeds else "one seed"
        return (
            f"{number(self.first)} against {times}{number(self.second)}, {kind} "
            f"{self._value(self.mean)} ({seeds}; {self.interval(self.images)} over images)"
        )


def common_seeds(*records: Record) -> list[int]:
    return sorted(set.intersection(*(set(record.seeds) for record in records)))


def compare(
    measure: str,
    first: Record,
    second: Record | References,
    split: str = "test",
    factor: float = 1.0,
) -> Effect | None:
    """`measure` of `first` against `factor` times that of `second`; None where that is not known.

    Against References it is the input's: 1 for a ratio, which is one to the input already. A seed
    that diverged has the worst value there is; where a measure has none, it cannot be compared.
    """
    compared, size = MEASURES[measure], first.size
    if size < compared.smallest:
        return None
    one = _measured(first, compared, split)
    if isinstance(second, Record):
        seeds, other = common_seeds(first, second), _measured(second, compared, split)
    else:
        seeds, other = first.seeds, dict.fromkeys(first.seeds, _of_input(second, compared))
    if not seeds or not {*seeds} <= {*one} & {*other}:
        return None
    ratio = compared.comparison == "ratio"
    if ratio and min(value for value, _ in (*one.values(), *other.values())) <= 0:
        return None
    most = (compared.better == "lower" and compared.worst_of(size)) or np.inf
    scaled = np.log if ratio else np.asarray

    value, error = np.array([one[seed] for seed in seeds]).T
    reference, reference_error = np.array([other[seed] for seed in seeds]).T
    target, target_error = np.minimum(factor * reference, most), factor * reference_error
    values = scaled(value) - scaled(target)
    if measure == "error" and split == "test" and isinstance(second, Record):
        targets = np.minimum(factor * _errors(second, seeds), most)
        images = _over_images(_errors(first, seeds), targets)
    else:
        if ratio:
            error, target_error = error / value, target_error / target
        # The seeds share their images, so averaging over seeds does not narrow this interval.
        images = student(float(values.mean()), float((error**2 + target_error**2).mean() ** 0.5))
    singles, targets = (np.array([v for v, _ in each.values()]) for each in (one, other))
    return Effect(
        first=float(value.mean()),
        second=float(reference.mean()),
        factor=factor,
        ratio=ratio,
        values=values,
        seeds=mean_over_seeds(values),
        images=images,
        pairs=np.subtract.outer(scaled(singles), scaled(np.minimum(factor * targets, most))),
        only=_only(first, second, compared) if isinstance(second, Record) else None,
    )


def beats_mean_picture(record: Record, references: References) -> bool | None:
    """Whether the held-out error of the median seed is lower than that of the mean training
    picture; None where the latter was not measured."""
    if ("mean", "error") not in references.measures.index:
        return None
    errors = record.per_seed("error")["value"]
    return bool(errors.median() < references.measures["value"]["mean", "error"])


def compare_spreads(first: Sequence[Record], second: Sequence[Record], over: Over) -> Effect | None:
    """How far the errors of `first` spread compared with those of `second`.

    over "variants": standard deviation of the log error over the models, seed by seed; over
    "seeds": over the seeds, pooled over the models, with the interval of Fisher's F. None where the
    seeds they have in common are fewer than two, or one of them diverged.
    """
    records = [*first, *second]
    seeds = common_seeds(*records)
    if len(seeds) < 2 or any(seed in record.diverged for record in records for seed in seeds):
        return None

    def variances(models: Sequence[Record], weights: Array) -> Array:
        """Of log errors: (draws, seeds) over variants, (draws, models) over seeds."""
        errors = [weights @ _errors(model, seeds) / weights.shape[1] for model in models]
        axis = 2 if over == "variants" else 1
        return np.asarray(np.log(np.stack(errors, axis=2)).var(axis=axis, ddof=1), np.float64)

    def spread(found: Array) -> Array:
        """(draws, seeds) over variants; (draws, 1) over seeds."""
        pooled: Array = np.sqrt(found if over == "variants" else found.mean(1, keepdims=True))
        return pooled

    images = first[0].test_error.shape[1]
    seen = [variances(models, np.ones((1, images))) for models in (first, second)]
    one, two = (spread(found)[0] for found in seen)
    values = np.log(one / two)
    if over == "variants":
        estimate = mean_over_seeds(values)
    else:
        free = [pooled_freedom(found, len(seeds) - 1) for found in seen]
        estimate = fisher(float(one[0] / two[0]) ** 2, *free)
        values = values.repeat(len(seeds))
    weights = _bootstrap_weights(images)
    drawn = [spread(variances(models, weights)) for models in (first, second)]
    return Effect(
        first=float(one.mean()),
        second=float(two.mean()),
        factor=1.0,
        ratio=True,
        values=values,
        seeds=estimate,
        images=bootstrapped(np.log(drawn[0] / drawn[1]).mean(1)),
    )


Measured = tuple[float, float]  # value, standard error


def _measured(record: Record, measure: Measure, split: str) -> dict[int, Measured]:
    """A measure by seed; the worst there is, where there is one, of a seed that diverged."""
    rows = record.per_seed(measure.name, split)
    measured = {}
    for seed, value, error, n in rows.itertuples():
        if seed in record.diverged or not np.isfinite(value):
            continue
        # None or all of n prove no rate of exactly 0 or 1.
        if measure.statistic is statistics.fraction:
            fraction = (value * n + 1) / (n + 2)
            error = (fraction * (1 - fraction) / n) ** 0.5
        measured[int(seed)] = (float(value), float(error))
    if (worst := measure.worst_of(record.size)) is not None:
        measured |= dict.fromkeys(record.diverged, (worst, 0.0))
    return measured


def _of_input(references: References, measure: Measure) -> Measured:
    if measure.comparison == "ratio":
        return 1.0, 0.0
    row = references.measures.xs("input")
    return float(row["value"][measure.name]), float(row["standard_error"][measure.name])


def _only(first: Record, second: Record, measure: Measure) -> Side | None:
    """The side of the model of which a larger part of all seeds diverged, wherever they are."""
    one, other = (len(record.diverged) / len(record.seeds) for record in (first, second))
    if one == other or measure.better is None:
        return None
    return "above" if (one > other) == (measure.better == "lower") else "below"


def _errors(record: Record, seeds: list[int]) -> Array:
    """Error of each held-out image: (images, seeds); the worst there is for a diverged seed."""
    rows = [record.seeds.index(seed) for seed in seeds]
    errors: Array = record.test_error[rows].T.astype(np.float64)
    errors[~np.isfinite(errors)] = MEASURES["error"].worst_of(record.size)
    return errors


def _over_images(one: Array, two: Array) -> Estimate:
    """Of the mean over seeds of the log ratio of two mean errors; both (images, seeds)."""
    weights = _bootstrap_weights(len(one))
    sums = np.hsplit(weights @ np.hstack([one, two]), 2)
    return bootstrapped(np.log(sums[0] / sums[1]).mean(1))


@lru_cache
def _bootstrap_weights(images: int) -> Array:
    """How often each image is drawn: (DRAWS, images), every row summing to `images`; nan where
    there is but one."""
    if images < 2:
        return np.full((DRAWS, images), np.nan)
    fraction = np.full(images, 1 / images)
    return np.random.default_rng(0).multinomial(images, fraction, size=DRAWS).astype(np.float64)
