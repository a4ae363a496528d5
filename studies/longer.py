"""Does it last, and how far must a gradient travel? Trainings of 10 to 80 epochs.

`python -m studies.longer [ARM ...]` trains the named ARMS, or all, and measures error and clarity
on held-out faces. Its rows replace those of the same arms in reports/studies/longer.csv; .md and
.png show the whole table. Seconds are those of pace.csv, which `python -m studies.pace` writes.

What is asked was fixed in git before any result with a cosine was known, on seeds that nobody had
seen:

- Does the lead of recursive training last? The ratio of errors, recursive_cosine over
  stacked_cosine, averaged weights, after 40 epochs. It lasts if the interval over seeds lies below
  1, and does not if it lies above.
- Does more reach help? reach_2_cosine over stacked_cosine, after 20 epochs, and over
  stacked_cosine and recursive_cosine of 40 epochs, which take about as many seconds.
  reach_3_cosine was to have three seeds; one came first, for lack of time.
- Is it detail or grain? Detail explained beside high frequencies.

Asked later, when these results were known, but none of what follows:

- Was it the constant rate? recursive_constant over recursive_cosine, the same seeds, 40 epochs.
- Does a third level help? reach_3_cosine over reach_2_cosine, 20 epochs, all three seeds. Its
  ratios over stacked_cosine were added when its errors were known.
- Is it clearer by detail, too, after the paper's ten epochs? Detail explained, the difference of
  recursive_constant (claim 1) and of shared_norm (claim 6) to stacked_constant, both weights.
  After 20 epochs the same of recursive_20_epochs and stacked_20_epochs, on ten seeds.

Asked when all of these were known, and at 64 pixels trainings of 80 epochs, but nothing of what
follows, FRESH seeds:

- Who wins after 80 epochs? recursive_cosine, the better of the two rates for recursive training,
  over stacked_constant, the better one for stacked training, and over stacked_tuned_80_epochs;
  recursive_then_stacked_80_epochs over stacked_tuned_80_epochs. The same of detail explained.
- Do three more seeds say the same of the paper's rate? recursive_constant over stacked_constant, 40
  epochs, and both groups of seeds as one.
"""

import math
import sys
from collections.abc import Iterable, Mapping
from itertools import cycle, product
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.settings import ModelSettings, read_variant
from stages.data import faces
from stages.data.faces import Faces
from stages.model import checkpoint, store
from stages.model.network import Autoencoder, device
from stages.report.catalogue import OWN_COLOURS
from stages.report.charts import band, log_axis, own_style, rendered, whole_epochs
from stages.report.statistics import CONFIDENCE
from stages.report.studies import (
    DETAIL,
    ERROR,
    SAME,
    compared,
    mean_sd,
    pace,
    pooled,
    short_hash,
)
from studies import shared
from studies.shared import FOLDER, markdown, obtained, spread, with_others

SEEN, FRESH = range(3), range(10, 13)  # seeds
COSINE: dict[str, object] = {"schedule": "cosine"}


class Arm(NamedTuple):
    """Trainings of a variant with `changes`, one a seed, measured after each of `epochs`."""

    variant: str
    changes: Mapping[str, object] = MappingProxyType({})
    epochs: tuple[int, ...] = (10, 20, 40)
    seeds: range = SEEN


