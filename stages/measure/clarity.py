"""Clarity as numbers: sharpness, detail, grid patterns, colours, and whether a face is still seen.

The paper judged all of this by eye (section 4.6). Images are float tensors (N, 3, s, s) in [0, 1].
Each measure shows one fault and ignores the others, as tests/measure/test_clarity.py checks.

A spectrum is the Fourier transform of luminance without its mean, under a Hann window, as the jump
between opposite borders would pass for detail. Power is the squared modulus of the spectrum.
Frequencies are in cycles per image, 0 to s / 2 (the Nyquist frequency) along an axis.

Ratios are returned as parts (N, 2, m) for `statistics.ratio`: by image, m factors of the numerator
and m of the denominator.
"""

from functools import cache, partial

import numpy as np
import torch
from skimage.data import lbp_frontal_face_cascade_filename
from skimage.feature import Cascade
from torch import Tensor
from torch.nn import functional

from stages.measure.fidelity import luminance

HIGH = 1 / 8  # cycles per pixel: details of less than 8 pixels
STRIDES = 4  # pixels: the period of what the last two levels, of stride 2 each, can leave behind
PEAK, NEIGHBOURS = 1, (2, 4)  # cycles per image around a frequency of the grid


def spectrum(images: Tensor) -> Tensor:
    """Complex spectrum (N, s, s) of images, in the order of torch.fft.fft2."""
    gray = luminance(images).squeeze(1)
    window = _window(gray)
    mean = (gray * window).sum((1, 2), keepdim=True) / window.sum()
    transformed: Tensor = torch.fft.fft2((gray - mean) * window)
    return transformed


def power_of(spectrum: Tensor) -> Tensor:
    """Power (N, s, s) at each frequency. It sums to the variance of luminance under the window."""
    squared = spectrum.abs().square()
    return squared / (squared[0].numel() * _window(squared).square().sum())


def radial(power: Tensor) -> Tensor:
    """Mean power (N, s / 2 + 1) on circles of 0, 1, .. s / 2 cycles per image."""
    return power.flatten(1) @ _circles(power.shape[-1]).to(power.device)


def high_frequency_ratio(power: Tensor, image_power: Tensor) -> Tensor:
    """Parts (N, 2, 2): the fraction of energy above 1/8 of a cycle per pixel, over the images'.

    1 is as sharp as the image, below is blur, above is grain. Contrast does not change a fraction.
    A grid does not change it either: the frequencies of `grid_ratio` are left out.
    """
    masks = torch.stack(_masks(power.shape[-1])).flatten(1).to(power.device, power.dtype)
    (high, energy), (image_high, image_energy) = (
        (x.flatten(1) @ masks.T).unbind(1) for x in (power, image_power)
    )
    return _parts([high, image_energy], [energy, image_high])


def detail(spectrum: Tensor) -> Tensor:
    """A spectrum above 1/8 of a cycle per pixel, without a grid's frequencies: real (N, m)."""
    high, _ = _masks(spectrum.shape[-1])
    return torch.view_as_real(spectrum[:, high.to(spectrum.device)]).flatten(1)


def coherence(detail: Tensor, image_detail: Tensor) -> Tensor:
    """Correlation (N,), -1 to 1, of the detail of reconstructions and images.

    Their cross-spectrum over the root of both powers. 1: the same edges in the same places. 0: none
    of them, or no detail at all. Contrast does not change it.
    """
    return functional.cosine_similarity(detail, image_detail).clamp(-1, 1)


def unexplained_detail(detail: Tensor, image_detail: Tensor) -> Tensor:
    """Parts (N, 2, 1): energy of the difference of both details, over that of the images' detail.
    0: the same detail. 1: as far as a picture without detail. Above 1: grain."""
    difference, energy = (x.square().sum(1) for x in (detail - image_detail, image_detail))
    return _parts([difference], [energy])


def grid_ratio(power: Tensor, image_power: Tensor) -> Tensor:
    """Parts (N, 2, 1): mean power at the frequencies of a grid, over that around them.

    Transposed convolutions of stride 2 leave checkerboards and stripes with a period of 2 pixels
    (the last level) and 4 (the last but one). What repeats every 4 pixels has its energy at
    multiples of 1/4 of a cycle per pixel, along either axis or both: 15 frequencies, without 0. The
    numerator takes them with their nearest neighbours, over which the window spreads a peak. The
    denominator takes the neighbours at a distance of 2 to 4 cycles per image, which overlap at 32
    pixels.

    The power of the images around these frequencies is added to both. 1 is no grid; at 2 the grid
    is as strong as the texture of a photograph. Without that addition a grid too faint to be seen
    would count in a blurred image, which has nothing around it.
    """
    masks = (masks.to(power.device, power.dtype) for masks in _grid(power.shape[-1]))
    peak, around = (mask.sum(0) / mask.sum() for mask in masks)
    at_grid, around_grid, texture = (
        torch.einsum("nhw,hw->n", x, weights)
        for x, weights in ((power, peak), (power, around), (image_power, around))
    )
    return _parts([at_grid + texture], [around_grid + texture])


