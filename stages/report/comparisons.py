"""Is one number larger than another? The differences between variants, and how sure they are."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import fdtri, stdtrit

from stages.measure.records import Result

CONFIDENCE = 0.95
DRAWS = 2000  # bootstrap draws of the held-out images
SEED_DEVIATIONS = 2.0  # either way: where another seed is likely to land

# Between 0 and 1, so compared by their difference; every other measure by its ratio.
SHARES = {"faces_found", "ssim", "ms_ssim"}
# With one seed the spread over seeds is unknown: it is taken to be this large.
ONE_SEED_RATIO, ONE_SEED_DIFFERENCE = 2.0, 0.25
# A difference that is certainly smaller than this is none.
SAME_RATIO, SAME_DIFFERENCE = 1.02, 0.02


def number(value: float) -> str:
    """Three significant digits, without an exponent for the errors of this project."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Effect:
    """How far the number `first` lies above (below 0: under) the number `second`.

    value, images and seeds (its two intervals; seeds None with fewer than two) are natural
    logarithms of a ratio, or differences where `share`. n: seeds compared.
    """

    first: float
    second: float
    value: float
    images: tuple[float, float]
    seeds: tuple[float, float] | None
    n: int
    share: bool = False

    def is_(self, relation: str, factor: float = 1.0) -> bool | None:
        """Whether `first` is "higher", "lower" or "not lower" than `factor` times `second`.

        None where that is unclear. A share is compared with `second` as it is.
        """
        one_seed = ONE_SEED_DIFFERENCE if self.share else np.log(ONE_SEED_RATIO)
        same = SAME_DIFFERENCE if self.share else np.log(SAME_RATIO)
        threshold = 0.0 if self.share else np.log(factor)
        seeds = self.seeds or (self.value - one_seed, self.value + one_seed)
        low = min(seeds[0], self.images[0]) - threshold
        high = max(seeds[1], self.images[1]) - threshold
        if relation == "not lower":
            return True if low > -same else False if high < 0 else None
        if relation == "lower":
            low, high = -high, -low
        if low > 0:
            return True
        return False if high < 0 or (low > -same and high < same) else None

    def interval(self, ends: tuple[float, float]) -> str:
        return " to ".join(f"{x:+.3f}" if self.share else number(np.exp(x)) for x in ends)

    def __str__(self) -> str:
        value = (
            f"difference {self.value:+.3f}" if self.share else f"ratio {number(np.exp(self.value))}"
        )
        seeds = f"{self.interval(self.seeds)} over {self.n} seeds" if self.seeds else "one seed"
        return (
            f"{number(self.first)} against {number(self.second)}, {value} "
            f"({self.interval(self.images)} over images; {seeds})"
        )


@lru_cache
def _bootstrap_weights(images: int) -> np.ndarray:
    """How often each image is drawn: (DRAWS, images), every row summing to `images`."""
    share = np.full(images, 1 / images)
    return np.random.default_rng(0).multinomial(images, share, size=DRAWS).astype(np.float32)