ARMS = {
    "stacked": Arm("stacked"),
    "recursive": Arm("recursive"),
    "recursive_then_stacked": Arm("recursive_then_stacked"),
    "stacked_tuned": Arm("stacked_tuned"),
    "stacked_tuned_cosine": Arm("stacked_tuned", COSINE),
    "stacked_cosine": Arm("stacked", COSINE, (20, 40), FRESH),
    "recursive_cosine": Arm("recursive", COSINE, (20, 40, 80), FRESH),
    "recursive_constant": Arm("recursive", seeds=FRESH),
    "stacked_constant": Arm("stacked", epochs=(10, 80), seeds=FRESH),
    "stacked_tuned_80_epochs": Arm("stacked_tuned", epochs=(80,), seeds=FRESH),
    "recursive_then_stacked_80_epochs": Arm("recursive_then_stacked", epochs=(80,), seeds=FRESH),
    "shared_norm": Arm("recursive_shared_bn", epochs=(10,), seeds=FRESH),
    "stacked_20_epochs": Arm("stacked_20_epochs", epochs=(20,), seeds=range(10)),
    "recursive_20_epochs": Arm("recursive_20_epochs", epochs=(20,), seeds=range(10)),
    "reach_2_cosine": Arm("recursive", COSINE | {"reach": 2}, (20,), FRESH),
    "reach_3_cosine": Arm("recursive", COSINE | {"reach": 3}, (20,), FRESH),
}
# What is compared: one arm over another, with its epochs, all seeds of a training `pooled`.
RATIOS = (
    ("recursive", 40, "stacked", 40),
    ("recursive_cosine", 20, "stacked_cosine", 20),
    ("recursive_cosine", 40, "stacked_cosine", 40),
    ("recursive", 40, "recursive_cosine", 40),
    ("recursive_cosine", 80, "stacked", 80),
    ("recursive_cosine", 80, "stacked_tuned", 80),
    ("recursive_then_stacked", 80, "stacked_tuned", 80),
    ("recursive_20_epochs", 20, "stacked_20_epochs", 20),
    ("reach_2_cosine", 20, "stacked_cosine", 20),
    ("reach_2_cosine", 20, "stacked_cosine", 40),
    ("reach_2_cosine", 20, "recursive_cosine", 40),
    ("reach_3_cosine", 20, "reach_2_cosine", 20),
    ("reach_3_cosine", 20, "stacked_cosine", 20),
    ("reach_3_cosine", 20, "stacked_cosine", 40),
    # Of `ancestors`:
    ("greedy_cosine", 20, "recursive_cosine", 20),
    ("recursive_then_stacked", 40, "stacked_tuned", 40),
)
MEASURED = 256  # faces behind the clarity
TABLE = ("faces", "variant", "seed", "epoch", "measure", "value", "processor")
MEASURES = {  # what a table calls it, and its digits after the point
    ERROR: ("error", 0),
    DETAIL["averaged"]: ("detail explained", 2),
    DETAIL["last_step"]: ("detail explained, last step", 2),
    "coherence": ("coherence of detail", 2),
    "high_frequency_ratio": ("high frequencies", 3),
    "grid_ratio": ("grid ratio", 2),
}
DRAWN = (ERROR, DETAIL["averaged"], "high_frequency_ratio")
CLARITY = [name for name in MEASURES if name not in (ERROR, DETAIL["last_step"])]


@entry_point
def main(*arms: str) -> None:
    if unknown := {*arms} - {*ARMS}:
        raise PipelineError(f"there is no {min(unknown)}; there are {', '.join(ARMS)}")
    people = faces.load()
    rows = [
        (short_hash(people.hash), name, *row)
        for name in arms or ARMS
        for row in measured(ARMS[name], people)
    ]
    write(pd.DataFrame(rows, columns=[*TABLE]).drop_duplicates([*TABLE[:5]]))


def measured(arm: Arm, people: Faces) -> list[tuple[object, ...]]:
    """Seed, epoch, measure, value and processor of every training, done now if it is not kept."""
    settings = [settings_of(arm, epochs) for epochs in arm.epochs]
    rows: list[tuple[object, ...]] = []
    for training, folder in obtained(settings, arm.seeds, people):
        end = training.settings.epochs
        points = [
            (epoch, loss, value)
            for epoch, split, loss, value in store.read_curve(folder)
            # Where a schedule depends on the number of epochs, the middle belongs to no other.
            if split == "test" and (epoch == end or store.goes_on(training.settings))
        ]
        if store.divergence(folder):
            points.append((end, ERROR, math.inf))
        else:
            model, last = (
                checkpoint.load(folder / f"{weights}.safetensors")[0].to(device())
                for weights in ("averaged", "last_step")
            )
            detail = clear(last, people, [DETAIL["averaged"]])
            found = clear(model, people) | {DETAIL["last_step"]: detail[DETAIL["averaged"]]}
            points += [(end, *item) for item in found.items()]
        processor = "{processor}, {vectors}".format_map(store.read_machine(folder))
        rows += [(training.seed, *point, processor) for point in points]
    return rows


def settings_of(arm: Arm, epochs: int) -> ModelSettings:
    settings = stretched(read_variant(arm.variant).models()["described"], epochs)
    return ModelSettings.model_validate(settings.model_dump() | {**arm.changes})


def stretched(settings: ModelSettings, epochs: int) -> ModelSettings:
    """Settings for another number of epochs: what is counted in them keeps its fraction."""
    stacked = round(settings.stacked_epochs * epochs / settings.epochs)
    return settings.model_copy(update={"epochs": epochs, "stacked_epochs": stacked})


def clear(model: Autoencoder, people: Faces, measures: Iterable[str] = CLARITY) -> dict[str, float]:
    """Measures of a model's reconstructions of held-out faces, by name."""
    return shared.measured(model, spread(people, "test", MEASURED), measures)


def write(measured: pd.DataFrame) -> None:
    """Put these rows in place of those of the same faces and arms; show the whole table."""
    measured = with_others(measured, "longer", ["faces", "variant"])
    seconds = pace(FOLDER / "pace.csv")
    shown = measured[measured["faces"] == measured["faces"].iloc[-1]]
    with own_style():
        picture = rendered(draw(shown, seconds))
    shared.write("longer", measured, told(pooled(shown), seconds), picture.save)