def colour_shift(reconstructions: Tensor, images: Tensor) -> Tensor:
    """How far an image's colours moved, whatever their place (N,), 0 to 1.

    With mean m and standard deviation s of a colour channel, the root mean square over the three
    channels of sqrt((m' - m)^2 + (s' - s)^2): the 2-Wasserstein distance between normal
    distributions of the channel's values.
    """
    after, before = (_colours(x) for x in (reconstructions, images))
    return (after - before).square().sum(1).mean(1).sqrt()


def contrast_ratio(reconstructions: Tensor, images: Tensor) -> Tensor:
    """Parts (N, 2, 1): `contrast` over that of the images; below 1 is washed out."""
    return _parts([contrast(reconstructions)], [contrast(images)])


def contrast(images: Tensor) -> Tensor:
    """Standard deviation of a colour channel, root mean square over the three channels (N,)."""
    return _colours(images)[:, 1].square().mean(1).sqrt()


def detect(pictures: np.ndarray) -> np.ndarray:
    """Whether a face detector finds a face: bool (N,), for uint8 pictures (N, s, s, 3).

    scikit-image's local binary pattern cascade for frontal faces: windows of 7/16 of a side to the
    whole side (a face fills 5/8 or more) in steps of a factor of 1.2, and at least two overlapping
    detections. It knows no face of less than 24 pixels.
    """
    side = pictures.shape[1]
    windows = {"min_size": (7 * side // 16,) * 2, "max_size": (side, side)}
    find = partial(_cascade().detect_multi_scale, scale_factor=1.2, step_ratio=1, **windows)
    return np.array([len(find(p, min_neighbor_number=2)) > 0 for p in pictures], bool)


def to_pictures(images: Tensor) -> Tensor:
    """uint8 (N, s, s, 3) of images (N, 3, s, s) in [0, 1]."""
    return images.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _parts(over: list[Tensor], under: list[Tensor]) -> Tensor:
    return torch.stack([torch.stack(over, 1), torch.stack(under, 1)], 1)


def _window(images: Tensor) -> Tensor:
    """Hann window (s, s)."""
    window = torch.hann_window(images.shape[-1], device=images.device)
    return window[:, None] * window


_cascade = cache(lambda: Cascade(lbp_frontal_face_cascade_filename()))  # type: ignore[no-untyped-call]


def _colours(images: Tensor) -> Tensor:
    """Mean and standard deviation (N, 2, 3) of each colour channel."""
    mean = images.mean((2, 3))
    # A norm, as torch.std takes ten times as long.
    norm = torch.linalg.vector_norm(images - mean[:, :, None, None], dim=(2, 3))
    return torch.stack([mean, norm / images.shape[-1]], dim=1)


@cache
def _radius(size: int) -> Tensor:
    """Distance (size, size) of a frequency from 0, in cycles per image."""
    frequency = torch.fft.fftfreq(size, 1 / size)
    return torch.hypot(frequency[:, None], frequency)


@cache
def _circles(size: int) -> Tensor:
    """Weights (size^2, size / 2 + 1) that average what lies on each circle."""
    circles = functional.one_hot(_radius(size).round().long().flatten())[:, : size // 2 + 1]
    return circles / circles.sum(0)


@cache
def _masks(size: int) -> tuple[Tensor, Tensor]:
    """Masks (size, size) without a grid's frequencies: above 1/8 of a cycle per pixel, and all."""
    kept = ~_grid(size)[0].any(0)
    return kept & (_radius(size) >= HIGH * size), kept


@cache
def _grid(size: int) -> tuple[Tensor, Tensor]:
    """Masks (15, size, size): frequencies at each of a grid's, and those around it."""
    frequency = torch.fft.fftfreq(size, 1 / size)
    step, nyquist = size // STRIDES, size // 2
    peaks, around = [], []
    for row, column in [*np.ndindex(STRIDES, STRIDES)][1:]:
        rows, columns = (
            ((frequency - step * n + nyquist) % size - nyquist).abs() for n in (row, column)
        )
        distance = torch.maximum(rows[:, None], columns)
        peaks.append(distance <= PEAK)
        around.append((distance >= NEIGHBOURS[0]) & (distance <= NEIGHBOURS[1]))
    return torch.stack(peaks), torch.stack(around)
