"""Errors and similarities against scikit-image and SciPy."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2gray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from stages.measure import fidelity


@pytest.fixture
def images(images: torch.Tensor) -> torch.Tensor:
    return images[:4]


@pytest.fixture
def reconstructions(images: torch.Tensor) -> torch.Tensor:
    """Blurred, dimmed, noisy and exact: as many kinds of difference as there are images."""
    x = images.numpy()
    noise = np.random.default_rng(0).normal(0, 0.1, x[2].shape)
    made = [gaussian_filter(x[0], (0, 2, 2)), 0.7 * x[1], np.clip(x[2] + noise, 0, 1), x[3]]
    return torch.from_numpy(np.stack(made).astype(np.float32))


def pictures(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).double().numpy()


def test_the_error_is_the_sum_of_squared_differences(reconstructions, images):
    error = fidelity.squared_error(reconstructions, images)
    plain = ((pictures(reconstructions) - pictures(images)) ** 2).reshape(4, -1)
    assert error.numpy() == pytest.approx(plain.sum(1), rel=1e-6)
    mean = fidelity.mean_squared_error(reconstructions, images)
    assert mean.numpy() == pytest.approx(plain.mean(1), rel=1e-6)


def test_psnr_is_that_of_scikit_image(reconstructions, images):
    expected = [
        peak_signal_noise_ratio(image, reconstruction, data_range=1)
        for image, reconstruction in zip(
            pictures(images)[:3], pictures(reconstructions), strict=False
        )
    ]
    found = fidelity.psnr(reconstructions, images)
    assert found[:3].numpy() == pytest.approx(expected, abs=1e-4)
    assert found[3] == 100  # identical


def test_luminance_is_that_of_scikit_image(images):
    expected = rgb2gray(pictures(images))
    assert np.abs(fidelity.luminance(images)[:, 0].numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("count", [1, 4])
def test_ssim_is_that_of_scikit_image(reconstructions, images, count):
    expected = [
        structural_similarity(
            rgb2gray(image),
            rgb2gray(reconstruction),
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for image, reconstruction in zip(pictures(images), pictures(reconstructions), strict=True)
    ]
    found = fidelity.ssim(reconstructions[:count], images[:count])
    assert found.numpy() == pytest.approx(expected[:count], abs=1e-4)


def test_ms_ssim_is_that_of_its_definition(reconstructions, images):
    """Wang et al.'s formulas, written down once more with SciPy's filters."""

    def blurred(image: np.ndarray) -> np.ndarray:
        return gaussian_filter(image, 1.5, mode="mirror", truncate=3.5)

    def halved(image: np.ndarray) -> np.ndarray:
        return image.reshape(len(image) // 2, 2, -1, 2).mean((1, 3))

    def expected(x: np.ndarray, y: np.ndarray) -> float:
        product = 1.0
        weights = np.array([0.0448, 0.2856, 0.3001, 0.2363])
        for scale, weight in enumerate(weights / weights.sum()):
            mean_x, mean_y = blurred(x), blurred(y)
            variances = blurred(x * x) - mean_x**2 + blurred(y * y) - mean_y**2
            structure = (2 * (blurred(x * y) - mean_x * mean_y) + 0.03**2) / (variances + 0.03**2)
            if scale == 3:
                structure *= (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
            product *= structure[5:-5, 5:-5].mean() ** weight
            x, y = halved(x), halved(y)
        return product

    pairs = zip(pictures(images), pictures(reconstructions), strict=True)
    wanted = [expected(rgb2gray(x), rgb2gray(y)) for x, y in pairs]
    assert fidelity.ms_ssim(reconstructions, images).numpy() == pytest.approx(wanted, abs=1e-4)
