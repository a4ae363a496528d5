"""One measure of one model against that of another, as an effect with its intervals."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from stages.measure.measures import MEASURES, Measure
from stages.measure.records import Record, References
from stages.measure.statistics import fraction as fraction_of
from stages.report.effect import EQUAL_DIFFERENCE, EQUAL_RATIO, Array, Effect
from stages.report.inference import (
    CONFIDENCE,
    EQUALITY_CONFIDENCE,
    Interval,
    normal_interval,
    pooled_freedom,
    probability_higher,
    t_interval,
    variance_ratio_interval,
)

DRAWS = 2000  # bootstrap draws of the held-out images
UNKNOWN: Interval = (-np.inf, np.inf)  # over images: a single one does not tell how they differ

Over = Literal["variants", "seeds"]


def common_seeds(*records: Record) -> list[int]:
    return sorted(set.intersection(*(set(record.seeds) for record in records)))


def compare(
    measure: str,
    first: Record,
    second: Record | References,
    split: str = "test",
    factor: float = 1.0,
) -> Effect | None:
    """`measure` of `first` against `factor` times that of `second`; None where that cannot be told.

    Against References it is the input's: 1 for a ratio, which is one to the input already. A seed
    that diverged has the worst value there is; where a measure has none, it cannot be compared.
    """
    told = MEASURES[measure]
    one = _measured(first, told, split)
    if isinstance(second, Record):
        seeds, other = common_seeds(first, second), _measured(second, told, split)
    else:
        seeds, other = first.seeds, dict.fromkeys(first.seeds, _of_input(second, told))
    if not seeds or not {*seeds} <= {*one} & {*other}:
        return None
    value, error = np.array([one[seed] for seed in seeds]).T
    reference, reference_error = np.array([other[seed] for seed in seeds]).T
    most = told.worst if told.worst is not None and told.better == "lower" else np.inf
    target, target_error = np.minimum(factor * reference, most), factor * reference_error
    ratio = told.comparison == "ratio"
    if ratio:
        if min(value.min(), reference.min()) <= 0:
            return None
        values = np.log(value / target)
        variance = (error / value) ** 2 + (target_error / target) ** 2
    else:
        values, variance = value - target, error**2 + target_error**2
    if measure == "error" and split == "test" and isinstance(second, Record):
        images = _bootstrap(
            _errors(first, seeds), np.minimum(factor * _errors(second, seeds), most)
        )
    else:
        images = _from_standard_errors(values, variance)
    singles = np.array([value for value, _ in one.values()])
    others = np.minimum(factor * np.array([value for value, _ in other.values()]), most)
    return Effect(
        first=float(value.mean()),
        second=float(reference.mean()),
        factor=factor,
        ratio=ratio,
        values=values,
        seeds=_over_seeds(values),
        images=images,
        higher=probability_higher(singles, others),
        not_lower=probability_higher(
            singles, others / EQUAL_RATIO if ratio else others - EQUAL_DIFFERENCE
        ),
        diverged=(_diverged(first), _diverged(second) if isinstance(second, Record) else 0.0),
        better=told.better,
    )


def compare_each_image(first: Record, second: Record) -> tuple[float, Interval, float]:
    """Each held-out image's error with `first` over that with `second`.

    Returns the geometric mean over images and common seeds, its interval over images, and the
    fraction of images that `first` reconstructs with less error.
    """
    seeds = common_seeds(first, second)
    ratio = np.log(_errors(first, seeds) / _errors(second, seeds))
    draws = _bootstrap_weights(len(ratio)) @ ratio.mean(1) / len(ratio)
    low, high = np.exp(_quantiles(draws, CONFIDENCE))
    return float(np.exp(ratio.mean())), (float(low), float(high)), float((ratio < 0).mean())


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
        found: Array = np.log(np.stack(errors, axis=2)).var(axis=axis, ddof=1)
        return found

    def spread(found: Array) -> Array:
        """(draws, seeds) over variants; (draws, 1) over seeds."""
        pooled: Array = np.sqrt(found if over == "variants" else found.mean(1, keepdims=True))
        return pooled

    every_image = np.ones((1, first[0].test_error.shape[1]))
    seen = [variances(models, every_image) for models in (first, second)]
    one, two = (spread(found)[0] for found in seen)
    values = np.log(one / two)
    freedom: tuple[float, float] | None = None
    if over == "variants":
        intervals = _over_seeds(values)
    else:
        freedom = pooled_freedom(seen[0], 1), pooled_freedom(seen[1], 1)
        over_free, under_free = (each * (len(seeds) - 1) for each in freedom)
        wide, narrow = (
            variance_ratio_interval(float(np.exp(2 * values[0])), over_free, under_free, confidence)
            for confidence in (CONFIDENCE, EQUALITY_CONFIDENCE)
        )
        intervals = _half_logs(wide), _half_logs(narrow)
        values = values.repeat(len(seeds))
    weights = _bootstrap_weights(every_image.shape[1])
    drawn = [spread(variances(models, weights)) for models in (first, second)]
    draws = np.log(drawn[0] / drawn[1]).mean(1)
    return Effect(
        first=float(one.mean()),
        second=float(two.mean()),
        factor=1.0,
        ratio=True,
        values=values,
        seeds=intervals,
        images=(_quantiles(draws, CONFIDENCE), _quantiles(draws, EQUALITY_CONFIDENCE)),
        freedom=freedom,
    )


Measured = tuple[float, float]  # value, standard error


def _measured(record: Record, measure: Measure, split: str) -> dict[int, Measured]:
    """A measure by seed; the worst there is, where there is one, of a seed that diverged."""
    rows = record.per_seed(measure.name, split)
    found = {}
    for seed, value, error, n in zip(
        rows.index, rows["value"], rows["standard_error"], rows["n"], strict=True
    ):
        if seed in record.diverged or not np.isfinite(value):
            continue
        if measure.statistic is fraction_of:  # none or all of n prove no rate of exactly 0 or 1
            fraction = (value * n + 1) / (n + 2)
            error = (fraction * (1 - fraction) / n) ** 0.5
        found[int(seed)] = (float(value), float(error))
    if measure.worst is not None:
        found |= dict.fromkeys(record.diverged, (measure.worst, 0.0))
    return found


def _diverged(record: Record) -> float:
    """The fraction of all seeds that did, those that the other model lacks among them."""
    return len(record.diverged) / len(record.seeds)


def _of_input(references: References, measure: Measure) -> Measured:
    if measure.comparison == "ratio":
        return 1.0, 0.0
    row = references.measures.xs("input")
    return float(row["value"][measure.name]), float(row["standard_error"][measure.name])


def _over_seeds(values: Array) -> tuple[Interval, Interval] | None:
    wide, narrow = t_interval(values, CONFIDENCE), t_interval(values, EQUALITY_CONFIDENCE)
    return (wide, narrow) if wide and narrow else None


def _from_standard_errors(values: Array, variance: Array) -> tuple[Interval, Interval]:
    """Over images. variance: of each seed's difference."""
    # The seeds share their images, so averaging over seeds does not narrow this interval.
    mean, error = float(values.mean()), float(variance.mean() ** 0.5)
    if not np.isfinite(error):
        return UNKNOWN, UNKNOWN
    return (
        normal_interval(mean, error, CONFIDENCE),
        normal_interval(mean, error, EQUALITY_CONFIDENCE),
    )