def _image_interval(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _seed_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Where another seed is likely to land, from what each seed gave; None for fewer than two."""
    if len(values) < 2:
        return None
    reach = SEED_DEVIATIONS * values.std(ddof=1)
    return float(values.mean() - reach), float(values.mean() + reach)


def _errors(result: Result, seeds: list[int]) -> np.ndarray:
    """Error of each held-out image: (images, seeds)."""
    rows = [result.settings.seeds.index(seed) for seed in seeds]
    return result.test_error[rows].T.astype(np.float64)


def common_seeds(*models: Result) -> list[int]:
    return sorted(set.intersection(*(set(model.settings.seeds) for model in models)))


def compare_errors(first: Result, second: Result) -> Effect:
    """Held-out error of `first` over that of `second`, paired by image and by seed."""
    seeds = common_seeds(first, second)
    one, two = _errors(first, seeds), _errors(second, seeds)
    each = np.log(one.mean(0) / two.mean(0))
    weights = _bootstrap_weights(len(one))
    draws = np.log((weights @ one) / (weights @ two)).mean(1)
    return Effect(
        first=float(one.mean()),
        second=float(two.mean()),
        value=float(each.mean()),
        images=_image_interval(draws),
        seeds=_seed_interval(each),
        n=len(seeds),
    )


def compare_each_image(first: Result, second: Result) -> tuple[float, tuple[float, float], float]:
    """Each held-out image's error with `first` over that with `second`.

    Returns the geometric mean over images and common seeds, its interval over images, and the share
    of images that `first` reconstructs with less error.
    """
    seeds = common_seeds(first, second)
    ratio = np.log(_errors(first, seeds) / _errors(second, seeds))
    draws = _bootstrap_weights(len(ratio)) @ ratio.mean(1) / len(ratio)
    low, high = np.exp(_image_interval(draws))
    return float(np.exp(ratio.mean())), (float(low), float(high)), float((ratio < 0).mean())


def _measured(result: Result, measure: str, split: str) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Value and standard error of a measure for each seed, and the seeds."""
    rows = result.per_seed("high_frequency_ratio" if measure == "sharpness" else measure, split)
    value, error = rows.value.to_numpy(float), rows.standard_error.to_numpy(float)
    if measure == "sharpness":  # h or 1/h: the same relative error
        error = error / value
        value = np.minimum(value, 1 / value)
        error = error * value
    if measure == "faces_found":  # finding none or all of n proves no rate of exactly 0 or 1
        share = (value * rows.n + 1) / (rows.n + 2)
        error = np.sqrt(share * (1 - share) / rows.n).to_numpy(float)
    return value, error, list(rows.index)


def compare_measures(
    measure: str, first: Result, second: Result | None, split: str = "test", factor: float = 1.0
) -> Effect | None:
    """`measure` of `first` against that of `second`; None where it was not measured.

    Without `second` the reference is the input: 1 for a ratio, the rate on real faces for
    `faces_found`. A share is compared with `factor` times the reference, a ratio needs no factor.
    """
    share = measure in SHARES
    value, error, seeds = _measured(first, measure, split)
    if second is not None:
        reference, reference_error, others = _measured(second, measure, split)
        common = [seed for seed in seeds if seed in others]
        value, error = (x[[seeds.index(seed) for seed in common]] for x in (value, error))
        reference, reference_error = (
            x[[others.index(seed) for seed in common]] for x in (reference, reference_error)
        )
    elif measure == "faces_found":
        rows = first.per_seed("input_faces_found").reindex(seeds)
        reference, reference_error = rows.value.to_numpy(), rows.standard_error.to_numpy()
    else:
        reference, reference_error = np.ones_like(value), np.zeros_like(value)
    if not len(value) or np.isnan(value + reference).any():
        return None
    if not share and min(value.min(), reference.min()) <= 0:
        return None
    if share:
        reference, reference_error = factor * reference, factor * reference_error
        each = value - reference
        spread = error**2 + reference_error**2
    else:
        each = np.log(value / reference)
        spread = (error / value) ** 2 + (reference_error / reference) ** 2
    # The seeds share their images, so averaging over seeds does not narrow this interval.
    reach = float(stdtrit(np.inf, (1 + CONFIDENCE) / 2) * spread.mean() ** 0.5)
    middle = float(each.mean())
    return Effect(
        first=float(value.mean()),
        second=float(reference.mean()),
        value=middle,
        images=(middle - reach, middle + reach),
        seeds=_seed_interval(each),
        n=len(each),
        share=share,
    )


def compare_spreads(first: list[Result], second: list[Result], over: str) -> Effect | None:
    """How far the errors of `first` spread compared with those of `second`.

    over "variants": standard deviation of the log error over the models, seed by seed; over
    "seeds": over the seeds, pooled over the models, with the interval of Fisher's F. None where the
    seeds they have in common are fewer than two.
    """
    seeds = common_seeds(*first, *second)
    if len(seeds) < 2:
        return None

    def spread(models: list[Result], weights: np.ndarray) -> np.ndarray:
        """(draws, seeds) over variants; (draws, 1) over seeds."""
        errors = [weights @ _errors(model, seeds) / weights.shape[1] for model in models]
        logs = np.log(np.stack(errors, axis=2))
        if over == "variants":
            return logs.std(axis=2, ddof=1)
        return np.sqrt(logs.var(axis=1, ddof=1).mean(axis=1, keepdims=True))

    every_image = np.ones((1, first[0].test_error.shape[1]))
    one, two = spread(first, every_image)[0], spread(second, every_image)[0]
    each = np.log(one / two)
    middle = float(each.mean())
    if over == "variants":
        interval = _seed_interval(each)
    else:
        free = [len(models) * (len(seeds) - 1) for models in (first, second)]
        below = np.log(fdtri(*free, (1 + CONFIDENCE) / 2)) / 2
        above = np.log(fdtri(*free[::-1], (1 + CONFIDENCE) / 2)) / 2
        interval = (middle - float(below), middle + float(above))
    weights = _bootstrap_weights(every_image.shape[1])
    draws = np.log(spread(first, weights) / spread(second, weights)).mean(1)
    return Effect(
        first=float(one.mean()),
        second=float(two.mean()),
        value=middle,
        images=_image_interval(draws),
        seeds=interval,
        n=len(seeds),
    )
