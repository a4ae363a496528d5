"""The figures: charts by matplotlib, sheets of faces pixel by pixel.

A model keeps its colour and line in every figure: the colour says norm and activation (Okabe and
Ito's palette, safe for colour-blind readers), the line says training. Faces are shown as they are,
0 to 255, never normalised, and enlarged by repeating pixels.
"""

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image, ImageDraw, ImageFont

from stages.report.paper import PAPER
from stages.measure.records import Result, Results, distinct, label
from stages.common.settings import CANDIDATE, PUBLISHED

COLOURS = {  # (norm, activation, variational)
    ("none", "selu", False): "#0072B2",
    ("batch", "selu", False): "#D55E00",
    ("shared", "selu", False): "#009E73",
    ("shared", "relu", False): "#CC79A7",
    ("none", "selu", True): "#E69F00",
}
OWN_COLOURS = ["#56B4E9", "#7F7F7F", "#8C564B", "#B8A700"]  # variants that are not the paper's
NORMS = {"none": "no norm", "batch": "batch norm", "shared": "shared norm"}
LINES = {"stacked": (0, (4, 1.6)), "recursive": "-"}
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
}
FACE = 128  # pixels a side
ZOOM = 2
SHOWN = 2  # faces a model: a sheet of all models stays below a megabyte
GAP = 12  # pixels between two blocks of a sheet
CAPTION = 62  # pixels above a block, for two lines
TEXT = 21  # pixels, less where a caption would be wider than its block


def draw_all(results: Results, folder: Path) -> list[str]:
    """Write every figure that the results allow into `folder`; returns the names of the files."""
    drawn = []
    with plt.rc_context(STYLE):
        for name, draw in FIGURES.items():
            figure = draw(results)
            if figure is None:
                continue
            if isinstance(figure, Figure):
                figure = _rendered(figure)
            figure.save(folder / name)
            drawn.append(name)
    return drawn


def _rendered(figure: Figure) -> Image.Image:
    """A chart's pixels in 256 colours: a chart needs no more, and its file is half as large."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    return Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)


# Sheets of faces.


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


Block = tuple[str, str, np.ndarray]  # two lines of caption, uint8 (rows, columns, 128, 128, 3)


def sheet(blocks: list[Block | None], across: int) -> Image.Image:
    """Blocks of faces, all of one shape, `across` in a row; None leaves a place empty."""
    rows, columns = next(block for block in blocks if block)[2].shape[:2]
    width, height = columns * FACE * ZOOM, rows * FACE * ZOOM
    down = -(-len(blocks) // across)
    canvas = Image.new(
        "RGB", (across * (width + GAP) + GAP, down * (CAPTION + height + GAP)), "white"
    )
    pen = ImageDraw.Draw(canvas)
    for place, block in enumerate(blocks):
        if block is None:
            continue
        *lines, faces = block
        left = GAP + place % across * (width + GAP)
        top = CAPTION + place // across * (CAPTION + height + GAP)
        for text, above, colour in zip(lines, (32, 8), ("black", "#555555"), strict=True):
            size = TEXT
            while size > 8 and _font(size).getlength(text) > width:
                size -= 1
            pen.text((left, top - above), text, colour, _font(size), anchor="ls")
        tiled = faces.transpose(0, 2, 1, 3, 4).reshape(rows * FACE, columns * FACE, 3)
        picture = Image.fromarray(tiled.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1))
        canvas.paste(picture, (left, top))
    return canvas


def _input(faces: np.ndarray) -> Block:
    return "", "input", faces


def _output(model: Result, faces: np.ndarray) -> Block:
    return model.label, f"error {model.headline['test_error']:.0f}", faces


def _some(faces: np.ndarray, count: int) -> np.ndarray:
    """`count` faces, evenly spaced among those given (all where they are fewer)."""
    return faces[np.linspace(0, len(faces) - 1, min(count, len(faces))).round().astype(int)]


def _reconstructions(results: Results, models: list[Result]) -> Image.Image | None:
    if not models:
        return None
    inputs = _input(_some(models[0].inputs, SHOWN)[None])
    blocks: list[Block | None] = [inputs, inputs]
    partner: dict[str, Result] = {}
    for recursive, stacked in results.twins():
        if recursive.name not in partner and stacked.name not in partner:
            partner |= {recursive.name: stacked, stacked.name: recursive}
    shown: set[str] = set()
    for model in models:
        if model.name in shown:
            continue
        pair = [model, partner[model.name]] if model.name in partner else [model]
        shown |= {one.name for one in pair}
        for training in ("stacked", "recursive"):
            one = next((one for one in pair if one.settings.training == training), None)
            blocks.append(one and _output(one, _some(one.reconstructions, SHOWN)[None]))
    return sheet(blocks, across=2)


def reconstructions(results: Results) -> Image.Image | None:
    """Figure 6: the same faces through every model, stacked on the left, recursive on the right."""
    return _reconstructions(results, distinct(results.described()))


def reconstructions_published(results: Results) -> Image.Image | None:
    """Figure 6 with the authors' wiring."""
    return _reconstructions(results, distinct(results.published()))


