"""Does it last? Variants continued to 40 epochs.

`python -m studies.longer [VARIANT ...]` (without names, those of DEFAULT and CONTROLS) goes on
from the kept trainings of three seeds, or trains them, as many side by side as there are cores.
Error and clarity on held-out faces, against epochs and against seconds of a core:
reports/studies/longer.csv, .md and .png.
"""

import gc
import math
import sys
import time
from collections.abc import Mapping, Set
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.common.entry import entry_point
from stages.common.files import atomic_set
from stages.common.settings import ModelSettings, Training, Variant, read_variant
from stages.data import faces
from stages.data.faces import Faces
from stages.measure.compute import evenly_spaced
from stages.model import checkpoint, store
from stages.model.network import device
from stages.model.side_by_side import obtain_all
from stages.model.training import Diverged, Trainer
from stages.report.catalogue import OWN_COLOURS
from stages.report.charts import band, log_axis, own_style, rendered, whole_epochs
from stages.report.statistics import CONFIDENCE, t_interval
from stages.report.studies import short_hash
from studies.clear import clarity_of, write_table

DEFAULT = ("stacked", "recursive", "recursive_then_stacked", "stacked_tuned")
# Variants of DEFAULT with other settings: as `recursive_then_stacked` has a schedule, so has a
# stacked training.
CONTROLS: dict[str, tuple[str, dict[str, object]]] = {
    "stacked_tuned_cosine": ("stacked_tuned", {"schedule": "cosine"}),
}
EPOCHS = (10, 20, 40)  # where clarity is measured
SEEDS = 3
MEASURED = 256
FOLDER = Path("reports/studies")
TABLE = ("faces", "variant", "seed", "epoch", "seconds", "measure", "value")
MEASURES = {  # what a table calls it, and its digits after the point
    "averaged_error": ("error", 0),
    "high_frequency_ratio": ("high frequencies", 3),
    "grid_ratio": ("grid ratio", 2),
}
SHOWN = {
    "averaged_error": "held-out error, averaged weights",
    "error": "held-out error, last step",
    "high_frequency_ratio": "high frequencies, of the input's",
}


@entry_point
def main(*variants: str) -> None:
    settings = {name: read_variant(name) for name in variants or DEFAULT}
    if not variants:
        for name, (of, changes) in CONTROLS.items():
            settings[name] = settings[of].model_copy(update=changes)
    people = faces.load()
    pace = {name: seconds_an_epoch(variant, people) for name, variant in settings.items()}
    rows: list[list[object]] = []
    processors: set[str] = set()
    for before, epochs in pairwise((0, *EPOCHS)):
        planned = {
            (name, seed): Training(
                settings=stretched(described(variant), epochs), seed=seed, faces=people.hash
            )
            for name, variant in settings.items()
            for seed in variant.seeds[:SEEDS]
        }
        folders = obtain_all([*planned.values()])
        processors |= {"{processor}, {vectors}".format_map(store.read_machine(f)) for f in folders}
        for ((name, seed), training), folder in zip(planned.items(), folders, strict=True):
            if store.divergence(folder):  # the worst value, so that it is counted
                found = [(epochs, "averaged_error", math.inf)]
            else:
                found = clear(folder, people)
            # Trainings made anew have nothing but their ends to compare.
            since = before if store.goes_on(training.settings) else epochs - 1
            found += [point for point in errors(folder) if point[0] > since]
            for epoch, measure, value in found:
                point = epoch, epoch * pace[name], measure, value
                rows.append([short_hash(people.hash), name, seed, *point])
    frame = pd.DataFrame(rows, columns=list(TABLE))
    files = [FOLDER / f"longer.{ending}" for ending in ("csv", "png", "md")]
    with atomic_set(*files) as (table, picture, page):
        write_table(table, TABLE, rows)
        with own_style():
            rendered(draw(frame)).save(picture)
        page.write_text(told(frame, pace, processors), encoding="utf-8")


def described(variant: Variant) -> ModelSettings:
    return variant.models()["described"]


def stretched(settings: ModelSettings, epochs: int) -> ModelSettings:
    """Settings for another number of epochs: what is counted in them keeps its fraction."""
    stacked = round(settings.stacked_epochs * epochs / settings.epochs)
    return settings.model_copy(update={"epochs": epochs, "stacked_epochs": stacked})


def seconds_an_epoch(variant: Variant, people: Faces) -> float:
    """What an epoch of a training takes of a core, its two errors included: the middle of three.

    Not a number where it diverges in these.
    """
    settings = stretched(described(variant), 4)
    gc.collect()  # the trainer before, which refers to itself
    trainer = Trainer(Training(settings=settings, seed=0, faces=people.hash), people)
    taken = []
    try:
        trainer.run_epoch()  # compiles
        for _ in range(3):
            started = time.process_time()
            trainer.run_epoch()
            taken.append(time.process_time() - started)
    except Diverged:
        return math.nan
    return median(taken)


def clear(folder: Path, people: Faces) -> list[tuple[int, str, float]]:
    """Epoch, measure and value of a training's clarity at its end."""
    model, training = checkpoint.load(folder / "averaged.safetensors")
    rows = people.rows("test")
    images = people.images[rows[evenly_spaced(len(rows), MEASURED)]]
    found = clarity_of(model.to(device()), images)
    return [(training.settings.epochs, name, value) for name, value in found.items()]


