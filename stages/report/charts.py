"""The charts. Each takes the records and returns a figure of matplotlib, made in `own_style`.

Nothing of them depends on the settings of the user's own matplotlib.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image

from stages.common.settings import IMPLEMENTATIONS, WEIGHTS, Implementation, Weights
from stages.measure.measures import MEASURES
from stages.measure.records import Model, Record, Records
from stages.report.catalogue import (
    IMPLEMENTATION_LABELS,
    PAPER,
    WEIGHTS_LABELS,
    Look,
    dashes_of,
    distinct,
    error_by_epoch,
    families,
    family,
    label,
    looks_of,
    models,
    valid,
    variants,
)

ERROR = f"held-out {MEASURES['error'].label}"
MARKERS: dict[Weights, tuple[str, float]] = {"last_step": ("o", 5.5), "averaged": ("D", 4.5)}
# Above and below a row's middle, in rows: the paper, then each kind of models.
GREY = "#444444"  # of keys
PAPER_LANE = -0.36
LANES: dict[tuple[Implementation, Weights], float] = {
    ("described", "last_step"): -0.16,
    ("described", "averaged"): 0.03,
    ("released", "last_step"): 0.22,
    ("released", "averaged"): 0.38,
}

STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
}


@contextmanager
def own_style() -> Iterator[None]:
    """matplotlib's defaults and STYLE, nothing else; figures are made and rendered within."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def rendered(figure: Figure) -> Image.Image:
    """A chart's pixels in 256 colours: a chart needs no more, and its file is half as large."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)


def errors(records: Records) -> Figure:
    """Figure 5: the held-out error of every model and seed, with the paper's numbers."""
    looks, rows = looks_of(records), variants(records)
    figure = Figure(figsize=(9.5, 0.75 * len(rows) + 1.4))
    axes = figure.subplots()
    for y, variant in enumerate(rows):
        if y % 2:
            axes.axhspan(y - 0.5, y + 0.5, color="#F5F5F5", zorder=0)
        for (implementation, weights), lane in LANES.items():
            record = records.found.get(Model(variant, implementation, weights))
            if record:
                _seeds(axes, record, y + lane, looks[variant].colour)
        if variant in PAPER:
            paper = PAPER[variant]
            for value, marker, size in ((paper.table1, "v", 6), (paper.figure5, "1", 9)):
                if value is not None:
                    axes.plot(value, y + PAPER_LANE, marker, color="black", ms=size)
    axes.set_yticks(range(len(rows)), [label(variant) for variant in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    log_axis(axes, "x")
    axes.set_xlabel(f"{ERROR} (squared error over an image's {3 * records.size**2:,} values)")
    key = _errors_key(records)
    figure.legend(handles=key, loc="outside lower center", ncols=4, handletextpad=0.1)
    return figure


def _seeds(axes: Axes, record: Record, y: float, colour: str) -> None:
    """A point a seed, a line at their mean, and how many diverged, at the right."""
    values = valid(record, "error").value
    filled = record.model.implementation == "described"
    look: dict[str, Any] = {"mec": colour, "mfc": colour if filled else "white"}
    marker, size = MARKERS[record.model.weights]
    axes.plot(values, [y] * len(values), marker, ms=size, mew=1.1, alpha=0.75, **look)
    if len(values):
        axes.plot(values.mean(), y, "|", ms=11, mew=1.6, **look)
    if record.diverged:
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "color": colour}
        told = f"{len(record.diverged)} diverged"
        axes.text(0.995, y, told, fontsize=7, ha="right", va="center", **place)


def _errors_key(records: Records) -> list[Line2D]:
    key = []
    for implementation, weights in LANES:
        found = models(records, implementation, weights)
        if not found:
            continue
        counts = sorted({len(record.seeds) for record in found})
        n = f"n = {counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else "")
        told = f"{IMPLEMENTATION_LABELS[implementation]}, {WEIGHTS_LABELS[weights]}, {n}"
        look: dict[str, Any] = {"marker": MARKERS[weights][0], "linestyle": "", "ms": 6}
        look["mfc"] = GREY if implementation == "described" else "white"
        key.append(Line2D([], [], color=GREY, label=told, **look))
    mark: dict[str, Any] = {"color": "black", "linestyle": ""}
    return [
        *key,
        Line2D([], [], color=GREY, linestyle="", marker="|", ms=12, mew=1.6, label="mean"),
        Line2D([], [], **mark, marker="v", ms=6, label="paper, Table 1"),
        Line2D([], [], **mark, marker="1", ms=9, label="paper, Figure 5"),
    ]


def curves(records: Records) -> Figure:
    """Held-out error by epoch of every model, and the losses of those that train levels."""
    looks = looks_of(records)
    shown = {weights: distinct(models(records, "described", weights)) for weights in WEIGHTS}
    by_level = [record for record in shown["last_step"] if record.settings.training != "stacked"]
    columns = min(max(len(by_level), 1), 6)
    rows = -(-len(by_level) // columns)
    high = max(4.4, 0.23 * len(shown["last_step"]))  # inches, for a key of all
    figure = Figure(figsize=(15, high + 2.9 * rows))
    halves: Any = figure.subfigures(2, 1, height_ratios=(high, max(2.9 * rows, 0.1)))
    upper, lower = halves
    panels = upper.subplots(1, len(WEIGHTS), sharey=True)
    for axes, weights in zip(panels, WEIGHTS, strict=True):
        for record in shown[weights]:
            name = record.model.variant
            band(axes, *_by_epoch(record), _line(looks[name], "described"), label(name))
        log_axis(axes)
        axes.set(xlabel="epoch", title=WEIGHTS_LABELS[weights])
        whole_epochs(axes)
    panels[0].set_ylabel(ERROR)
    handles, labels = panels[0].get_legend_handles_labels()
    upper.legend(handles, labels, loc="outside right center", handlelength=3)
    if by_level:
        _level_losses(lower, by_level, rows, columns)
    return figure


def _level_losses(figure: Any, by_level: Sequence[Record], rows: int, columns: int) -> None:
    grid = [*figure.subplots(rows, columns, sharey=True, squeeze=False).flat]
    levels = max(record.settings.depth for record in by_level)
    shades = [*enumerate(matplotlib.colormaps["viridis"](np.linspace(0, 0.92, levels)), start=1)]
    for axes, record in zip(grid, by_level, strict=False):
        losses = record.curve[record.curve.split == "train"]
        for level, shade in shades:
            means = losses[losses.loss == f"level_{level}"].groupby("epoch").value.mean()
            axes.plot(means.index, means, color=shade, linewidth=1.8)
        axes.set_title(label(record.model.variant), fontsize=10)
        axes.set_xlabel("epoch")
        whole_epochs(axes)
    for place, axes in enumerate(grid):
        if place >= len(by_level):
            axes.set_visible(False)
        elif place % columns == 0:
            axes.set_ylabel("training loss of a level")
        log_axis(axes)
    key = [
        Line2D([], [], color=shade, linewidth=1.8, label=f"level {level}")
        for level, shade in shades
    ]
    figure.legend(handles=key, loc="outside right center")


def spectrum(records: Records) -> Figure:
    """Radial power spectrum of the reconstructions, and its ratio to the input's."""
    reference = records.references.input_spectrum[1:]  # without the mean
    frequency = np.arange(1, len(reference) + 1)
    black: dict[str, Any] = {"color": "black", "linewidth": 1.2, "zorder": 3}

    def power(record: Record) -> Points:
        return frequency, record.spectrum[:, 1:]

    def ratio(record: Record) -> Points:
        return frequency, record.spectrum[:, 1:] / reference

    cycles = "cycles across the image"
    rows: list[Row] = [
        ("last_step", power, cycles, "power, last step"),
        ("last_step", ratio, cycles, "over the input's, last step"),
        ("averaged", ratio, cycles, "over the input's, averaged"),
    ]
    figure = _by_family(records, rows, [Line2D([], [], **black, label="input")])
    octaves = 2 ** np.arange(int(np.log2(len(reference))) + 1)
    for place, axes in enumerate(figure.axes):
        upper = place < len(figure.axes) // len(rows)
        axes.plot(frequency, reference if upper else np.ones_like(reference), **black)
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(octaves, [str(octave) for octave in octaves])
        axes.minorticks_off()
        if not upper:
            log_axis(axes)
    return figure


def depth(records: Records) -> Figure:
    """Held-out error by epoch, and by the level from which the image is reconstructed."""
    rows: list[Row] = []
    for weights in WEIGHTS:
        told = f"{ERROR}, {WEIGHTS_LABELS[weights]}"
        rows.append((weights, _by_epoch, "epoch", told))
        rows.append((weights, _by_depth, "reconstructed from level", told))
    figure = _by_family(records, rows)
    deepest = max(record.settings.depth for record in records.found.values())
    for axes in figure.axes:
        log_axis(axes)
        if axes.get_xlabel() == "epoch":
            whole_epochs(axes)
        else:
            axes.set_xticks(range(1, deepest + 1))
    return figure


Points = tuple[Any, np.ndarray]  # x (n,) and a value of each seed there (seeds, n)


def _by_epoch(record: Record) -> Points:
    rows = error_by_epoch(record, record.model.weights)
    rows = rows[~rows.seed.isin([*record.diverged])]
    table = rows.pivot(index="seed", columns="epoch", values="value")
    return table.columns, table.to_numpy()


def _by_depth(record: Record) -> Points:
    levels = range(1, record.settings.depth + 1)
    depths = {k: valid(record, f"depth_error_{k}").value for k in levels}
    table = pd.DataFrame({k: values for k, values in depths.items() if len(values)})
    return table.columns, table.to_numpy()


# Of which weights, what is drawn of a model, and the labels of both axes.
Row = tuple[Weights, Callable[[Record], Points], str, str]


def _by_family(records: Records, rows: Sequence[Row], extra_key: Sequence[Line2D] = ()) -> Figure:
    """A column a family of models, a row a way to look at them; every row shares its axes."""
    columns, looks = families(records), looks_of(records)
    figure = Figure(figsize=(max(2.45 * len(columns) + 0.8, 7), 2.75 * len(rows) + 0.5))
    grid = figure.subplots(len(rows), len(columns), sharey="row", sharex="row", squeeze=False)
    for row, (weights, points, x_label, y_label) in enumerate(rows):
        shown = [
            record
            for implementation in IMPLEMENTATIONS
            for record in distinct(models(records, implementation, weights))
        ]
        for axes, name in zip(grid[row], columns, strict=True):
            for record in shown:
                if family(record) == name:
                    variant, implementation, _ = record.model
                    told = "" if variant in PAPER else label(variant)
                    band(axes, *points(record), _line(looks[variant], implementation), told)
            axes.set_xlabel(x_label)
            if row == 0:
                axes.set_title(name)
        grid[row, 0].set_ylabel(y_label)
    key = _line_key(records, extra_key)
    for axes in grid[0]:
        key += axes.get_legend_handles_labels()[0]
    across = max(len(columns) - 1, 2)
    figure.set_figheight(figure.get_figheight() + 0.22 * (len(key) // across))
    figure.legend(handles=key, loc="outside lower center", ncols=across, fontsize=9)
    return figure


def _line(look: Look, implementation: Implementation) -> dict[str, Any]:
    """How a model's line is drawn, as keywords of matplotlib's plot."""
    width, alpha = (2.0, 1.0) if implementation == "described" else (1.1, 0.6)
    dashes = (0, look.dash) if look.dash else "-"
    return {"color": look.colour, "linestyle": dashes, "linewidth": width, "alpha": alpha}


def _line_key(records: Records, extra: Sequence[Line2D] = ()) -> list[Line2D]:
    """What the lines mean, for a legend."""
    dashes = dashes_of(record.settings.training for record in records.found.values())
    key = [
        Line2D([], [], label=training, **_line(Look(GREY, dash), "described"))
        for training, dash in dashes.items()
    ]
    if models(records, "released", "last_step"):
        released = IMPLEMENTATION_LABELS["released"]
        key.append(Line2D([], [], label=released, **_line(Look(GREY, ()), "released")))
    return [*key, *extra]


def band(axes: Axes, x: Any, values: np.ndarray, line: dict[str, Any], name: str = "") -> None:
    """The mean over seeds as a line, from the least to the most of them as a band.

    values: (seeds, len(x)); nothing is drawn of no seed.
    """
    if not len(values):
        return
    axes.plot(x, values.mean(0), label=name, **line)
    if len(values) > 1:
        axes.fill_between(
            x, values.min(0), values.max(0), color=line["color"], alpha=0.15, linewidth=0
        )


def log_axis(axes: Axes, which: str = "y") -> None:
    """A logarithmic axis with plain numbers, at least at every power of ten."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.yaxis if which == "y" else axes.xaxis
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1,) if high > 300 * low else (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def whole_epochs(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
