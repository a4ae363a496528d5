"""reports/benchmark.{md,png}, from what bench/run.py measured on each processor.

.venv/bin/python -m bench.report reports/benchmarks/<processor>.json    makes them anew: the page
of that processor, and the others' in short
"""

import importlib.metadata
import json
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
import numpy as np
import psutil

from bench import limits
from bench.anatomy import TIMES, flops_of
from bench.chores import MEMORY_LIMIT_MB
from bench.contender import BATCH, TRAININGS
from stages.common.files import atomic, write_text

matplotlib.use("Agg")
from matplotlib import pyplot

COLUMNS = (*TRAININGS, "both")
# At least so many times the paper's procedure, by the vector extension.
FLOORS = {"AVX-512": {"recursive": 4.5, "both": 3.3}, "AVX2": {"recursive": 4.3, "both": 3.3}}
Results = dict[str, Any]


def write(results: Results, cores: int, folder: Path) -> Path:
    """Write this processor's numbers, the page and the plot into a folder; returns the page."""
    for pace in results["images_per_second"].values():
        pace["both"] = [1 / (1 / r + 1 / s) for r, s in zip(*map(pace.get, TRAININGS), strict=True)]
    results["processor"], results["machine"] = limits.processor(), machine(cores)
    results["vectors"] = limits.vector_extension()
    results["speed_up"] = speed_up(results["images_per_second"])
    name = re.sub(r"[^a-z0-9]+", "-", results["processor"].lower()).strip("-")
    path = folder / f"benchmarks/{name}.json"
    write_text(path, json.dumps(results, indent=1) + "\n")
    return show(path)


def show(path: Path) -> Path:
    """Write the page and the plot of a processor's numbers, and the others' beside it in short."""
    results, *others = (
        json.loads(one.read_text(encoding="utf-8"))
        for one in (path, *sorted(path.parent.glob("*.json")))
    )
    folder = path.parents[1]
    write_text(folder / "benchmark.md", page(results, others))
    with atomic(folder / "benchmark.png") as figure:
        draw(results, figure)
    return folder / "benchmark.md"


def machine(cores: int) -> str:
    memory = psutil.virtual_memory().total / 2**30
    pinned = Path("bench/requirements.txt").read_text(encoding="utf-8").split()[:2]
    return (
        f"{limits.processor()}, {cores} cores, {memory:.0f} GB, {platform.system()}, Python "
        f"{platform.python_version()}; torch {importlib.metadata.version('torch')}, "
        f"{', '.join(pinned).replace('==', ' ')}"
    )


def speed_up(paces: dict[str, dict[str, list[float]]]) -> dict[str, list[float]]:
    """Ours against the faster way to run the paper's procedure, a ratio a round.

    Where a smoke run has no Keras, against the first contender.
    """
    ours = [*paces.values()][-1]
    rivals = [pace for name, pace in paces.items() if "Keras" in name] or [*paces.values()][:1]
    found = {}
    for column in COLUMNS:
        faster = max((rival[column] for rival in rivals), key=median)
        found[column] = [a / b for a, b in zip(ours[column], faster, strict=True)]
    return found


def spread(values: list[float], form: str = ".0f") -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def limit(results: Results) -> tuple[str, float]:
    """The way to know of the highest limit, and that in GFLOP/s: the median over the rounds."""
    medians = {
        name: median(turn[name] for turn in results["gflops"]) for name in results["gflops"][0]
    }
    return max(medians.items(), key=lambda item: item[1])


def fraction(results: Results, pace: dict[str, list[float]], training: str) -> float:
    """Of the limit, that a training reaches."""
    flops = results["flops_per_image"][training]
    return median(pace[training]) * flops / 1e9 / limit(results)[1]


