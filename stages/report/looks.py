"""How a model looks in every chart: its colour and its line.

The colour says norm and activation (Okabe and Ito's palette, safe for colour-blind readers), the
line says training. Nothing of it depends on the settings of the user's own matplotlib.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image

from stages.common.settings import CANDIDATE
from stages.measure.records import Record, Records
from stages.report.models import distinct, models, variants
from stages.report.paper import IMPLEMENTATION_LABELS, PAPER

COLOURS = {  # (norm, activation, variational)
    ("none", "selu", False): "#0072B2",
    ("batch", "selu", False): "#D55E00",
    ("shared", "selu", False): "#009E73",
    ("shared", "relu", False): "#CC79A7",
    ("none", "selu", True): "#E69F00",
}
# Of variants that are not the paper's.
OWN_COLOURS = [
    "#56B4E9",
    "#7F7F7F",
    "#8C564B",
    "#B8A700",
    "#9467BD",
    "#17BECF",
    "#F768A1",
    "#1B4F3A",
    "#A63603",
    "#08306B",
]
NORMS = {"none": "no norm", "batch": "batch norm", "shared": "shared norm", "tied": "tied norm"}
LINES: dict[str, Any] = {"recursive": "-", "stacked": (0, (4, 1.6)), "joint": (0, (1, 1))}
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


def colours_of(records: Records) -> dict[str, str]:
    """A colour for each variant, the same for all of its models."""
    own = iter(OWN_COLOURS * len(records.found))
    settings = {model.variant: record.settings for model, record in records.found.items()}
    colours = {CANDIDATE: "black"}
    for variant in variants(records):
        if variant not in settings or variant in colours:
            continue
        s = settings[variant]
        key = (s.norm, s.activation, s.variational)
        is_papers = variant in PAPER and key in COLOURS
        colours[variant] = COLOURS[key] if is_papers else next(own)
    return colours


def line_of(record: Record, colours: dict[str, str]) -> dict[str, Any]:
    """How a model's line is drawn, as keywords of matplotlib's plot."""
    released = record.model.implementation == "released"
    return {
        "color": colours[record.model.variant],
        "linestyle": LINES[record.settings.training],
        "linewidth": 1.1 if released else 2.0,
        "alpha": 0.6 if released else 1.0,
    }


def line_key(records: Records, extra: Sequence[Line2D] = ()) -> list[Line2D]:
    """What the lines mean, for a legend."""
    grey: dict[str, Any] = {"color": "#444444"}
    key = [
        Line2D([], [], **grey, linestyle=line, linewidth=2.0, label=training)
        for training, line in LINES.items()
        if any(record.settings.training == training for record in records.found.values())
    ]
    if models(records, "released", "last_step"):
        thin: dict[str, Any] = {"linestyle": "-", "linewidth": 1.1, "alpha": 0.6}
        key.append(Line2D([], [], **grey, **thin, label=IMPLEMENTATION_LABELS["released"]))
    return [*key, *extra]


def families(records: Records) -> list[str]:
    """Every norm, activation and kind there is, in the order of the models."""
    shown = [
        *models(records, "described", "last_step"),
        *models(records, "released", "last_step"),
    ]
    return list(dict.fromkeys(family(record) for record in distinct(shown)))


def family(record: Record) -> str:
    """A model's norm, activation and kind, in words."""
    settings = record.settings
    if settings.variational and settings.norm == "none" and settings.activation == "selu":
        return "VAE"
    words = [NORMS[settings.norm]]
    words += ["ReLU"] if settings.activation == "relu" else []
    words += ["VAE"] if settings.variational else []
    return ", ".join(words)


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
    low, high = axes.get_ylim() if which == "y" else axes.get_xlim()
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_major_locator(LogLocator(subs=(1,) if high > 300 * low else (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def whole_epochs(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
