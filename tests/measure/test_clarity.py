"""Each measure on images made for it: it sees its own fault, and the others hardly move it."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.data import lfw_subset

from stages.data.faces import to_tensor
from stages.measure import clarity, fidelity
from stages.measure.compute import FUNCTIONS, Pair
from stages.measure.measures import MEASURES

ROW, COLUMN = np.indices((128, 128))[..., None]
DOWN, ACROSS = np.meshgrid(*[np.fft.fftfreq(128)] * 2, indexing="ij")  # cycles per pixel
RADIUS = np.hypot(DOWN, ACROSS)
# What has an amplitude of 1 / f, as photographs do, has this power above 1/8 of a cycle per pixel.
POWER = np.divide(RADIUS >= 1 / 8, RADIUS**2, where=RADIUS > 0, out=np.zeros_like(RADIUS))
GRAIN = 0.03  # deviation of white noise that has as much energy there as the pictures


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Smooth shapes with a texture of 1 / f, uint8 (16, 128, 128, 3), that nothing else changes.

    The shapes have a mean of 0.5 and a deviation of 0.12, and no detail: all that is the texture's.
    """
    rng = np.random.default_rng(0)
    amplitude = np.divide(1, RADIUS, where=RADIUS > 0, out=np.zeros_like(RADIUS))
    amplitude *= GRAIN / np.sqrt(POWER[POWER > 0].mean())
    white = np.fft.fft2(rng.normal(0, 1, (16, 128, 128, 3)), axes=(1, 2))
    texture = np.fft.ifft2(white * amplitude[..., None], axes=(1, 2)).real
    shapes = np.zeros_like(texture)
    for picture in shapes:
        for y, x, height, width in rng.uniform((0, 0, 16, 16), (128, 128, 48, 48), (8, 4)):
            inside = ((ROW - y) / height) ** 2 + ((COLUMN - x) / width) ** 2 < 1
            picture[inside[..., 0]] = rng.uniform(-1, 1, 3)
    shapes = gaussian_filter(shapes, (0, 4, 4, 0), mode="wrap")
    shapes -= shapes.mean((1, 2), keepdims=True)
    shapes *= 0.12 / shapes.std((1, 2), keepdims=True)
    return pixels(0.5 + shapes + texture)


