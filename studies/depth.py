"""Does recursive training pay with depth?

`python -m studies.depth` trains five seeds of `recursive`, and of `stacked` with some of its levels
and with all. Level k of a recursive model does not know how many levels follow, so its first k
levels are the recursive model of k levels. The held-out errors go to reports/studies/depth.csv,
beside those of other faces; .md and .png show all of that table.
"""

import sys

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.common.entry import entry_point
from stages.common.settings import WEIGHTS, read_variant
from stages.data import faces
from stages.model import checkpoint
from stages.model.network import device
from stages.report.catalogue import WEIGHTS_LABELS
from stages.report.charts import own_style, rendered
from stages.report.statistics import CONFIDENCE
from stages.report.studies import BY_DEPTH, ratios_by_depth, short_hash
from studies import shared
from studies.shared import markdown, obtained, with_others, write

SEEDS = range(5)
FEWER = (3, 5)  # levels of stacked models beside all levels
KEY = [*BY_DEPTH, "training", "seed"]
TRAININGS = ("recursive", "stacked")


@entry_point
def main() -> None:
    people = faces.load()
    recursive, stacked = (read_variant(name).models()["described"] for name in TRAININGS)
    depths = (*(levels for levels in FEWER if levels < stacked.depth), stacked.depth)
    settings = [recursive, stacked]
    settings += [stacked.model_copy(update={"levels": levels}) for levels in depths[:-1]]
    images = people.images[people.rows("test")]
    rows: list[tuple[object, ...]] = []
    for training, folder in obtained(settings, SEEDS, people):
        kind = training.settings.training
        for weights in WEIGHTS:
            path = folder / f"{weights}.safetensors"
            model = checkpoint.load_trained(path, training, weights).to(device())
            looked_at = depths if kind == "recursive" else (model.depth,)
            names = [f"depth_error_{levels}" for levels in looked_at]
            found = shared.measured(model, images, names)
            for levels, error in zip(looked_at, found.values(), strict=True):
                what = model.size, short_hash(people.hash), weights, levels
                rows.append((*what, kind, training.seed, error))
    measured = with_others(pd.DataFrame(rows, columns=[*KEY, "error"]), "depth", ["faces"])
    measured = measured.sort_values(KEY, ignore_index=True)
    with own_style():
        picture = rendered(draw(measured))
    write("depth", measured, told(measured), picture.save)


def draw(measured: pd.DataFrame) -> Figure:
    """The ratio against the number of levels: a panel for each size, a line for each weights."""
    sizes = [*ratios_by_depth(measured).groupby(["size", "faces"])]
    figure = Figure(figsize=(5 * len(sizes), 4))
    panels = np.atleast_1d(figure.subplots(1, len(sizes), sharey=True))
    for axes, ((size, _), of_size) in zip(panels, sizes, strict=True):
        for weights, label in WEIGHTS_LABELS.items():
            line = of_size[of_size["weights"] == weights]
            reach = [line["ratio"] - line["low"], line["high"] - line["ratio"]]
            axes.errorbar(line["levels"], line["ratio"], reach, marker="o", capsize=3, label=label)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set(title=f"{size} x {size} pixels", xlabel="levels")
        axes.set_xticks(sorted({*of_size["levels"]}))
    panels[0].set_ylabel("error of recursive over stacked")
    panels[0].legend()
    return figure


def told(measured: pd.DataFrame) -> str:
    """The ratios in Markdown."""
    labelled = measured.assign(weights=measured["weights"].replace(dict(WEIGHTS_LABELS)))
    rows = []
    for row in ratios_by_depth(labelled).itertuples():
        errors = f"{row.recursive:.0f}", f"{row.stacked:.0f}"
        ratio = f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})"
        rows.append((f"{row.size} x {row.size}", row.weights, row.levels, *errors, ratio, row.n))
    lines = [
        "# Does recursive training pay with depth?",
        "",
        "A recursive model of k levels is the first k levels of a deeper one. A stacked model of k "
        "levels is trained by itself. Of one level both trainings are the same. Held-out error, "
        "mean over seeds, and the ratio recursive over stacked with its "
        f"{CONFIDENCE:.0%} interval over seeds. Every seed: `depth.csv`.",
        "",
        *markdown("pixels | weights | levels | recursive | stacked | ratio | n", rows),
        "",
        "![The ratio by depth](depth.png)",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