def _errors(record: Record, seeds: list[int]) -> Array:
    """Error of each held-out image: (images, seeds); the worst there is for a diverged seed."""
    rows = [record.seeds.index(seed) for seed in seeds]
    errors: Array = record.test_error[rows].T.astype(np.float64)
    errors[~np.isfinite(errors)] = MEASURES["error"].worst
    return errors


@lru_cache
def _bootstrap_weights(images: int) -> Array:
    """How often each image is drawn: (DRAWS, images), every row summing to `images`; not a number
    where there is but one."""
    if images < 2:
        return np.full((DRAWS, images), np.nan)
    fraction = np.full(images, 1 / images)
    return np.random.default_rng(0).multinomial(images, fraction, size=DRAWS).astype(np.float64)


def _bootstrap(one: Array, two: Array) -> tuple[Interval, Interval]:
    """Over images, of the mean over seeds of the log ratio of two mean errors."""
    weights = _bootstrap_weights(len(one))
    sums = np.hsplit(weights @ np.hstack([one, two]), 2)
    draws = np.log(sums[0] / sums[1]).mean(1)
    return _quantiles(draws, CONFIDENCE), _quantiles(draws, EQUALITY_CONFIDENCE)


def _quantiles(draws: Array, confidence: float) -> Interval:
    if np.isnan(draws).any():
        return UNKNOWN
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _half_logs(ends: Interval) -> Interval:
    return float(np.log(ends[0]) / 2), float(np.log(ends[1]) / 2)