def table(header: str, rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table in Markdown. header: the names of its columns, with bars between."""
    rule = "|" + (header.count("|") + 1) * "---|"
    return [f"| {header} |", rule, *(f"| {' | '.join(map(str, row))} |" for row in rows)]


def page(results: Results, others: list[Results]) -> str:
    paces, flops = results["images_per_second"], results["flops_per_image"]
    rows = []
    for name, pace in paces.items():
        batch = f"{median(BATCH / both for both in pace['both']):.3f} s"
        start, memory = f"{results['startup_s'][name]:.0f} s", f"{results['peak_mb'][name]:,.0f} MB"
        rows.append((name, *(spread(pace[column]) for column in COLUMNS), batch, start, memory))
    times = [f"**{spread(results['speed_up'][column], '.2f')}**" for column in COLUMNS]
    least = FLOORS.get(results["vectors"], {})
    floors = [str(least.get(column, "")) for column in COLUMNS]
    reached = [
        (name, *(f"{fraction(results, pace, training):.0%}" for training in TRAININGS))
        for name, pace in paces.items()
    ]
    ways = [
        f"{name} {spread([turn[name] for turn in results['gflops']])}"
        for name in results["gflops"][0]
    ]
    way, most = limit(results)
    paired = " | ".join(TRAININGS)
    lines = [
        "# Benchmark",
        "",
        f"`make bench` on {results['machine']}; faces: {results['dataset']}, batches of {BATCH}, "
        f"single precision. Contenders took turns, {len(results['gflops'])} rounds: median (lowest "
        "to highest). An image counts once for every model that trains on it; *both* is the pace "
        "of images that go through one recursive and one stacked model.",
        "",
        "![Images per second](benchmark.png)",
        "",
        *table(f"images per second | {paired} | both | batch of both | start-up | memory", rows),
        f"| this project, times the faster paper's procedure | {' | '.join(times)} | | | |",
        f"| at least | {' | '.join(floors)} | | | |",
        "",
        "The paper's procedure predicts the targets of every batch, then calls `train_on_batch` "
        "for each of seven sub-models (paper, section 3), and once more for the stacked model; "
        "TensorFlow runs with its oneDNN convolutions, which not every CPU gets by default. "
        "Plain PyTorch decodes the JPEGs as it trains, with a DataLoader; the others read decoded "
        "faces. Start-up reaches from starting Python to ready to train; this project's "
        "kernels were compiled before, once. Memory is the peak of all processes together.",
        "",
        "## By processor",
        "",
        "Times the faster paper's procedure, and fraction of the limit:",
        "",
        *processors(others),
        "",
        "## What is left",
        "",
        f"All cores do, in GFLOP/s: {'; '.join(ways)} (matrix products of torch and NumPy, and a "
        f"loop that loads nothing). The limit is the highest, {way}: {most:.0f}.",
        "",
        f"A training reaches this fraction of it, at {flops['recursive'] / 1e6:.1f} MFLOP an image "
        f"for recursive and {flops['stacked'] / 1e6:.1f} for stacked:",
        "",
        *table(f"| {paired}", reached),
        *step_lines(results, "recursive"),
        *step_lines(results, "stacked"),
        "",
        "## Around training",
        "",
        "One run, or the median (lowest to highest) of three.",
        "",
        *table("| time | limit | peak memory", (cells(**chore) for chore in results["chores"])),
        "",
        f"No stage may need more than {MEMORY_LIMIT_MB:,} MB.",
    ]
    return "\n".join(lines) + "\n"


def processors(others: list[Results]) -> list[str]:
    """A table of what this project reaches on every processor measured."""
    rows = []
    for other in others:
        ours = [*other["images_per_second"].values()][-1]
        times = [f"{median(other['speed_up'][column]):.2f}" for column in COLUMNS]
        parts = [f"{fraction(other, ours, training):.0%}" for training in TRAININGS]
        rows.append((other["processor"], *times, f"{limit(other)[1]:.0f} GFLOP/s", *parts))
    return table("| recursive | stacked | both | limit | recursive | stacked", rows)


def step_lines(results: Results, training: str) -> list[str]:
    """Where a step's time goes, as a table: milliseconds, and the fraction of the limit reached."""
    step, most = results["steps"][training], max(results["gflops_of_one_core"].values())
    kinds = [*TIMES[training], "activation", "error"]
    found = {(part["level"], part["kind"]): part["ms"] for part in step["parts"]}
    rows = []
    for level in sorted({level for level, _ in found} - {0}):
        row = [f"level {level}"]
        for kind in kinds:
            ms = found.get((level, kind))
            reached = flops_of(training, level, kind) * BATCH / 1e6 / most
            share = f" ({reached / ms:.0%})" if ms and reached else ""
            row.append(f"{ms:.2f}{share}" if ms else "")
        rows.append(row)
    rest = [f"{kind} {ms:.1f} ms" for (level, kind), ms in found.items() if not level]
    return [
        "",
        f"A {training} step of {BATCH} images on one thread takes {step['total_ms']:.1f} ms of CPU "
        f"time (with the fraction of one core's limit, {most:.0f} GFLOP/s):",
        "",
        *table(f"| {' | '.join(kinds)}", rows),
        "",
        f"Beside levels: {', '.join(rest)}. Taps beyond the border are counted, not computed: "
        "deep levels may seem to surpass the limit.",
    ]


def cells(
    name: str, limit_s: float | None, seconds: list[float], peak_mb: float, problem: str
) -> list[str]:
    """Of a chore's row."""
    limit = "" if limit_s is None else f"{limit_s} s"
    if problem:
        return [name, f"not measured: {problem}", limit, ""]
    late = limit_s is not None and median(seconds) > limit_s
    took = spread(seconds, ".1f") if len(seconds) > 1 else f"{seconds[0]:.1f}"
    time = f"{took} s{' **too slow**' if late else ''}"
    return [name, time, limit, f"{peak_mb:,.0f} MB{' **too much**' * (peak_mb > MEMORY_LIMIT_MB)}"]


def draw(results: Results, path: Path) -> None:
    """A bar a contender and training: the median, whiskers from lowest to highest."""
    paces = results["images_per_second"]
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    height = 0.8 / len(COLUMNS)
    for offset, column in enumerate(COLUMNS):
        values = np.array([pace[column] for pace in paces.values()])
        middle = np.median(values, axis=1)
        whiskers = [middle - values.min(1), values.max(1) - middle]
        rows = np.arange(len(paces)) + (offset - 1) * height
        label = "one recursive and one stacked" if column == "both" else column
        bars = axes.barh(rows, middle, height * 0.9, xerr=whiskers, label=label, capsize=2)
        axes.bar_label(bars, fmt="{:.0f}", padding=4, fontsize=8)
    axes.set_yticks(range(len(paces)), list(paces), fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("training images per second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150, format="png")
    pyplot.close(figure)


if __name__ == "__main__":
    show(Path(sys.argv[1]))
