"""Each measure on images made for it: it sees its own fault, and the others hardly move it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from stages.data.faces import to_tensor
from stages.data.sources.synthetic.drawn_faces import draw
from stages.measure import clarity, fidelity
from stages.measure.compute import FUNCTIONS, Pair
from stages.measure.measures import MEASURES

ROW, COLUMN = np.indices((128, 128))[..., None]


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """Sixteen drawn faces, uint8 (16, 128, 128, 3)."""
    drawn = [np.asarray(Image.open(io.BytesIO(data))) for data in dict(draw(16)).values()]
    return np.stack(drawn)[:, 61:-61, 61:-61]


def checkerboard(period: int) -> np.ndarray:
    """-1 and 1 (128, 128, 1) in squares of half a period."""
    return ((ROW // (period // 2) + COLUMN // (period // 2)) % 2) * 2.0 - 1


def stripes(period: int, where: np.ndarray) -> np.ndarray:
    return (where % period < period / 2) * 2.0 - 1


FAULTS = {
    "none": lambda x: x,
    "blurred": lambda x: gaussian_filter(x, (0, 1.5, 1.5, 0)),
    "shifted by a pixel": lambda x: np.roll(x, 1, axis=2),
    "noisy": lambda x: x + np.random.default_rng(0).normal(0, 0.05, x.shape),
    "grain": lambda x: x + np.random.default_rng(0).normal(0, 0.1, x.shape),
    "washed out": lambda x: 0.5 * x + 0.4,
    "gridded": lambda x: x + 0.02 * checkerboard(2) + 0.02 * checkerboard(4),
    "ruined by a grid": lambda x: 0.3 * x + 0.35 + 0.2 * checkerboard(2) + 0.1 * checkerboard(4),
}
# What each fault is to do; `little` where it is none of the measure's business.
LITTLE = {
    "high_frequency_ratio": (0.9, 1.1),
    "grid_ratio": (0.8, 1.25),
    "colour_shift": (0, 0.03),
    "contrast_ratio": (0.9, 1.15),
    "coherence": (0.95, 1),
    "detail_explained": (0.9, 1),
}
EXPECTED = {
    "none": dict.fromkeys(LITTLE, (0.999999, 1))
    | {"grid_ratio": (0.9, 1.1), "colour_shift": (0, 0)},
    "blurred": {
        "high_frequency_ratio": (0, 0.3), "coherence": (0.7, 0.9), "detail_explained": (0.2, 0.5),
    },
    "shifted by a pixel": {"coherence": (0.7, 0.8), "detail_explained": (0.4, 0.6)},
    "noisy": {
        "high_frequency_ratio": (1.2, 3), "coherence": (0.7, 0.9), "detail_explained": (0.4, 0.7),
    },
    "grain": {
        "high_frequency_ratio": (2, 9), "coherence": (0.4, 0.7), "detail_explained": (-9, -0.5),
        "colour_shift": (0, 0.035), "contrast_ratio": (0.9, 1.2),
    },
    "washed out": {
        "colour_shift": (0.1, 0.5), "contrast_ratio": (0.4, 0.6), "detail_explained": (0.74, 0.76),
    },
    "gridded": {"grid_ratio": (5, 500)},
    "ruined by a grid": {
        "grid_ratio": (1000, 1e6),
        "colour_shift": (0.05, 0.5),
        "contrast_ratio": (0.5, 2),
        "detail_explained": (0.5, 0.52),  # contrast falls to 0.3
    },
}  # fmt: skip


def measured(after: np.ndarray, before: np.ndarray) -> dict[str, float]:
    """The numbers of a set of uint8 images beside their originals."""
    pair = Pair(to_tensor(after), to_tensor(before))
    return {name: MEASURES[name].statistic(FUNCTIONS[name](pair).numpy())[0] for name in LITTLE}


def faulty(faces: np.ndarray, fault: str) -> np.ndarray:
    return np.rint(np.clip(FAULTS[fault](faces / 255), 0, 1) * 255).astype(np.uint8)


def radial(images: torch.Tensor) -> torch.Tensor:
    return clarity.radial(clarity.power_of(clarity.spectrum(images)))


@pytest.mark.parametrize("measure", LITTLE)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_measure_sees_its_own_fault_alone(faces, fault, measure):
    low, high = EXPECTED[fault].get(measure, LITTLE[measure])
    assert low <= measured(faulty(faces, fault), faces)[measure] <= high


def test_blur_and_noise_move_sharpness_by_how_strong_they_are(faces):
    def ratio(after: np.ndarray) -> float:
        pixels = np.rint(np.clip(after, 0, 1) * 255).astype(np.uint8)
        return measured(pixels, faces)["high_frequency_ratio"]

    x, noise = faces / 255, np.random.default_rng(0).normal(0, 1, faces.shape)
    blurred = [ratio(gaussian_filter(x, (0, reach, reach, 0))) for reach in (0.5, 1, 2, 3)]
    noisy = [ratio(x + amount * noise) for amount in (0.02, 0.05, 0.1)]
    assert blurred == sorted(blurred, reverse=True) and noisy == sorted(noisy)


@pytest.mark.parametrize(
    "pattern",
    [
        checkerboard(2),
        checkerboard(4),
        stripes(2, ROW),
        stripes(2, COLUMN),
        stripes(4, ROW),
        stripes(4, COLUMN),
        (ROW % 4 == 1) * (COLUMN % 2 == 0) * 2.0,
    ],
    ids=["squares 2", "squares 4", "rows 2", "columns 2", "rows 4", "columns 4", "dots"],
)
def test_every_pattern_that_repeats_with_the_strides_is_a_grid(faces, pattern):
    pixels = np.clip(faces + np.rint(4 * pattern), 0, 255).astype(np.uint8)
    assert measured(pixels, faces)["grid_ratio"] > 2


@pytest.mark.parametrize("period", [3, 5, 7])
def test_other_patterns_are_no_grid(faces, period):
    pixels = np.clip(faces + 4 * stripes(period, COLUMN), 0, 255).astype(np.uint8)
    assert measured(pixels, faces)["grid_ratio"] < 1.25


def test_a_grid_too_faint_for_8_bits_is_none_in_a_blurred_image(faces):
    smooth = gaussian_filter(faces / 255, (0, 4, 4, 0))
    pixels = np.rint((smooth + 0.0005 * checkerboard(4)) * 255).astype(np.uint8)
    assert measured(pixels, faces)["grid_ratio"] < 1.25


def test_the_power_spectrum_sums_to_the_variance_under_the_window(images):
    window = np.outer(*[0.5 - 0.5 * np.cos(2 * np.pi * np.arange(128) / 128)] * 2)
    gray = fidelity.luminance(images)[:, 0].double().numpy()
    mean = np.average(gray, axis=(1, 2), weights=window * np.ones_like(gray))[:, None, None]
    variance = np.average((gray - mean) ** 2, axis=(1, 2), weights=window**2 * np.ones_like(gray))
    assert clarity.power_of(clarity.spectrum(images)).sum((1, 2)).numpy() == pytest.approx(
        variance, rel=1e-4
    )


@pytest.mark.parametrize("cycles", [3, 20, 50])
def test_the_radial_spectrum_of_a_wave_has_its_peak_at_the_waves_frequency(cycles):
    wave = 0.5 + 0.2 * np.sin(2 * np.pi * cycles * COLUMN / 128)
    image = torch.from_numpy(np.broadcast_to(wave, (128, 128, 3)).copy()).permute(2, 0, 1)
    spectrum = radial(image.float()[None])
    assert spectrum.shape == (1, 65)
    assert spectrum[0].argmax() == cycles


def test_the_radial_spectrum_of_noise_is_flat(images):
    spectrum = radial(images).mean(0).numpy()
    expected = fidelity.luminance(images).var().item() / 128**2
    assert spectrum[4:] == pytest.approx(np.full(61, expected), rel=0.4)
    assert spectrum[4:].mean() == pytest.approx(expected, rel=0.05)


def test_colour_shift_is_how_far_colours_move_and_not_where_they_are(images):
    assert clarity.colour_shift(images + 0.1, images).numpy() == pytest.approx(0.1, abs=1e-6)
    assert clarity.colour_shift(images.flip(3), images).numpy() == pytest.approx(0, abs=1e-6)
    red = images + torch.tensor([0.3, 0, 0])[:, None, None]
    assert clarity.colour_shift(red, images).numpy() == pytest.approx(0.3 / 3**0.5, abs=1e-6)
    faded = images.mean((2, 3), keepdim=True) + 0.5 * (images - images.mean((2, 3), keepdim=True))
    expected = 0.5 * clarity.contrast(images).numpy()
    assert clarity.colour_shift(faded, images).numpy() == pytest.approx(expected, abs=1e-6)


def test_the_detector_finds_faces_where_there_are_any(faces):
    noise = np.random.default_rng(0).integers(0, 256, faces.shape, np.uint8)
    gray = np.full_like(faces, 128)
    mixed = np.stack([faces, noise, gray], axis=1).reshape(-1, 128, 128, 3)
    found = clarity.detect(mixed).reshape(-1, 3)
    assert found[:, 0].mean() > 0.8
    assert not found[:, 1:].any()


def test_the_detector_takes_no_images():
    assert clarity.detect(np.empty((0, 128, 128, 3), np.uint8)).shape == (0,)