def draw(frame: pd.DataFrame, seconds: Mapping[str, float]) -> Figure:
    """DRAWN against epochs (left) and seconds (right), a line an arm, alike for the SAME training.

    seconds: of a core, an epoch, by training; one without is drawn on the left alone.
    """
    frame = frame[np.isfinite(frame["value"])]
    frame = frame.assign(training=frame["variant"].replace(SAME))
    frame = frame.assign(seconds=frame["epoch"] * frame["training"].map(seconds))
    figure = Figure(figsize=(10, 10))
    grid = figure.subplots(len(DRAWN), 2, sharey="row", sharex="col")
    lines = product((("-", "o"), ("--", "D")), OWN_COLOURS)
    looks = dict(zip(dict.fromkeys(frame["training"]), cycle(lines), strict=False))
    for axes_row, measure in zip(grid, DRAWN, strict=True):
        for axes, x in zip(axes_row, ("epoch", "seconds"), strict=True):
            of = frame[frame["measure"] == measure].dropna(subset=x)
            for (training, arm), own in of.groupby(["training", "variant"], sort=False):
                (dash, marker), colour = looks[training]
                values = own.pivot(index="seed", columns=x, values="value").dropna(axis=1)
                line = {"color": colour, "linestyle": dash}
                line["marker"] = marker if len(values.columns) < 5 else ""
                told = "" if arm in SAME and training in {*of["variant"]} else str(training)
                band(axes, values.columns, values.to_numpy(), line, told)
        axes_row[0].set_ylabel(f"{MEASURES[measure][0]}, held out")
    log_axis(grid[0][0])
    whole_epochs(grid[-1][0])
    grid[-1][0].set_xlabel("epoch")
    grid[-1][1].set_xlabel("seconds of a core")
    grid[0][0].legend(fontsize=7)
    return figure


def told(frame: pd.DataFrame, seconds: Mapping[str, float]) -> str:
    """The results in Markdown: each arm, mean ± standard deviation over seeds, and RATIOS."""
    epochs = sorted({epoch for arm in ARMS.values() for epoch in arm.epochs})
    lines = [
        "# Does it last, and how far must a gradient travel?",
        "",
        "Longer trainings on held-out faces, averaged weights; mean ± standard deviation over n "
        "seeds. `_cosine`: the learning rate falls to zero by a cosine. `reach_2`: beside the loss "
        "of each level alone, the same through two neighbouring levels; `reach_3`: also through "
        "three. Every seed: `longer.csv`. "
        f"Trained on {'; '.join(sorted({*frame['processor']}))}.",
        "",
        *told_means(frame, MEASURES, epochs, seconds),
        "",
        *told_ratios(frame, RATIOS, seconds),
        "",
        "![Error and clarity](longer.png)",
    ]
    return "\n".join(lines) + "\n"


def told_means(
    frame: pd.DataFrame,
    measures: Mapping[str, tuple[str, int]],
    epochs: list[int],
    seconds: Mapping[str, float],
) -> list[str]:
    """Mean ± standard deviation over n seeds of each training after so many epochs, in Markdown.
    measures: what a table calls each, and its digits. seconds: of a core, an epoch, by training."""
    rows = []
    for name, own in frame.groupby("variant", sort=False):
        cost = f"{seconds[name]:.1f}" if name in seconds else "-"
        for measure, (label, digits) in measures.items():
            of = own[own["measure"] == measure]
            seeds = of.pivot(index="seed", columns="epoch", values="value").reindex(columns=epochs)
            if len(seeds):
                cells = [mean_sd(seeds[n], digits) for n in epochs]
                rows.append((name, label, *cells, len(seeds), cost))
    columns = " | ".join(f"{n} epochs" for n in epochs)
    return markdown(f"training | | {columns} | n | s an epoch", rows)


def told_ratios(
    frame: pd.DataFrame, ratios: Iterable[tuple[str, int, str, int]], seconds: Mapping[str, float]
) -> list[str]:
    """What is compared, seed by seed, in Markdown. ratios: one training over another, with their
    epochs. seconds: of a core, an epoch, by training."""
    rows = []
    for arm, n, other, m in ratios:
        if ratio := compared(frame, (arm, n), (other, m)):
            known = arm in seconds and other in seconds
            cost = f"{n * seconds[arm] / m / seconds[other]:.2f}" if known else "-"
            told = f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
            rows.append((f"{arm}, {n} epochs", f"{other}, {m} epochs", told, ratio.n, cost))
    return [
        "Errors compared seed by seed: the geometric mean of the ratio and its "
        f"{CONFIDENCE:.0%} interval over seeds (Student's t). Seconds are those of a core.",
        "",
        *markdown("this error | over that | ratio | n | seconds, over those", rows),
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
