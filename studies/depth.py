"""Does recursive training pay with depth?

`python -m studies.depth` trains five seeds of `recursive`, and of `stacked` with some of its levels
and with all. Level k of a recursive model does not know how many levels follow, so its first k
levels are the recursive model of k levels. The held-out errors go to reports/studies/depth.csv,
beside those of other faces or another size of picture, and all of that table to .md and .png.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from stages.common.entry import entry_point
from stages.common.files import atomic_set, number
from stages.common.settings import WEIGHTS, Training, read_variant
from stages.data import faces
from stages.data.faces import to_tensor
from stages.model import checkpoint
from stages.model.network import Autoencoder, device
from stages.model.side_by_side import obtain_all
from stages.report.catalogue import WEIGHTS_LABELS
from stages.report.charts import own_style, rendered
from stages.report.statistics import CONFIDENCE
from stages.report.studies import BY_DEPTH, ratios_by_depth, short_hash
from studies.clear import with_others

SEEDS = range(5)
FEWER = (3, 5)  # levels of stacked models beside all levels
BATCH = 64
FOLDER = Path("reports/studies")
KEY = [*BY_DEPTH, "training", "seed"]
TRAININGS = ("recursive", "stacked")


@entry_point
def main() -> None:
    people = faces.load()
    recursive, stacked = (read_variant(name).models()["described"] for name in TRAININGS)
    depths = (*(levels for levels in FEWER if levels < stacked.depth), stacked.depth)
    settings = [recursive, stacked]
    settings += [stacked.model_copy(update={"levels": levels}) for levels in depths[:-1]]
    trainings = [
        Training(settings=one, seed=seed, faces=people.hash) for one in settings for seed in SEEDS
    ]
    images = people.images[people.rows("test")]
    rows: list[tuple[object, ...]] = []
    for training, folder in zip(trainings, obtain_all(trainings), strict=True):
        kind = training.settings.training
        for weights in WEIGHTS:
            path = folder / f"{weights}.safetensors"
            model = checkpoint.load_trained(path, training, weights).to(device())
            for levels in depths if kind == "recursive" else (model.depth,):
                what = model.size, short_hash(people.hash), weights, levels
                rows.append((*what, kind, training.seed, error(model, images, levels)))
    write(pd.DataFrame(rows, columns=[*KEY, "error"]))


@torch.inference_mode()
def error(model: Autoencoder, images: np.ndarray, levels: int) -> float:
    """Squared error summed over an image, mean over uint8 images (n, s, s, 3), through the first
    `levels` levels."""
    total = 0.0
    for start in range(0, len(images), BATCH):
        inputs = to_tensor(images[start : start + BATCH]).to(device())
        total += (model.reconstruct(inputs, levels) - inputs).square().double().sum().item()
    return total / len(images)


def write(measured: pd.DataFrame, folder: Path = FOLDER) -> None:
    """Put these rows in place of those of the same faces, and draw and tell the whole table."""
    files = [folder / f"depth.{ending}" for ending in ("csv", "png", "md")]
    measured = with_others(measured, files[0], ["faces"]).sort_values(KEY, ignore_index=True)
    with atomic_set(*files) as (table, picture, page):
        measured.to_csv(table, index=False, float_format=number, lineterminator="\n")  # type: ignore[arg-type]
        with own_style():
            rendered(draw(measured)).save(picture)
        page.write_text(told(measured), encoding="utf-8")


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
    lines = [
        "# Does recursive training pay with depth?",
        "",
        "A recursive model of k levels is the first k levels of a deeper one. A stacked model of k "
        "levels is trained by itself. Of one level both trainings are the same. Held-out error, "
        "mean over seeds, and the ratio recursive over stacked with its "
        f"{CONFIDENCE:.0%} interval over seeds. Every seed: `depth.csv`.",
        "",
        "| pixels | weights | levels | recursive | stacked | ratio | n |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    row = (
        "| {0.size} x {0.size} | {0.weights} | {0.levels} | {0.recursive:.0f} | {0.stacked:.0f} | "
        "{0.ratio:.2f} ({0.low:.2f} to {0.high:.2f}) | {0.n} |"
    )
    labelled = measured.assign(weights=measured["weights"].replace(dict(WEIGHTS_LABELS)))
    lines += [row.format(values) for values in ratios_by_depth(labelled).itertuples()]
    return "\n".join([*lines, "", "![The ratio by depth](depth.png)", ""])


if __name__ == "__main__":
    main(*sys.argv[1:])
