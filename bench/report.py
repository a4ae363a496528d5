"""reports/benchmark.{md,json,png}, from what bench/run.py measured."""

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from statistics import median

import matplotlib
import psutil

from bench.chores import MEMORY_LIMIT_MB
from bench.contender import BATCH, TRAININGS

matplotlib.use("Agg")
from matplotlib import pyplot

PAGE = Path("reports/benchmark.md")
NUMBERS = Path("reports/benchmark.json")
FIGURE = Path("reports/benchmark.png")
COLUMNS = (*TRAININGS, "both")
FLOORS = {"recursive": 3.5, "both": 2.5}  # times the paper's procedure


def write(results: dict, cores: int) -> None:
    """Write the page, the raw numbers and the plot, each in one go."""
    for pace in results["images_per_second"].values():
        pace["both"] = [1 / (1 / r + 1 / s) for r, s in zip(*map(pace.get, TRAININGS), strict=True)]
    results["machine"] = machine(cores)
    results["speed_up"] = speed_up(results["images_per_second"])
    FIGURE.parent.mkdir(exist_ok=True)
    replace(PAGE, lambda path: path.write_text(page(results)))
    replace(NUMBERS, lambda path: path.write_text(json.dumps(results, indent=1) + "\n"))
    replace(FIGURE, lambda path: draw(results, path))


def replace(path: Path, write_to) -> None:
    partial = path.with_name(f".partial-{path.name}")
    try:
        write_to(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def machine(cores: int) -> str:
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), cpu)
    memory = psutil.virtual_memory().total / 2**30
    rivals = ", ".join(Path("bench/requirements.txt").read_text().split()[:2]).replace("==", " ")
    return (
        f"{cpu or platform.machine()}, {cores} cores, {memory:.0f} GB, {platform.system()}, Python "
        f"{platform.python_version()}; torch {importlib.metadata.version('torch')}, {rivals}"
    )


def speed_up(paces: dict[str, dict[str, list[float]]]) -> dict[str, list[float]]:
    """Ours against the faster way to run the paper's procedure, a ratio a round."""
    *rivals, _plain, ours = paces.values()
    found = {}
    for column in COLUMNS:
        faster = max((rival[column] for rival in rivals), key=median)
        found[column] = [a / b for a, b in zip(ours[column], faster, strict=True)]
    return found


def spread(values: list[float], form: str = ".0f") -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def page(results: dict) -> str:
    paces, flops = results["images_per_second"], results["flops_per_image"]
    limit = median(results["matrix_product_gflops"])
    rounds = len(results["matrix_product_gflops"])
    lines = [
        "# Benchmark",
        "",
        f"`make bench` on {results['machine']}; faces: {results['dataset']}, batches of {BATCH}, "
        f"single precision. Contenders took turns, {rounds} rounds: median (lowest to highest). "
        "An image counts once for every model that trains on it; *both* is the pace of images that "
        "go through one recursive and one stacked model.",
        "",
        "![Images per second](benchmark.png)",
        "",
        "| images per second | recursive | stacked | both | batch of both | start-up | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, pace in paces.items():
        batch = [BATCH / both for both in pace["both"]]
        cells = [spread(pace[column]) for column in COLUMNS]
        cells += [f"{median(batch):.3f} s", f"{results['startup_s'][name]:.0f} s"]
        cells.append(f"{results['peak_mb'][name]:,.0f} MB")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    times = [f"**{spread(results['speed_up'][column], '.2f')}**" for column in COLUMNS]
    floors = [str(FLOORS[column]) if column in FLOORS else "" for column in COLUMNS]
    lines += [
        f"| this project, times the faster paper's procedure | {' | '.join(times)} | | | |",
        f"| at least | {' | '.join(floors)} | | | |",
        "",
        "The paper's procedure predicts the targets of every batch, then calls `train_on_batch` "
        "for each of seven sub-models (paper, section 3), and once more for the stacked model; "
        "TensorFlow runs with its oneDNN convolutions, which not every CPU gets by default. "
        "Plain PyTorch decodes the JPEGs as it trains, with a DataLoader; the others read decoded "
        "faces. Start-up reaches from starting Python to ready to train; this project's "
        "kernels were compiled before, once. Memory is the peak of all processes "
        "together.",
        "",
        f"The machine's own matrix products run at {spread(results['matrix_product_gflops'])} "
        f"GFLOP/s. A training reaches this share of it, at {flops['recursive'] / 1e6:.1f} MFLOP "
        f"an image for recursive and {flops['stacked'] / 1e6:.1f} for stacked:",
        "",
        "| | recursive | stacked |",
        "|---|---|---|",
    ]
    for name, pace in paces.items():
        shares = [f"{median(pace[t]) * flops[t] / 1e9 / limit:.0%}" for t in TRAININGS]
        lines.append(f"| {name} | {' | '.join(shares)} |")
    lines += ["", "## Around training", "", "One run, or the median (lowest to highest) of three."]
    lines += ["", "| | time | limit | peak memory |", "|---|---|---|---|"]
    lines += [chore_line(**chore) for chore in results["chores"]]
    lines += ["", f"No stage may need more than {MEMORY_LIMIT_MB:,} MB.", ""]
    return "\n".join(lines)


def chore_line(
    name: str, limit_s: float | None, seconds: list[float], peak_mb: float, problem: str
) -> str:
    limit = "" if limit_s is None else f"{limit_s} s"
    if problem:
        return f"| {name} | not measured: {problem} | {limit} | |"
    late = limit_s is not None and median(seconds) > limit_s
    took = spread(seconds, ".1f") if len(seconds) > 1 else f"{seconds[0]:.1f}"
    time = f"{took} s{' **too slow**' if late else ''}"
    memory = f"{peak_mb:,.0f} MB{' **too much**' if peak_mb > MEMORY_LIMIT_MB else ''}"
    return f"| {name} | {time} | {limit} | {memory} |"


def draw(results: dict, path: Path) -> None:
    """A bar a contender and training: the median, whiskers from lowest to highest."""
    paces = results["images_per_second"]
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    height = 0.8 / len(COLUMNS)
    for offset, column in enumerate(COLUMNS):
        middle = [median(pace[column]) for pace in paces.values()]
        whiskers = [
            [m - min(pace[column]) for m, pace in zip(middle, paces.values(), strict=True)],
            [max(pace[column]) - m for m, pace in zip(middle, paces.values(), strict=True)],
        ]
        rows = [row + (offset - 1) * height for row in range(len(paces))]
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
