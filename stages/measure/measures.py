"""The one table of measures: how each is named, compared, judged, and averaged over images.

What computes them from pictures needs torch, and is `FUNCTIONS` of `compute`, by the same names.
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
    """One number of a model, and how sure it is.

    label: what reports call it. unit: of its values, "" for a pure number. comparison: whether two
    models are compared by the ratio of their values or by the difference. better: which way is,
    None where neither is.

    statistic: what makes the measure and its standard error of the numbers of all images. depth:
    the level from which an image is reconstructed, None for the last. smallest: the fewest pixels a
    side of an image that it can be measured of. images: at most so many, evenly spaced, where it
    takes long; None for all. splits: of which images. What is measured of `samples` looks at a
    picture alone, and is measured of the inputs and of noise, too.

    worst: the worst value there can be, of errors at each of an image's values, which a training
    that diverged counts as; None where there is no such bound.
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

_TABLE = [
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
    Measure("coherence", "coherence of detail", "", "difference", "higher", worst=-1.0),
    Measure(
        "detail_explained", "detail explained", "", "difference", "higher", statistic=explained
    ),
    Measure("grid_ratio", "grid ratio", "", "ratio", "lower", statistic=ratio, smallest=64),
    Measure("colour_shift", "colour shift", "", "ratio", "lower"),
    Measure("contrast_ratio", "contrast", _INPUT, "ratio", None, statistic=ratio),
    Measure(
        "faces_found", "faces found", "", "difference", "higher",
        statistic=fraction, smallest=64, images=DETECTED, splits=("test", "samples"), worst=0.0,
    ),
]  # fmt: skip

MEASURES: dict[str, Measure] = {measure.name: measure for measure in _TABLE}


def measurable(size: int, levels: int = 0) -> list[Measure]:
    """What exists of pictures of `size` pixels a side, and of a model of so many levels."""
    return [m for m in MEASURES.values() if m.smallest <= size and (m.depth or 0) <= levels]


def computed() -> dict[str, dict[str, object]]:
    """What of the table decides the numbers, by measure: all but how they are named and judged."""
    return {
        name: {
            "statistic": measure.statistic.__name__,
            "depth": measure.depth,
            "smallest": measure.smallest,
            "images": measure.images,
            "splits": [*measure.splits],
        }
        for name, measure in MEASURES.items()
    }
