"""What studies beside the pipeline found on the same faces, for the report."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from stages.common.errors import PipelineError
from stages.report import markdown
from stages.report.paper import WEIGHTS_LABELS, label

FOLDER = Path("reports/studies")


@dataclass(frozen=True)
class Studies:
    """beside_claim: Markdown by claim. searched: how much was, for the variant `best`."""

    beside_claim: dict[int, list[str]] = field(default_factory=dict)
    searched: str = ""


def read(dataset: str, folder: Path = FOLDER) -> Studies:
    """What there is of this dataset. Raises PipelineError where a table is damaged."""
    beside = {claim: _told(folder / name, dataset, of) for claim, (name, of) in BESIDE.items()}
    return Studies(beside, _searched(folder / "search/trials.csv"))


def _told(path: Path, dataset: str, told: Callable[[pd.DataFrame], list[str]]) -> list[str]:
    if not path.exists():
        return []
    try:
        # A variant may be called nan.
        rows = pd.read_csv(path, keep_default_na=False, na_values={"copies": ""})
        rows = rows[(rows["dataset"] == dataset) & (rows["variant"] != "")]
        return told(rows) if len(rows) else []
    except (KeyError, ValueError, TypeError):
        raise _damaged(path) from None


def _searched(path: Path) -> str:
    if not path.exists():
        return ""
    try:
        trials = pd.read_csv(path)
        hours = float(trials["seconds"].sum()) / 3600
    except (KeyError, ValueError, TypeError):
        raise _damaged(path) from None
    return f", {len(trials)} trainings of few epochs and {hours:.1f} hours of a core in all"


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


def _mean_sd(values: pd.Series) -> str:
    return f"{values.mean():.0f}" + (f" ± {values.std():.0f}" if len(values) > 1 else "")


KINDS = {"running": "running statistics", "of_batch": "statistics of the batch"}
# By claim: a study's table, and what makes text of its rows.
BESIDE = {8: ("latents.csv", _new_faces), 9: ("norms.csv", _statistics)}
