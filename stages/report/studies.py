"""What studies beside the pipeline found on the same faces, for the report."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from stages.common.errors import PipelineError
from stages.report import markdown
from stages.report.paper import PAPER, WEIGHTS_LABELS, label
from stages.report.words import plain

FOLDER = Path("reports/studies")


@dataclass(frozen=True)
class Studies:
    """Markdown. beside_claim: by claim. published: beside Table 1. longer: beyond the paper.
    searched: how much was, for the variant `best`."""

    beside_claim: dict[int, list[str]] = field(default_factory=dict)
    published: list[str] = field(default_factory=list)
    longer: list[str] = field(default_factory=list)
    searched: str = ""


def short_hash(faces: str) -> str:
    """What tables of studies call faces by, of their content hash."""
    return faces[:12]


def read(faces: str, folder: Path = FOLDER) -> Studies:
    """What there is of faces with this content hash, and what was searched, whatever it was on.

    Raises PipelineError where a table is damaged.
    """

    def told(name: str, of: Callable[[pd.DataFrame], list[str]]) -> list[str]:
        return _told(folder / name, faces, of)

    return Studies(
        beside_claim={8: told("latents.csv", _new_faces), 9: told("norms.csv", _statistics)},
        published=told("published.csv", _published),
        longer=told("longer.csv", _longer),
        searched=_searched(folder / "search/trials.csv"),
    )


def _told(path: Path, faces: str, told: Callable[[pd.DataFrame], list[str]]) -> list[str]:
    if not path.exists():
        return []
    try:
        # A variant may be called nan.
        rows = pd.read_csv(path, keep_default_na=False, na_values={"copies": ""}, dtype=TEXT)
        rows = rows[(rows["faces"] == short_hash(faces)) & (rows["variant"] != "")]
        return told(rows) if len(rows) else []
    except (KeyError, ValueError, TypeError):
        raise _damaged(path) from None


def _searched(path: Path) -> str:
    if not path.exists():
        return ""
    try:
        trials = pd.read_csv(path)
        faces = trials["dataset"].iloc[0]
        finals = int(trials["final_of"].notna().sum())
        hours = float(trials["seconds"].sum()) / 3600
    except (IndexError, KeyError, ValueError, TypeError):
        raise _damaged(path) from None
    return (
        f" of {faces}, {len(trials) - finals} trainings of few epochs, {finals} of as many "
        f"as a variant's, and {hours:.1f} hours of a core in all"
    )


def _damaged(path: Path) -> PipelineError:
    return PipelineError(f"{path} cannot be read; `git checkout {path}` brings it back")


def _new_faces(rows: pd.DataFrame) -> list[str]:
    densities = [*dict.fromkeys(rows["density"])]
    table = []
    for variant, own in rows.groupby("variant", sort=False):
        means = own.groupby("density")[["faces_found", "high_frequency_ratio"]].mean()
        cells = [
            f"{means.faces_found[density]:.0%} ({means.high_frequency_ratio[density]:.2f})"
            if density in means.index
            else "-"
            for density in densities
        ]
        table.append([label(str(variant)), own["seed"].nunique(), *cells])
    return [
        "[A study](studies/latents.md) beside the pipeline asked decoders where the training "
        "faces lie, too, by densities fitted to their latents, and not only at standard normal "
        "ones. Faces found (and high frequencies over the held-out faces'), averaged weights:",
        markdown.table(["model", "n", *densities], table),
    ]


def _statistics(rows: pd.DataFrame) -> list[str]:
    named = rows.assign(
        model=rows["variant"].map(label), weights=rows["weights"].map(WEIGHTS_LABELS.__getitem__)
    )
    table = [
        [*key, len(own), *(_mean_sd(own[kind]) for kind in KINDS)]
        for key, own in named.groupby(["model", "weights"], sort=False)
    ]
    return [
        "A shared norm keeps one running mean and variance of all that it normalises. Trained end "
        "to end it normalises the encoder's and the decoder's activations, and a mixture of both "
        "fits neither. [A study](../studies/norms.py) beside the pipeline measured the same "
        "weights with the statistics of each batch instead, as in training "
        "([every seed](studies/norms.csv)); where that error is far lower, it is these statistics "
        "that fail in evaluation, not the training, and they widen the spread of the stacked "
        "models above. Held-out error:",
        markdown.table(["model", "weights", "n", *KINDS.values()], table),
    ]


def _published(rows: pd.DataFrame) -> list[str]:
    """Each error after the authors' epochs, or as many as those with a difference have; of what
    went on without one, at its end, too."""
    epochs = rows[rows["difference"] != AS_RELEASED]["epoch"].clip(upper=EPOCHS).max()
    epochs = EPOCHS if np.isnan(epochs) else epochs
    at_end = rows[rows["epoch"] == epochs].assign(told=rows["difference"])
    longer = rows[(rows["difference"] == AS_RELEASED) & (rows["epoch"] > epochs)]
    longer = longer[longer["epoch"] == longer["epoch"].max()]
    longer = longer.assign(told=longer["epoch"].map("{} epochs".format))
    cells = pd.concat([at_end, longer]).pivot(index="variant", columns="told", values="error")
    differences = [*dict.fromkeys([*rows["difference"], *longer["told"]])]
    table = [
        [label(name), *(plain(own.get(one)) for one in differences), PAPER[str(name)].printed]
        for name, own in cells.reindex([*dict.fromkeys(rows["variant"])]).iterrows()
    ]
    return [
        "[A study](studies/published.md) beside the pipeline trained models as released with one "
        "further difference between the authors' run and ours at a time. Error on training images, "
        f"last step, {epochs} epochs where nothing else is said, one seed each:",
        markdown.table(["model", *differences, "paper"], table),
    ]


def _longer(rows: pd.DataFrame) -> list[str]:
    errors = rows[rows["measure"] == "averaged_error"]
    shown = sorted({*rows[rows["measure"] == "high_frequency_ratio"]["epoch"]})
    told = []
    for name, own in errors.groupby("variant", sort=False):
        finite = own[np.isfinite(own["value"])]
        by_epoch = [finite[finite["epoch"] == epoch]["value"] for epoch in shown]
        seeds = own["seed"].nunique()
        means = ", ".join(_of_finished(values, seeds) for values in by_epoch)
        told.append(f"{label(str(name))} {means} (n = {seeds})")
    return [
        "[A study](studies/longer.md) beside the pipeline trained for longer. Held-out error of "
        f"averaged weights after {', '.join(map(str, shown))} epochs, mean ± standard deviation "
        f"over seeds: {'; '.join(told)}.",
        "![Longer trainings: error and clarity against epochs and seconds](studies/longer.png)",
    ]


def _of_finished(values: pd.Series, seeds: int) -> str:
    """What those that did not diverge have, and how many did."""
    if values.empty:
        return "diverged"
    lost = seeds - len(values)
    return _mean_sd(values) + (f" but for {lost} that diverged" if lost else "")


def _mean_sd(values: pd.Series) -> str:
    return f"{values.mean():.0f}" + (f" ± {values.std():.0f}" if len(values) > 1 else "")


KINDS = {"running": "running statistics", "of_batch": "statistics of the batch"}
EPOCHS = 10  # of the authors
AS_RELEASED = "as released"  # without a further difference
TEXT = {"faces": str}  # a hash may look like a number
