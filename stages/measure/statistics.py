"""From values of N images to a measure: its value over all images, and its standard error.

The standard error of one image is nan, but for `fraction`.
"""

import numpy as np
from numpy.typing import ArrayLike


def mean(values: ArrayLike) -> tuple[float, float]:
    """Mean of one value an image (N,), and its standard error s / sqrt(N)."""
    values = np.asarray(values, np.float64)
    return float(values.mean()), _standard_error(values)


def fraction(values: ArrayLike) -> tuple[float, float]:
    """Fraction p of True among (N,), and its binomial standard error sqrt(p (1 - p) / N)."""
    values = np.asarray(values, bool)
    p = float(values.mean())
    return p, float((p * (1 - p) / len(values)) ** 0.5)


def ratio(parts: ArrayLike) -> tuple[float, float]:
    """Product of the means of parts[:, 0] over that of parts[:, 1], and its standard error.

    parts: (N, 2, m), positive. A ratio of means, not a mean of ratios: the few images that have
    next to nothing of what is compared do not decide. The standard error is linearised: the ratio
    times that of the mean of sum_j over_j / mean(over_j) - sum_j under_j / mean(under_j). Both are
    nan where a mean is 0.
    """
    parts = np.asarray(parts, np.float64)
    means = parts.mean(0)
    if (means <= 0).any():
        return float("nan"), float("nan")
    over, under = (parts / means).sum(2).T
    value = float(np.prod(means[0]) / np.prod(means[1]))
    return value, value * _standard_error(over - under)


def folded_ratio(parts: ArrayLike) -> tuple[float, float]:
    """The `ratio` or its inverse, whichever is at most 1; the relative standard error is one."""
    value, error = ratio(parts)
    folded = min(value, 1 / value)
    return folded, error / value * folded


def explained(parts: ArrayLike) -> tuple[float, float]:
    """1 less the ratio of the mean of parts[:, 0] to that of parts[:, 1], and its standard error.
    parts: (N, 2, 1). The standard error is linearised, as that of `ratio`."""
    over, under = np.asarray(parts, np.float64)[:, :, 0].T
    mean = under.mean()
    if mean <= 0:
        return float("nan"), float("nan")
    ratio = over.mean() / mean
    return float(1 - ratio), _standard_error((over - ratio * under) / mean)


def _standard_error(values: np.ndarray) -> float:
    n = len(values)
    return float(values.std(ddof=1) / n**0.5) if n > 1 else float("nan")
