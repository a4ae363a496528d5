"""From one value an image to a measure and its standard error, against SciPy and a bootstrap."""

import numpy as np
import pytest
from scipy.stats import sem

from stages.measure import statistics


def parts(over: list[np.ndarray], under: list[np.ndarray]) -> np.ndarray:
    return np.stack([np.stack(over, 1), np.stack(under, 1)], 1)


def test_mean_has_the_standard_error_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(5, 2, 50)
    assert statistics.mean(values) == pytest.approx((values.mean(), sem(values)))
    value, error = statistics.mean([3.0])
    assert value == 3 and np.isnan(error)


def test_fraction_has_the_binomial_standard_error() -> None:
    expected = pytest.approx((0.75, (0.1875 / 4) ** 0.5))
    assert statistics.fraction([True, True, True, False]) == expected


def test_ratio_compares_means_with_the_standard_error_of_a_bootstrap() -> None:
    rng = np.random.default_rng(0)
    texture = rng.gamma(4, 1, 400)  # what both models' images have in common
    first, second, third = (texture * rng.gamma(9, scale / 9, 400) for scale in (2, 5, 1))
    value, error = statistics.ratio(parts([first, texture], [second, third]))
    assert value == pytest.approx(first.mean() * texture.mean() / second.mean() / third.mean())

    drawn = rng.integers(0, 400, (4000, 400))
    means = [values[drawn].mean(1) for values in (first, texture, second, third)]
    bootstrap = means[0] * means[1] / (means[2] * means[3])
    assert error == pytest.approx(bootstrap.std(), rel=0.1)


def test_a_folded_ratio_is_at_most_one_with_the_same_relative_error() -> None:
    above = parts([np.array([3.0, 5.0])], [np.array([1.0, 1.0])])
    value, error = statistics.ratio(above)
    for each in (above, above[:, ::-1]):
        assert statistics.folded_ratio(each) == pytest.approx((1 / value, error / value / value))


def test_explained_is_one_less_the_ratio_and_knows_a_difference_of_nothing() -> None:
    over, under = np.random.default_rng(0).gamma(4, 1, (2, 400))
    value, error = statistics.ratio(parts([over], [under]))
    assert statistics.explained(parts([over], [under])) == pytest.approx((1 - value, error))
    assert statistics.explained(parts([0 * over], [under])) == (1, 0)
    assert np.isnan(statistics.explained(parts([over], [0 * under]))).all()


@pytest.mark.parametrize("statistic", [statistics.ratio, statistics.folded_ratio])
def test_ratio_to_nothing_is_unknown(statistic) -> None:
    assert np.isnan(statistic(parts([np.ones(3)], [np.zeros(3)]))).all()
    assert statistic(parts([np.ones(3)], [np.ones(3)])) == (1, 0)
