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

Asked when these results were known, but none of what follows: what have the two winners of the
`search` in git, of pictures of 64 pixels, on held-out people? The error of that by levels over that
of the stacked one after 20 epochs, on WINNER_SEEDS.

Asked when all of these were known for three seeds, but nothing of other seeds or longer trainings:

- Do two more seeds, 13 and 14, say the same?
- Does a lead last where the rate falls? LASTING after 40 and 80 epochs, on LASTING_SEEDS: the error
  of reach 1 and reach 3 over that of stacked training after the same epochs. It lasts if the
  interval after 80 epochs lies below 1, and does not if it lies above. Reach 3 after 40 epochs was
  left out for lack of time, when reach 1 was known.
- At equal seconds: reach 3 after 20 epochs over stacked training after 80, which take about as
  many.

Results: reports/studies/reach.csv, .md and .png.
"""

import sys
from itertools import pairwise
from typing import cast

import pandas as pd
from matplotlib.figure import Figure

from stages.common.entry import entry_point
from stages.common.settings import read_variant
from stages.common.yaml_files import read_yaml
from stages.data import faces
from stages.report.charts import band, log_axis, own_style, rendered
from stages.report.studies import DETAIL, ERROR, SEARCHED, short_hash
from studies.longer import (
    COSINE,
    MEASURES,
    TABLE,
    Arm,
    measured,
    settings_of,
    told_means,
    told_ratios,
)
from studies.pace import seconds_a_step
from studies.shared import FOLDER, write

EPOCHS, SEEDS, WINNER_SEEDS = (10, 20), range(10, 15), range(10, 15)
LASTING = {"stacked": (40, 80), "reach 1": (40, 80), "reach 3": (80,)}
LASTING_SEEDS = range(10, 13)
SECONDS = "epoch_seconds"
SHOWN = {name: MEASURES[name] for name in (ERROR, DETAIL["averaged"])}


@entry_point
def main() -> None:
    people = faces.load()
    depth = read_variant("recursive").models()["described"].depth
    arms = {"stacked": Arm("stacked", COSINE, EPOCHS, SEEDS)}
    for reach in range(1, depth + 1):
        arms[f"reach {reach}"] = Arm("recursive", of_reach(reach), EPOCHS, SEEDS)
    arms |= winners()
    of = short_hash(people.hash)
    lasting = [
        (name, arms[name]._replace(epochs=epochs, seeds=LASTING_SEEDS))
        for name, epochs in LASTING.items()
        if name in arms
    ]
    rows = [
        (of, name, *row)
        for name, arm in [*arms.items(), *lasting]
        for row in measured(arm, people)
        if row[1] in arm.epochs
    ]
    frame = pd.DataFrame(rows, columns=[*TABLE])
    frame = frame[frame["measure"].isin([*SHOWN])]
    images, seconds = len(people.rows("train")), {}
    for name, arm in arms.items():
        settings = settings_of(arm, 1)
        seconds[name] = images // settings.batch_size * seconds_a_step(settings, people)
    frame.insert(len(TABLE) - 1, SECONDS, frame["variant"].map(seconds))
    with own_style():
        picture = rendered(draw(frame))
    write("reach", frame, told(frame), picture.save)


def of_reach(reach: int) -> dict[str, object]:
    """What such a training changes."""
    return COSINE | {"reach": reach}


def winners() -> dict[str, Arm]:
    """What the search found, by its name."""
    found = {}
    for path in sorted((FOLDER / "search").glob("*.yaml"), reverse=True):  # stacked first
        for name, entry in cast("dict[str, dict[str, object]]", read_yaml(path)).items():
            changes = {k: v for k, v in entry.items() if k not in ("seeds", "released_seeds")}
            found[name] = Arm(str(entry["training"]), changes, EPOCHS[-1:], WINNER_SEEDS)
    return found


def draw(frame: pd.DataFrame) -> Figure:
    """Each measure against the reach (left) and against the seconds of a core (right)."""
    figure = Figure(figsize=(10, 7))
    grid = figure.subplots(len(SHOWN), 2, sharey="row", sharex="col")
    frame = frame.assign(seconds=frame["epoch"] * frame[SECONDS])
    for (left, right), (measure, (label, _)) in zip(grid, SHOWN.items(), strict=True):
        of = frame[frame["measure"] == measure]
        for colour, epochs in zip(("0.6", "0.1"), EPOCHS, strict=True):
            own = of[of["epoch"] == epochs]
            reach = own["variant"].str.extract("^reach (.*)", expand=False).astype(float)
            known = own.assign(reach=reach).dropna(subset="reach")
            values = known.pivot(index="seed", columns="reach", values="value")
            line = {"color": colour, "marker": "o"}
            band(left, values.columns, values.to_numpy(), line, f"{epochs} epochs")
            mean = own["value"][own["variant"] == "stacked"].mean()
            left.axhline(mean, linestyle="--", color=colour, label=f"stacked, {epochs} epochs")
        for name, own in of.groupby("variant", sort=False):
            mean = own.groupby("seconds")["value"].mean()
            (line,) = right.plot(mean.index, mean, "o-", markersize=4)
            end = (mean.index[-1], mean.iloc[-1])
            told = {"xytext": (4, 3), "textcoords": "offset points", "fontsize": 7}
            right.annotate(str(name), end, color=line.get_color(), **told)
        left.set_ylabel(f"{label}, held out")
    log_axis(grid[0][1], "x")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    grid[-1][0].set_xlabel("reach: levels that a loss goes through at most")
    ends = f"{', '.join(map(str, (*EPOCHS, *LASTING['stacked'])))} epochs"
    grid[-1][1].set_xlabel(f"seconds of a core for {ends}")
    return figure


def told(frame: pd.DataFrame) -> str:
    """The results in Markdown: mean ± standard deviation over seeds, and what is asked."""
    longer = LASTING["stacked"]
    everything = [*EPOCHS, *longer]
    first = frame.drop_duplicates("variant")
    seconds = dict(zip(first["variant"], first[SECONDS], strict=True))
    ratios = [
        (name, epochs, other, EPOCHS[-1])
        for other in ("reach 1", "stacked")
        for name in seconds
        if name not in (other, "stacked")
        for epochs in EPOCHS
    ]
    searched = [name for name in seconds if name.endswith(SEARCHED)]
    ratios += [(name, EPOCHS[-1], other, EPOCHS[-1]) for other, name in pairwise(searched)]
    ratios += [(name, n, "stacked", n) for n in longer for name in ("reach 1", "reach 3")]
    ratios.append(("reach 3", EPOCHS[-1], "stacked", longer[-1]))
    lines = [
        "# How far must a gradient travel?",
        "",
        "Held-out faces, averaged weights, a learning rate that falls to zero by a cosine, but for "
        "what the search found; mean ± standard deviation over n seeds. "
        "Ratios over stacked training hang on that rate: [depth](depth.md) has a constant one. "
        "Every seed: `reach.csv`. "
        f"Trained on {'; '.join(sorted({*frame['processor']}))}.",
        "",
        *told_means(frame, SHOWN, everything, seconds),
        "",
        *told_ratios(frame, ratios, seconds),
        "",
        "![Error and detail by reach](reach.png)",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
