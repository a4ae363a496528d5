"""One measure of one model against that of another, as an effect with its intervals."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd

from stages.measure.measures import MEASURES, Measure
from stages.measure.records import Record, References
from stages.report.effect import Array, Effect
from stages.report.inference import (
    CONFIDENCE,
    EQUALITY_CONFIDENCE,
    Interval,
    normal_interval,
    probability_higher,
    t_interval,
    variance_ratio_interval,
)

DRAWS = 2000  # bootstrap draws of the held-out images

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
    one, n = _measured(first, told, split), 0
    if isinstance(second, Record):
        other = _measured(second, told, split)
        seeds = [seed for seed in common_seeds(first, second) if {seed} <= {*one.index}]
        seeds = [seed for seed in seeds if {seed} <= {*other.index}]
        n = len(common_seeds(first, second))
    else:
        other = _reference(second, told, list(one.index))
        seeds, n = list(one.index), len(first.seeds)
    if not seeds or len(seeds) < n:
        return None
    a, b = one.loc[seeds], other.loc[seeds]
    ratio = told.comparison == "ratio"
    if ratio and min(a.value.min(), b.value.min()) <= 0:
        return None
    value, reference = a.value.to_numpy(float), factor * b.value.to_numpy(float)
    values = np.log(value / reference) if ratio else value - reference
    images = _images(values, a, b, factor, ratio)
    if measure == "error" and split == "test" and isinstance(second, Record):
        images = _bootstrap(_errors(first, seeds), factor * _errors(second, seeds))
    return Effect(
        first=float(value.mean()),
        second=float(b.value.mean()),
        factor=factor,
        ratio=ratio,
        values=values,
        seeds=_over_seeds(values),
        images=images,
        higher=probability_higher(one.value, factor * other.value),
        diverged=(
            sum(seed in first.diverged for seed in seeds),
            sum(seed in second.diverged for seed in seeds) if isinstance(second, Record) else 0,
        ),
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

    def spread(models: Sequence[Record], weights: Array) -> Array:
        """(draws, seeds) over variants; (draws, 1) over seeds."""
        errors = [weights @ _errors(model, seeds) / weights.shape[1] for model in models]
        logs = np.log(np.stack(errors, axis=2))
        if over == "variants":
            deviations: Array = logs.std(axis=2, ddof=1)
            return deviations
        pooled: Array = np.sqrt(logs.var(axis=1, ddof=1).mean(axis=1, keepdims=True))
        return pooled

    every_image = np.ones((1, first[0].test_error.shape[1]))
    one, two = spread(first, every_image)[0], spread(second, every_image)[0]
    values = np.log(one / two)
    if over == "variants":
        intervals = _over_seeds(values)
    else:
        over_free, under_free = (len(models) * (len(seeds) - 1) for models in (first, second))
        wide, narrow = (
            variance_ratio_interval(float(np.exp(2 * values[0])), over_free, under_free, confidence)
            for confidence in (CONFIDENCE, EQUALITY_CONFIDENCE)
        )
        intervals = _half_logs(wide), _half_logs(narrow)
        values = values.repeat(len(seeds))
    weights = _bootstrap_weights(every_image.shape[1])
    draws = np.log(spread(first, weights) / spread(second, weights)).mean(1)
    return Effect(
        first=float(one.mean()),
        second=float(two.mean()),
        factor=1.0,
        ratio=True,
        values=values,
        seeds=intervals,
        images=(_quantiles(draws, CONFIDENCE), _quantiles(draws, EQUALITY_CONFIDENCE)),
    )


def _measured(record: Record, measure: Measure, split: str) -> pd.DataFrame:
    """Columns value and standard_error of a measure, indexed by seed."""
    rows = record.per_seed(measure.name, split)[["value", "standard_error", "n"]].astype(float)
    rows = rows[~rows.index.isin(list(record.diverged))].dropna(subset="value")
    if measure.name == "faces_found":
        rows = _rate(rows)
    worst = measure.worst
    if worst is not None and len(rows) + len(record.diverged) == len(record.seeds):
        for seed in record.diverged:
            rows.loc[seed] = [worst, 0.0, np.nan]
    return rows


def _rate(rows: pd.DataFrame) -> pd.DataFrame:
    """Finding none or all of n proves no rate of exactly 0 or 1."""
    fraction = (rows.value * rows.n + 1) / (rows.n + 2)
    return rows.assign(standard_error=np.sqrt(fraction * (1 - fraction) / rows.n))


def _reference(references: References, measure: Measure, seeds: list[int]) -> pd.DataFrame:
    """The input's value, for each of the seeds."""
    value, error = 1.0, 0.0
    if measure.comparison == "difference":
        input_measures = references.measures.xs("input")
        value = float(input_measures["value"][measure.name])
        error = float(input_measures["standard_error"][measure.name])
    return pd.DataFrame({"value": value, "standard_error": error}, index=seeds)


def _over_seeds(values: Array) -> tuple[Interval, Interval] | None:
    wide, narrow = t_interval(values, CONFIDENCE), t_interval(values, EQUALITY_CONFIDENCE)
    return (wide, narrow) if wide and narrow else None


def _images(
    values: Array, a: pd.DataFrame, b: pd.DataFrame, factor: float, ratio: bool
) -> tuple[Interval, Interval]:
    """Over images, from the standard errors of two measurements, seed by seed."""
    if ratio:
        variance = (a.standard_error / a.value) ** 2 + (b.standard_error / b.value) ** 2
    else:
        variance = a.standard_error**2 + (factor * b.standard_error) ** 2
    # The seeds share their images, so averaging over seeds does not narrow this interval.
    error = float(variance.mean() ** 0.5)
    return (
        normal_interval(float(values.mean()), error, CONFIDENCE),
        normal_interval(float(values.mean()), error, EQUALITY_CONFIDENCE),
    )


def _errors(record: Record, seeds: list[int]) -> Array:
    """Error of each held-out image: (images, seeds); the worst there is for a diverged seed."""
    rows = [record.seeds.index(seed) for seed in seeds]
    errors: Array = record.test_error[rows].T.astype(np.float64)
    errors[~np.isfinite(errors)] = MEASURES["error"].worst
    return errors


@lru_cache
def _bootstrap_weights(images: int) -> Array:
    """How often each image is drawn: (DRAWS, images), every row summing to `images`."""
    fraction = np.full(images, 1 / images)
    return np.random.default_rng(0).multinomial(images, fraction, size=DRAWS).astype(np.float64)


def _bootstrap(one: Array, two: Array) -> tuple[Interval, Interval]:
    """Over images, of the mean over seeds of the log ratio of two mean errors."""
    weights = _bootstrap_weights(len(one))
    draws = np.log((weights @ one) / (weights @ two)).mean(1)
    return _quantiles(draws, CONFIDENCE), _quantiles(draws, EQUALITY_CONFIDENCE)


def _quantiles(draws: Array, confidence: float) -> Interval:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _half_logs(ends: Interval) -> Interval:
    return float(np.log(ends[0]) / 2), float(np.log(ends[1]) / 2)
