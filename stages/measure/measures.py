"""The one table of measures: what evaluation computes, and how it is named, compared and judged.

Adding a measure is one entry here and the function that it names.
"""

from dataclasses import dataclass, fields
from typing import Literal

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

    function: what computes it, "module.name" of this package, from (reconstructions, images), both
    (N, 3, 128, 128) in [0, 1]: a number an image, from which the function `statistic` of
    `statistics` makes the measure. Functions of `fidelity` are given the model's values, those of
    `clarity` the 8 bit pictures made of them, as they would be looked at.

    depth: the level from which the image is reconstructed. images: at most so many, evenly spaced,
    where a function of `clarity` takes long; None for all. splits: of which images. What is
    measured of `samples` looks at a picture alone, and is measured of the inputs and of noise, too.

    worst: the worst value there can be, which a training that diverged counts as; None where there
    is no such bound.
    """

    name: str
    label: str
    unit: str
    comparison: Literal["ratio", "difference"]
    function: str
    better: Literal["higher", "lower"] | None
    statistic: Literal["mean", "fraction", "ratio", "folded_ratio"] = "mean"
    depth: int = LEVELS
    images: int | None = None
    splits: tuple[Split, ...] = ("test",)
    worst: float | None = None


_BOTH: tuple[Split, ...] = ("test", "train")
_PIXELS = "squared error of an image"
_INPUT = "times the input's"

_TABLE = [
    Measure(
        "error", "error", _PIXELS, "ratio", "fidelity.squared_error", "lower",
        splits=_BOTH, worst=3.0 * 128 * 128,
    ),
    Measure(
        "mse", "mean squared error", "", "ratio", "fidelity.mean_squared_error", "lower",
        splits=_BOTH, worst=1.0,
    ),
    Measure(
        "psnr", "PSNR", "dB", "difference", "fidelity.psnr", "higher", splits=_BOTH, worst=0.0
    ),
    Measure("ssim", "SSIM", "", "difference", "fidelity.ssim", "higher", splits=_BOTH, worst=-1.0),
    Measure("ms_ssim", "MS-SSIM", "", "difference", "fidelity.ms_ssim", "higher", worst=0.0),
    *(
        Measure(
            f"depth_error_{k}", f"error from level {k}", _PIXELS, "ratio",
            "fidelity.squared_error", "lower", depth=k,
        )
        for k in range(1, LEVELS + 1)
    ),
    Measure(
        "high_frequency_ratio", "fraction of high frequencies", _INPUT, "ratio",
        "clarity.high_frequency_ratio", None, statistic="ratio",
    ),
    Measure(
        "sharpness", "sharpness", "", "ratio", "clarity.high_frequency_ratio", "higher",
        statistic="folded_ratio",
    ),
    Measure(
        "grid_ratio", "grid ratio", "", "ratio", "clarity.grid_ratio", "lower", statistic="ratio"
    ),
    Measure("colour_shift", "colour shift", "", "ratio", "clarity.colour_shift", "lower"),
    Measure(
        "contrast_ratio", "contrast", _INPUT, "ratio", "clarity.contrast_ratio", None,
        statistic="ratio",
    ),
    Measure(
        "faces_found", "faces found", "", "difference", "clarity.faces_found", "higher",
        statistic="fraction", images=DETECTED, splits=("test", "samples"), worst=0.0,
    ),
]  # fmt: skip

MEASURES: dict[str, Measure] = {measure.name: measure for measure in _TABLE}


def computed() -> dict[str, dict[str, object]]:
    """What of the table decides the numbers, by measure: all but how they are named and judged."""
    told = ("name", "label", "unit", "comparison", "better", "worst")
    decides = [field.name for field in fields(Measure) if field.name not in told]
    return {
        name: {key: _plain(getattr(measure, key)) for key in decides}
        for name, measure in MEASURES.items()
    }


def _plain(value: object) -> object:
    return [*value] if isinstance(value, tuple) else value
