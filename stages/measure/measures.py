"""The one table of measures: how each is named, compared, judged, and averaged over images.

What computes them from pictures needs torch, and is `FUNCTIONS` of `compute`, by the same names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stages.measure.statistics import explained, folded_ratio, fraction, mean, ratio

Split = Literal["test", "train", "samples"]
LEVELS = 7
# Images behind a detection rate: its 95 % interval is within 6.2 points.
DETECTED = 250


@dataclass(frozen=True)
class Measure:
    """One number of a model, and how sure it is.

    label: what reports call it. unit: of its values, "" for a pure number. comparison: whether two
    models are compared by the ratio of their values or by the difference. better: which way is,
    None where neither is.

    statistic: what makes the measure and its standard error of the numbers of all images. depth:
    the level from which an image is reconstructed. images: at most so many, evenly spaced, where it
    takes long; None for all. splits: of which images. What is measured of `samples` looks at a
    picture alone, and is measured of the inputs and of noise, too.

    worst: the worst value there can be, which a training that diverged counts as; None where there
    is no such bound.
    """

    name: str
    label: str
    unit: str
    comparison: Literal["ratio", "difference"]
    better: Literal["higher", "lower"] | None
    statistic: Callable[[np.ndarray], tuple[float, float]] = mean
    depth: int = LEVELS
    images: int | None = None
    splits: tuple[Split, ...] = ("test",)
    worst: float | None = None


_BOTH: tuple[Split, ...] = ("test", "train")
_PIXELS = "squared error of an image"
_INPUT = "times the input's"

_TABLE = [
    Measure("error", "error", _PIXELS, "ratio", "lower", splits=_BOTH, worst=3.0 * 128 * 128),
    Measure("mse", "mean squared error", "", "ratio", "lower", splits=_BOTH, worst=1.0),
    Measure("psnr", "PSNR", "dB", "difference", "higher", splits=_BOTH, worst=0.0),
    Measure("ssim", "SSIM", "", "difference", "higher", splits=_BOTH, worst=-1.0),
    Measure("ms_ssim", "MS-SSIM", "", "difference", "higher", worst=0.0),
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
    Measure("grid_ratio", "grid ratio", "", "ratio", "lower", statistic=ratio),
    Measure("colour_shift", "colour shift", "", "ratio", "lower"),
    Measure("contrast_ratio", "contrast", _INPUT, "ratio", None, statistic=ratio),
    Measure(
        "faces_found", "faces found", "", "difference", "higher",
        statistic=fraction, images=DETECTED, splits=("test", "samples"), worst=0.0,
    ),
]  # fmt: skip

MEASURES: dict[str, Measure] = {measure.name: measure for measure in _TABLE}


def computed() -> dict[str, dict[str, object]]:
    """What of the table decides the numbers, by measure: all but how they are named and judged."""
    return {
        name: {
            "statistic": measure.statistic.__name__,
            "depth": measure.depth,
            "images": measure.images,
            "splits": [*measure.splits],
        }
        for name, measure in MEASURES.items()
    }