def pixels(images: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def blurred(x: np.ndarray, reach: float = 1) -> np.ndarray:
    return gaussian_filter(x, (0, reach, reach, 0), mode="wrap")


def noisy(x: np.ndarray, deviation: float = GRAIN) -> np.ndarray:
    return x + np.random.default_rng(1).normal(0, deviation, x.shape)


def checkerboard(period: int) -> np.ndarray:
    """-1 and 1 (128, 128, 1) in squares of half a period."""
    return ((ROW // (period // 2) + COLUMN // (period // 2)) % 2) * 2.0 - 1


def stripes(period: int, where: np.ndarray) -> np.ndarray:
    return (where % period < period / 2) * 2.0 - 1


def near(value: float, by: float = 0.02) -> tuple[float, float]:
    return value - by, value + by


def detail(transfer: np.ndarray) -> dict[str, tuple[float, float]]:
    """What a filter makes of the detail, by its transfer function and the pictures' power."""
    kept, energy, lost = (
        np.average(x, weights=POWER)
        for x in (transfer.real, abs(transfer) ** 2, abs(1 - transfer) ** 2)
    )
    return {"coherence": near(kept / energy**0.5), "detail_explained": near(1 - lost)}


FAULTS = {
    "none": lambda x: x,
    "blurred": blurred,
    "shifted by a pixel": lambda x: np.roll(x, 1, axis=2),
    "noisy": noisy,
    "grain": lambda x: noisy(x, 2 * GRAIN),
    "washed out": lambda x: 0.5 * x + 0.4,
    "gridded": lambda x: x + 0.02 * checkerboard(2) + 0.02 * checkerboard(4),
    "ruined by a grid": lambda x: 0.3 * x + 0.35 + 0.2 * checkerboard(2) + 0.1 * checkerboard(4),
}
# Where a fault is none of the measure's business; the rest is rounding to 8 bits.
LITTLE = {
    "high_frequency_ratio": near(1),
    "grid_ratio": near(1),
    "colour_shift": (0, 0.005),
    "contrast_ratio": near(1, 0.035),  # texture and noise are 5 % each of the variance, 0.017
    "coherence": (0.99, 1),
    "detail_explained": (0.99, 1),
}
EXPECTED = {
    "none": dict.fromkeys(LITTLE, (0.999999, 1))
    | {"grid_ratio": near(1), "colour_shift": (0, 0)},
    # By a Gaussian of one pixel: a coherence of 0.77, 45 % of the detail explained, 15 % of its
    # energy left.
    "blurred": detail(np.exp(-2 * (np.pi * RADIUS) ** 2)) | {"high_frequency_ratio": near(0.15)},
    # Each frequency in another place: a coherence of 0.32, and with c 2c - 1 of the detail.
    "shifted by a pixel": detail(np.exp(-2j * np.pi * ACROSS)),
    # As much noise as detail: twice its energy, of which half is the picture's.
    "noisy": {
        "high_frequency_ratio": (1.8, 2),  # of a whole that gains a little, too
        "coherence": near(0.5**0.5), "detail_explained": near(0),
    },
    # Four times as much noise as detail: less than nothing is explained.
    "grain": {
        "high_frequency_ratio": (3.7, 5), "coherence": near(0.2**0.5),
        "detail_explained": near(-3, 0.05),
        # The deviation of colours, 0.13, gains a tenth.
        "colour_shift": near(0.013, 0.002), "contrast_ratio": near(1.1),
    },
    # Half the contrast leaves a quarter of the energy missing; the mean moves by 0.15, the
    # deviation by 0.065.
    "washed out": {
        "colour_shift": near(0.1637, 0.002), "contrast_ratio": near(0.5, 0.002),
        "detail_explained": near(0.75, 0.005),
    },
    # The grids' power, 0.0008, over 15 places of 9 frequencies; the texture's is 2.5e-8, twice.
    "gridded": {"grid_ratio": (100, 120)},
    # A power of 0.05, which is a deviation of 0.22, where the picture's falls from 0.13 to 0.04.
    "ruined by a grid": {
        "grid_ratio": (12_000, 14_000), "detail_explained": near(0.51, 0.005),
        "contrast_ratio": near(1.74), "colour_shift": near(0.097, 0.002),
    },
}  # fmt: skip


def measured(after: np.ndarray, before: np.ndarray) -> dict[str, float]:
    """The numbers of a set of uint8 images beside their originals."""
    pair = Pair(to_tensor(after), to_tensor(before))
    return {name: MEASURES[name].statistic(FUNCTIONS[name](pair).numpy())[0] for name in LITTLE}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_measure_sees_its_own_fault_alone(pictures, fault):
    found = measured(pixels(FAULTS[fault](pictures / 255)), pictures)
    for measure, (low, high) in (LITTLE | EXPECTED[fault]).items():
        assert low <= found[measure] <= high, measure


@pytest.mark.parametrize(
    "pattern",
    [
        checkerboard(2),
        checkerboard(4),
        *(stripes(period, where) for period in (2, 4) for where in (ROW, COLUMN)),
        (ROW % 4 == 1) * (COLUMN % 2 == 0) * 2.0,
    ],
    ids=["squares 2", "squares 4", "rows 2", "columns 2", "rows 4", "columns 4", "dots"],
)
def test_every_pattern_that_repeats_with_the_strides_is_a_grid(pictures, pattern):
    """Of 4 in 255 either way: a power of 0.00025, as in the test above a ratio of 37; dots half."""
    assert measured(pixels((pictures + 4 * pattern) / 255), pictures)["grid_ratio"] > 15


@pytest.mark.parametrize("period", [3, 5, 7])
def test_other_patterns_are_no_grid(pictures, period):
    after = pixels((pictures + 4 * stripes(period, COLUMN)) / 255)
    assert measured(after, pictures)["grid_ratio"] < 1.02


def test_a_grid_too_faint_for_8_bits_is_none_in_a_blurred_image(pictures):
    after = pixels(blurred(pictures / 255, 4) + 0.0005 * checkerboard(4))
    assert measured(after, pictures)["grid_ratio"] < 1.1


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
    spectrum = clarity.radial(clarity.power_of(clarity.spectrum(image.float()[None])))
    assert spectrum.shape == (1, 65)
    assert spectrum[0].argmax() == cycles


def test_the_radial_spectrum_of_noise_is_flat(images):
    spectrum = clarity.radial(clarity.power_of(clarity.spectrum(images))).mean(0).numpy()
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


def test_the_detector_finds_faces_where_there_are_any():
    """Of scikit-image's hundred small photographs of faces, and its hundred of other things."""
    shown = [Image.fromarray(pixels(photo)).resize((128, 128)) for photo in lfw_subset()]
    found = clarity.detect(np.stack([np.asarray(photo.convert("RGB")) for photo in shown]))
    assert found[:100].mean() > 0.8 and found[100:].mean() < 0.05
    assert clarity.detect(np.empty((0, 128, 128, 3), np.uint8)).shape == (0,)
