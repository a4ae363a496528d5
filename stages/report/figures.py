"""All figures of the report. Adding one is an entry here and the function that it names."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from matplotlib.figure import Figure
from PIL import Image

from stages.measure.records import Records
from stages.report import charts, sheets
from stages.report.charts import own_style, rendered

Section = Literal["Table 1", "Clarity", "Samples", "Training and sensitivity"]


class Drawing(NamedTuple):
    """draw: what makes it of the records, None where there is nothing to show. section: where
    reports/README.md shows it."""

    draw: Callable[[Records], Figure | Image.Image | None]
    caption: str
    section: Section | None = None


_FIGURE6 = (
    "the same held-out face through every model of the paper {} (first seed), stacked on the left, "
    "recursive on the right, each at the last step and with averaged weights, with the mean "
    "held-out error."
).format

FIGURES: dict[str, Drawing] = {
    "hero.png": Drawing(
        sheets.hero,
        "Two held-out faces, what the paper's stacked and recursive model and its recursive one "
        "with a shared norm make of them, and the model of the lowest error beyond the paper, with "
        "averaged weights (first seed).",
    ),
    "figure4_samples.png": Drawing(
        sheets.samples,
        "Figure 4: what the variational autoencoders make of standard normal latents (first seed).",
        "Samples",
    ),
    "figure5_errors.png": Drawing(
        charts.errors,
        "Figure 5: held-out error of every model, a point a seed, with the paper's numbers.",
        "Table 1",
    ),
    "figure6_reconstructions.png": Drawing(
        partial(sheets.reconstructions, implementation="described"),
        f"Figure 6: {_FIGURE6('as described')}",
        "Clarity",
    ),
    "figure6_released.png": Drawing(
        partial(sheets.reconstructions, implementation="released"),
        f"Figure 6 again: {_FIGURE6('as released')}",
        "Clarity",
    ),
    "other_variants.png": Drawing(
        sheets.other_variants,
        "Beyond the paper: the same held-out face through every model of our own (first seed), at "
        "the last step and, below, with averaged weights, with the mean held-out error.",
        "Clarity",
    ),
    "curves.png": Drawing(
        charts.curves,
        "Held-out error by epoch (the band spans the seeds), and the training loss of each level "
        "of the recursive and joint models.",
        "Training and sensitivity",
    ),
    "spectrum.png": Drawing(
        charts.spectrum,
        "Radial power spectrum of the reconstructions, and its ratio to the input's: below 1 is "
        "blur, above is grain.",
        "Clarity",
    ),
    "depth.png": Drawing(
        charts.depth,
        "Sensitivity: held-out error by epoch, and when an image is reconstructed from each "
        "level alone (the band spans the seeds).",
        "Training and sensitivity",
    ),
}


# The others compare with the paper.
OF_OWN_PICTURES = ("hero.png", "figure6_reconstructions.png", "other_variants.png", "curves.png")


def draw_all(records: Records, folder: Path, names: Iterable[str] = FIGURES) -> list[str]:
    """Write the named figures that the records allow into `folder`; returns the files' names."""
    drawn = []
    with own_style():
        for name in names:
            figure = FIGURES[name].draw(records)
            if figure is None:
                continue
            picture = rendered(figure) if isinstance(figure, Figure) else figure
            picture.save(folder / name)
            drawn.append(name)
    return drawn