def samples(results: Results) -> Image.Image | None:
    """Figure 4: what the variational models make of standard normal latents."""
    models = [model for model in distinct(list(results.found.values())) if len(model.samples)]
    models.sort(key=lambda model: (model.settings.wiring, model.settings.training == "recursive"))
    if not models:
        return None
    count = min(6, *(len(model.samples) for model in models))
    blocks: list[Block | None] = []
    for model in models:
        found = model.per_seed("faces_found", "samples")
        rate = f"a face found in {found.value.mean():.0%} of {found.n.sum():,} samples"
        blocks.append((model.label, rate if len(found) else "", model.samples[None, :count]))
    return sheet(blocks, across=1)


def hero(results: Results) -> Image.Image | None:
    """Two faces, the stacked and the recursive model, and the best recursive model beside it."""
    plain = [results.found[name] for name in ("stacked", "recursive") if name in results.found]
    others = [
        model
        for model in results.described()
        if model.settings.training == "recursive"
        and not model.settings.variational
        and model.name not in ("recursive", CANDIDATE)
    ]
    if not plain:
        return None
    models = [*plain, *sorted(others, key=lambda model: model.headline["test_error"])[:1]]
    blocks: list[Block | None] = [_input(_some(plain[0].inputs, SHOWN)[:, None])]
    blocks += [_output(model, _some(model.reconstructions, SHOWN)[:, None]) for model in models]
    return sheet(blocks, across=len(blocks))


# Charts.


def _family(model: Result) -> str:
    settings = model.settings
    if settings.variational and settings.norm == "none" and settings.activation == "selu":
        return "VAE"
    words = [NORMS[settings.norm]]
    words += ["ReLU"] if settings.activation == "relu" else []
    words += ["VAE"] if settings.variational else []
    return ", ".join(words)


def _families(results: Results) -> dict[str, list[Result]]:
    """The models by norm, activation and kind, described before published."""
    families: dict[str, list[Result]] = {}
    for model in distinct(list(results.found.values())):
        families.setdefault(_family(model), []).append(model)
    return families


def colours_of(results: Results) -> dict[str, str]:
    """A colour for each variant, the same for both wirings."""
    own = iter(OWN_COLOURS * len(results.found))
    colours = {CANDIDATE: "black"}
    for model in results.found.values():
        settings = model.settings
        key = (settings.norm, settings.activation, settings.variational)
        if model.variant in PAPER and key in COLOURS:
            colours[model.variant] = COLOURS[key]
        elif model.variant not in colours:
            colours[model.variant] = next(own)
    return colours


def line_of(model: Result, colours: dict[str, str]) -> dict:
    """How a model's line is drawn, as keywords of matplotlib's plot."""
    published = model.settings.wiring == "published"
    return {
        "color": colours[model.variant],
        "linestyle": LINES[model.settings.training],
        "linewidth": 1.1 if published else 2.0,
        "alpha": 0.6 if published else 1.0,
    }


def _band(axes: Axes, x: np.ndarray, values: np.ndarray, line: dict, name: str = "") -> None:
    """The mean over seeds as a line, from the least to the most of them as a band.

    values: (seeds, len(x)).
    """
    axes.plot(x, values.mean(0), label=name, **line)
    if len(values) > 1:
        axes.fill_between(
            x, values.min(0), values.max(0), color=line["color"], alpha=0.15, linewidth=0
        )


def _error_by_epoch(model: Result) -> pd.DataFrame:
    """Held-out error: a row a seed, a column an epoch."""
    curve = model.curve
    rows = curve[(curve.split == "test") & (curve.loss == "error")]
    return rows.pivot(index="seed", columns="epoch", values="value")