def errors(folder: Path) -> list[tuple[int, str, float]]:
    """Epoch, measure and value of a training's held-out errors in every epoch."""
    curve = store.read_curve(folder)
    return [(epoch, loss, value) for epoch, split, loss, value in curve if split == "test"]


def draw(frame: pd.DataFrame) -> Figure:
    """Three measures against epochs (left) and seconds (right), a line a variant."""
    frame = frame[np.isfinite(frame["value"])]
    figure = Figure(figsize=(10, 9))
    grid = figure.subplots(len(SHOWN), 2, sharey="row", sharex="col")
    for axes_row, (measure, name) in zip(grid, SHOWN.items(), strict=True):
        of_measure = frame[frame["measure"] == measure]
        for axes, x in zip(axes_row, ("epoch", "seconds"), strict=True):
            variants = dict.fromkeys(frame["variant"])
            for variant, colour in zip(variants, OWN_COLOURS * len(variants), strict=False):
                own = of_measure[of_measure["variant"] == variant].dropna(subset=x)
                values = own.pivot(index="seed", columns=x, values="value").dropna(axis=1)
                line = {"color": colour, "marker": "o" if len(values.columns) < 5 else ""}
                band(axes, values.columns, values.to_numpy(), line, variant)
        axes_row[0].set_ylabel(name)
        if measure.endswith("error"):
            log_axis(axes_row[0])
    whole_epochs(grid[-1][0])
    grid[-1][0].set_xlabel("epoch")
    grid[-1][1].set_xlabel("seconds of a core")
    grid[0][0].legend()
    return figure


def told(frame: pd.DataFrame, pace: Mapping[str, float], processors: Set[str]) -> str:
    """The results in Markdown: at each of EPOCHS the mean ± standard deviation over seeds."""
    first = next(iter(pace))
    lines = [
        "# Does it last?",
        "",
        f"Trainings of up to {SEEDS} seeds continued to {EPOCHS[-1]} epochs, or made anew for each "
        "number of epochs where a schedule depends on it, on held-out faces, weights averaged; "
        f"mean ± standard deviation over seeds, and ratios to {first} seed by seed with their "
        f"{CONFIDENCE:.0%} interval over seeds (Student's t). Every epoch and seed: `longer.csv`.",
        f"Trained on {'; '.join(sorted(processors))}.",
        *(
            f"`{name}` is {of} with {', '.join(f'{key}: {value}' for key, value in other.items())}."
            for name, (of, other) in CONTROLS.items()
            if name in pace
        ),
        "",
        f"| variant | | {' | '.join(f'{epochs} epochs' for epochs in EPOCHS)} | seconds an epoch |",
        f"| --- | --- |{' --- |' * (len(EPOCHS) + 1)}",
    ]
    values = frame.set_index(["variant", "measure", "epoch"])["value"]
    seeds = frame.groupby("variant")["seed"].agg(set)
    wide = frame.pivot(index=["measure", "epoch", "seed"], columns="variant", values="value")
    for variant, seconds in pace.items():
        ratios = wide[variant] / wide[first]
        for measure, (label, _) in MEASURES.items():
            cells = [
                _cell(values, (variant, measure, epochs), len(seeds[variant])) for epochs in EPOCHS
            ]
            last = f"{seconds:.1f}" if measure == "averaged_error" else ""
            lines.append(f"| {variant} | {label} | {' | '.join(cells)} | {last} |")
            if variant != first:
                both = len(seeds[variant] & seeds[first])
                cells = [_ratio(ratios[measure].get(epochs), both) for epochs in EPOCHS]
                lines.append(f"| {variant} | {label}, over {first} | {' | '.join(cells)} | |")
    return "\n".join([*lines, "", "![Learning curves](longer.png)", ""])


def _cell(values: pd.Series, key: tuple[str, str, int], seeds: int) -> str:
    """Mean and standard deviation over seeds, and how many diverged."""
    own = values[(values.index == key) & np.isfinite(values)]
    if own.empty:
        return "all diverged"
    digits = MEASURES[key[1]][1]
    text = f"{own.mean():.{digits}f}"
    text += f" ± {own.std():.{digits}f}" if len(own) > 1 else ""
    return text if len(own) == seeds else f"{text}; {seeds - len(own)} diverged"


def _ratio(ratios: pd.Series | None, seeds: int) -> str:
    """Geometric mean of a ratio a seed, its interval, and how many of the seeds diverged."""
    finite = ratios[np.isfinite(ratios) & (ratios > 0)] if ratios is not None else ()
    logs = np.log(finite)
    if not len(logs):
        return "-"
    interval = t_interval(logs, CONFIDENCE)
    told = "{:.2f} to {:.2f}".format(*np.exp(interval)) if interval else "one seed"
    text = f"{np.exp(np.mean(logs)):.2f} ({told})"
    return text if len(logs) == seeds else f"{text}; {seeds - len(logs)} diverged"


if __name__ == "__main__":
    main(*sys.argv[1:])
