"""How far must a gradient travel? Recursive training of every reach, beside stacked training.

`python -m studies.reach` trains, for 10 and for 20 epochs, with a learning rate that falls to zero
by a cosine: stacked models, and recursive ones whose losses reach through at most 1, 2, ... of the
levels. Reach 1 is the paper's recursive training. The largest reach has, beside the losses of
parts, that of stacked training. It measures the error and the detail explained with averaged
weights on held-out faces, and the seconds of a core that an epoch takes, each training alone.

The table in git is of pictures of 64 pixels (`preprocess.size: 64`, six levels), whose training
takes a quarter of the time.

What is asked was fixed in git before any result was known, on seeds that chose nothing here:

- Does the error fall with the reach? Each reach over reach 1 and over stacked training, after the
  same epochs, seed by seed.
- What does locality buy? The same differences of detail explained.
- At equal seconds: each reach after 10 epochs over reach 1 and stacked training after 20.

Results: reports/studies/reach.csv, .md and .png.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.common.entry import entry_point
from stages.common.files import atomic_set
from stages.common.settings import read_variant
from stages.data import faces
from stages.report.charts import band, own_style, rendered
from stages.report.statistics import CONFIDENCE
from stages.report.studies import DETAIL, compared, short_hash
from studies.clear import write_table
from studies.longer import COSINE, ERROR, TABLE, Arm, measured, settings_of
from studies.pace import seconds_a_step

EPOCHS, SEEDS = (10, 20), range(10, 13)
FOLDER = Path("reports/studies")
SECONDS = "epoch_seconds"
MEASURES = {ERROR: "error", DETAIL["averaged"]: "detail explained"}


@entry_point
def main() -> None:
    people = faces.load()
    depth = read_variant("recursive").models()["described"].depth
    arms = {"stacked": Arm("stacked", COSINE, EPOCHS, SEEDS)}
    for reach in range(1, depth + 1):
        arms[f"reach {reach}"] = Arm("recursive", COSINE | {"reach": reach}, EPOCHS, SEEDS)
    of = short_hash(people.hash)
    rows = [(of, name, *row) for name, arm in arms.items() for row in measured(arm, people)]
    frame = pd.DataFrame(rows, columns=[*TABLE])
    frame = frame[frame["measure"].isin([*MEASURES])]
    steps = len(people.rows("train")) // settings_of(arms["stacked"], 1).batch_size
    seconds = {
        name: steps * seconds_a_step(settings_of(arm, 1), people) for name, arm in arms.items()
    }
    frame.insert(len(TABLE) - 1, SECONDS, frame["variant"].map(seconds))
    files = [FOLDER / f"reach.{ending}" for ending in ("csv", "png", "md")]
    with atomic_set(*files) as (table, picture, page):
        write_table(table, [*TABLE[:-1], SECONDS, TABLE[-1]], frame.to_numpy())
        with own_style():
            rendered(draw(frame)).save(picture)
        page.write_text(told(frame), encoding="utf-8")


def draw(frame: pd.DataFrame) -> Figure:
    """Each measure against the reach (left) and against the seconds of a core (right)."""
    figure = Figure(figsize=(9, 7))
    grid = figure.subplots(len(MEASURES), 2, sharey="row", sharex="col")
    frame = frame.assign(seconds=frame["epoch"] * frame[SECONDS])
    for (left, right), (measure, label) in zip(grid, MEASURES.items(), strict=True):
        of = frame[frame["measure"] == measure]
        for epochs, own in of.groupby("epoch"):
            stacked = own["variant"] == "stacked"
            reach = own["variant"].where(~stacked).str.removeprefix("reach ").astype(float)
            values = own.assign(reach=reach).pivot(index="seed", columns="reach", values="value")
            dash = {"color": f"C{EPOCHS.index(int(str(epochs)))}"}
            band(
                left, values.columns, values.to_numpy(), dash | {"marker": "o"}, f"{epochs} epochs"
            )
            mean = own["value"][stacked].mean()
            left.axhline(mean, linestyle="--", **dash, label=f"stacked, {epochs} epochs")
            means = own.groupby("variant", sort=False)[["seconds", "value"]].mean()
            right.plot(means["seconds"], means["value"], "o", **dash)
            for name, place in means.iterrows():
                short = str(name).removeprefix("reach ")
                right.annotate(short, (place["seconds"], place["value"]), fontsize=7)
        left.set_ylabel(f"{label}, held out")
    grid[0][0].legend(fontsize=7)
    grid[-1][0].set_xlabel("reach: levels that a loss goes through at most")
    grid[-1][1].set_xlabel("seconds of a core; numbers: the reach")
    return figure


def told(frame: pd.DataFrame) -> str:
    """The results in Markdown: mean ± standard deviation over seeds, and what is asked."""
    seeds = sorted({*frame["seed"]})
    heads = [f"{label}, {epochs} epochs" for label in MEASURES.values() for epochs in EPOCHS]
    lines = [
        "# How far must a gradient travel?",
        "",
        "Held-out faces, averaged weights, a learning rate that falls to zero by a cosine; mean ± "
        f"standard deviation over seeds {seeds[0]} to {seeds[-1]}. Seconds are those of a core. "
        f"Every seed: `reach.csv`. Trained on {'; '.join(sorted({*frame['processor']}))}.",
        "",
        f"| training | {' | '.join(heads)} | s an epoch |",
        f"| --- |{' --- |' * (len(heads) + 1)}",
    ]
    names = [*dict.fromkeys(frame["variant"])]
    for name in names:
        own = frame[frame["variant"] == name]
        cells = [
            _cell(own[(own["measure"] == measure) & (own["epoch"] == epochs)]["value"], digits)
            for measure, digits in zip(MEASURES, (0, 2), strict=True)
            for epochs in EPOCHS
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {own[SECONDS].iloc[0]:.1f} |")
    lines += [
        "",
        "Errors compared seed by seed: the geometric mean of the ratio and its "
        f"{CONFIDENCE:.0%} interval over seeds (Student's t). Seconds are over those of the other.",
        "",
        "| this error | over that | ratio | n | seconds |",
        "| --- | --- | --- | --- | --- |",
    ]
    seconds = frame.groupby("variant")[SECONDS].first()
    end = EPOCHS[-1]
    for other in ("reach 1", "stacked"):
        for name in names:
            for epochs in EPOCHS if name not in (other, "stacked") else ():
                if ratio := compared(frame, (name, epochs), (other, end)):
                    cell = f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) | {ratio.n}"
                    cost = epochs * seconds[name] / end / seconds[other]
                    row = f"| {name}, {epochs} epochs | {other}, {end} epochs | {cell}"
                    lines.append(f"{row} | {cost:.2f} |")
    return "\n".join([*lines, "", "![Error and detail by reach](reach.png)", ""])


def _cell(values: pd.Series, digits: int) -> str:
    finite = values[np.isfinite(values)]
    return f"{finite.mean():.{digits}f} ± {finite.std():.{digits}f}" if len(finite) else "diverged"


if __name__ == "__main__":
    main(*sys.argv[1:])