def _error_by_depth(model: Result) -> pd.DataFrame:
    """Held-out error of reconstructing from level 1, 2, ...: a row a seed, a column a depth."""
    depths = {k: model.per_seed(f"depth_error_{k}").value for k in range(1, 8)}
    return pd.DataFrame({k: values for k, values in depths.items() if len(values)})


def _line_key(results: Results, extra: list[Line2D] | None = None) -> list[Line2D]:
    grey = {"color": "#444444"}
    key = [
        Line2D([], [], **grey, linestyle=LINES["recursive"], linewidth=2.0, label="recursive"),
        Line2D([], [], **grey, linestyle=LINES["stacked"], linewidth=2.0, label="stacked"),
    ]
    if results.published():
        thin = {"linestyle": "-", "linewidth": 1.1, "alpha": 0.6, "label": "published wiring"}
        key.append(Line2D([], [], **grey, **thin))
    return key + (extra or [])


def _log_axis(axes: Axes, which: str = "y") -> None:
    """A logarithmic axis with plain numbers, at least at every power of ten."""
    axes.set(**{f"{which}scale": "log"})
    low, high = axes.get_ylim() if which == "y" else axes.get_xlim()
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_major_locator(LogLocator(subs=(1,) if high > 300 * low else (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _by_family(
    results: Results,
    rows: list[Callable[[Axes, Result, dict, str], None]],
    row_labels: list[tuple[str, str]],
    extra_key: list[Line2D] | None = None,
) -> Figure:
    """A column a family of models, a row a way to look at them; every row shares its axes.

    row_labels: (x, y) of each row.
    """
    families, colours = _families(results), colours_of(results)
    size = (max(2.45 * len(families) + 0.8, 7), 2.75 * len(rows) + 0.5)
    figure, grid = plt.subplots(
        len(rows), len(families), figsize=size, sharey="row", sharex="row", squeeze=False
    )
    for column, (family, models) in enumerate(families.items()):
        grid[0, column].set_title(family)
        for row, draw in enumerate(rows):
            axes = grid[row, column]
            for model in models:
                own = model.variant not in PAPER
                draw(axes, model, line_of(model, colours), model.label if own else "")
            axes.set_xlabel(row_labels[row][0])
            if column == 0:
                axes.set_ylabel(row_labels[row][1])
            if row == 0 and any(axes.get_legend_handles_labels()[1]):
                axes.legend(fontsize=8)
    key = _line_key(results, extra_key)
    figure.legend(handles=key, loc="outside lower center", ncols=len(key))
    return figure


def errors(results: Results) -> Figure:
    """Figure 5: the held-out error of every model and seed, with the paper's numbers."""
    colours = colours_of(results)
    rows = results.rows()
    figure, axes = plt.subplots(figsize=(9.5, 0.5 * len(rows) + 1.4))
    for y, name in enumerate(rows):
        if y % 2:
            axes.axhspan(y - 0.5, y + 0.5, color="#F5F5F5", zorder=0)
        for key, place in ((name, y), (PUBLISHED + name, y + 0.27)):
            if key not in results.found:
                continue
            model = results.found[key]
            values = model.per_seed("error").value
            filled = model.settings.wiring == "described"
            colour = {"mec": colours[name], "mfc": colours[name] if filled else "white"}
            axes.plot(values.mean(), place, "|", ms=15, mew=1.6, **colour)
            axes.plot(values, [place] * len(values), "o", ms=6.5, mew=1.2, alpha=0.75, **colour)
        if name in PAPER:
            for value, marker in ((PAPER[name].table1, "v"), (PAPER[name].figure5, "1")):
                if value is not None:
                    axes.plot(value, y - 0.27, marker, color="black", ms=9 if marker == "1" else 6)
    axes.set_yticks(range(len(rows)), map(label, rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    _log_axis(axes, "x")
    axes.set_xlabel("held-out error (squared error over an image's 49,152 values)")
    dot = {"color": "#444444", "linestyle": "", "marker": "o", "ms": 6.5}
    mark = {"color": "black", "linestyle": ""}
    key = []
    if results.described():
        key.append(Line2D([], [], **dot, label=f"as described, {_seeds(results.described())}"))
    if results.published():
        told = f"published wiring, {_seeds(results.published())}"
        key.append(Line2D([], [], **dot, mfc="white", label=told))
    key += [
        Line2D([], [], color="#444444", linestyle="", marker="|", ms=13, mew=1.6, label="mean"),
        Line2D([], [], **mark, marker="v", ms=6, label="paper, Table 1"),
        Line2D([], [], **mark, marker="1", ms=9, label="paper, Figure 5"),
    ]
    figure.legend(handles=key, loc="outside lower center", ncols=len(key), handletextpad=0.1)
    return figure


def _seeds(models: list[Result]) -> str:
    counts = sorted({len(model.settings.seeds) for model in models})
    return f"n = {counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else "")


def curves(results: Results) -> Figure:
    """Held-out error by epoch of every model, and the seven losses of each recursive one."""
    colours = colours_of(results)
    models = distinct(results.described())
    recursive = [model for model in models if model.settings.training == "recursive"]
    columns = max(len(recursive), 1)
    size = (max(13, 2.4 * columns + 1.6), 7.6 if recursive else 4.6)
    figure = plt.figure(figsize=size)
    if recursive:
        upper, lower = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    else:
        upper = figure
    axes = upper.subplots()
    for model in models:
        table = _error_by_epoch(model)
        _band(axes, table.columns, table.to_numpy(), line_of(model, colours), model.label)
    _log_axis(axes)
    axes.set(xlabel="epoch", ylabel="held-out error")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    upper.legend(loc="outside right center", handlelength=3)
    if not recursive:
        return figure
    grid = lower.subplots(1, columns, sharey=True, squeeze=False)[0]
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.92, 7))
    for axes, model in zip(grid, recursive, strict=True):
        rows = model.curve[model.curve.split == "train"]
        for level in range(1, 8):
            losses = rows[rows.loss == f"level_{level}"].groupby("epoch").value.mean()
            axes.plot(losses.index, losses, color=shades[level - 1], linewidth=1.8)
        axes.set_title(model.label, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid[0].set_ylabel("training loss of a level")
    for axes in grid:
        _log_axis(axes)
    key = [Line2D([], [], color=shades[k], linewidth=1.8, label=f"level {k + 1}") for k in range(7)]
    lower.legend(handles=key, loc="outside right center")
    return figure


def spectrum(results: Results) -> Figure:
    """Radial power spectrum of the reconstructions, and its ratio to the input's."""
    reference = next(iter(results.found.values())).input_spectrum[1:]  # without the mean
    frequency = np.arange(1, len(reference) + 1)
    black = {"color": "black", "linewidth": 1.2, "zorder": 3}

    def power(axes: Axes, model: Result, line: dict, name: str) -> None:
        _band(axes, frequency, model.spectrum[:, 1:], line, name)

    def ratio(axes: Axes, model: Result, line: dict, name: str) -> None:
        _band(axes, frequency, model.spectrum[:, 1:] / reference, line)

    labels = [
        ("cycles across the image", "power"),
        ("cycles across the image", "power over the input's"),
    ]
    key = [Line2D([], [], **black, label="input")]
    figure = _by_family(results, [power, ratio], labels, key)
    octaves = 2 ** np.arange(int(np.log2(len(reference))) + 1)
    for place, axes in enumerate(figure.axes):
        upper = place < len(figure.axes) // 2
        axes.plot(frequency, reference if upper else np.ones_like(reference), **black)
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(octaves, octaves)
        axes.minorticks_off()
        if not upper:
            _log_axis(axes)
    return figure


def depth(results: Results) -> Figure:
    """Held-out error by epoch, and by the level from which the image is reconstructed."""

    def by_epoch(axes: Axes, model: Result, line: dict, name: str) -> None:
        table = _error_by_epoch(model)
        _band(axes, table.columns, table.to_numpy(), line, name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    def by_depth(axes: Axes, model: Result, line: dict, name: str) -> None:
        table = _error_by_depth(model)
        _band(axes, table.columns, table.to_numpy(), line)
        axes.set_xticks(range(1, 8))

    labels = [("epoch", "held-out error"), ("reconstructed from level", "held-out error")]
    figure = _by_family(results, [by_epoch, by_depth], labels)
    for axes in figure.axes:
        _log_axis(axes)
    return figure


FIGURES: dict[str, Callable[[Results], Figure | Image.Image | None]] = {
    "hero.png": hero,
    "figure4_samples.png": samples,
    "figure5_errors.png": errors,
    "figure6_reconstructions.png": reconstructions,
    "figure6_published_wiring.png": reconstructions_published,
    "curves.png": curves,
    "spectrum.png": spectrum,
    "depth.png": depth,
}
