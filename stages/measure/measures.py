"""The table of measures: how each is named, compared, judged, and averaged over images.

`FUNCTIONS` of `compute`, which needs torch, computes them from pictures, by the same names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stages.measure.statistics import explained, folded_ratio, fraction, mean, ratio

Split = Literal["test", "train", "samples"]
LEVELS = 8  # of the largest pictures, 256 pixels
# Images behind a detection rate: its 95 % interval is within 6.2 points.
DETECTED = 250


@dataclass(frozen=True)
class Measure:
    """A number of a model, with its standard error.

    label: its name in reports. unit: of its values, "" for a pure number. comparison: two models
    are compared by the ratio of their values or by the difference. better: None where neither is.

    statistic: makes the measure and its standard error of the numbers of all images. depth: the
    level from which an image is reconstructed, None for the last. smallest: the fewest pixels a
    side of an image. images: at most so many, evenly spaced, as it takes long; None for all.
    splits: the images. A measure of `samples` looks at a picture alone, and is measured of the
    inputs and of noise, too.

    worst: the worst possible value, which a diverged training counts as; for errors, of each value
    of an image. None where there is no bound.
    """

    name: str
    label: str
    unit: str
    comparison: Literal["ratio", "difference"]
    better: Literal["higher", "lower"] | None
    statistic: Callable[[np.ndarray], tuple[float, float]] = mean
    depth: int | None = None
    smallest: int = 0
    images: int | None = None
    splits: tuple[Split, ...] = ("test",)
    worst: float | None = None

    def worst_of(self, size: int) -> float | None:
        """`worst` for an image of `size` pixels a side."""
        return self.worst and self.worst * (3 * size**2 if self.unit == _PIXELS else 1)


_BOTH: tuple[Split, ...] = ("test", "train")
_PIXELS = "squared error of an image"
_INPUT = "times the input's"

MEASURES: dict[str, Measure] = {measure.name: measure for measure in (
    Measure("error", "error", _PIXELS, "ratio", "lower", splits=_BOTH, worst=1.0),
    Measure("mse", "mean squared error", "", "ratio", "lower", splits=_BOTH, worst=1.0),
    Measure("psnr", "PSNR", "dB", "difference", "higher", splits=_BOTH, worst=0.0),
    Measure("ssim", "SSIM", "", "difference", "higher", splits=_BOTH, worst=-1.0),
    Measure("ms_ssim", "MS-SSIM", "", "difference", "higher", smallest=88, worst=0.0),
    *(
        Measure(f"depth_error_{k}", f"error from level {k}", _PIXELS, "ratio", "lower", depth=k)
        for k in range(1, LEVELS + 1)
    ),
    Measure(
        "high_frequency_ratio", "fraction of high frequencies", _INPUT, "ratio", None,
        statistic=ratio,
    ),
    Measure("sharpness", "sharpness", "", "ratio", "higher", statistic=folded_ratio),
    # Without a split: of studies alone, as models were evaluated before these two came.
    Measure("coherence", "coherence of detail", "", "difference", "higher", splits=(), worst=-1.0),
    Measure(
        "detail_explained", "detail explained", "", "difference", "higher", statistic=explained,
        splits=(),
    ),
    Measure("grid_ratio", "grid ratio", "", "ratio", "lower", statistic=ratio, smallest=64),
    Measure("colour_shift", "colour shift", "", "ratio", "lower"),
    Measure("contrast_ratio", "contrast", _INPUT, "ratio", None, statistic=ratio),
    Measure(
        "faces_found", "faces found", "", "difference", "higher",
        statistic=fraction, smallest=64, images=DETECTED, splits=("test", "samples"), worst=0.0,
    ),
)}  # fmt: skip


def measurable(size: int, levels: int = 0) -> list[Measure]:
    """The measures of pictures of `size` pixels a side and a model of so many levels."""
    every = [m for m in MEASURES.values() if m.splits]
    return [m for m in every if m.smallest <= size and (m.depth or 0) <= levels]


def computed() -> dict[str, dict[str, object]]:
    """By measure, the fields that decide its numbers: not its name, comparison and bounds."""
    return {
        m.name: {key: getattr(m, key) for key in ("depth", "smallest", "images")}
        | {"statistic": m.statistic.__name__, "splits": [*m.splits]}
        for m in MEASURES.values()
        if m.splits
    }
