"""What studies beside the pipeline found on the same faces, for the report."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from stages.report import markdown
from stages.report.paper import WEIGHTS_LABELS, label

STUDIES = Path("reports/studies")


def beside_claim(number: int, dataset: str) -> list[str]:
    """What a study tells about a claim; nothing where there is none of this dataset."""
    if number not in BESIDE:
        return []
    name, told = BESIDE[number]
    path = STUDIES / f"{name}.csv"
    if not path.exists():
        return []
    rows = pd.read_csv(path, keep_default_na=False, na_values={"copies": ""})
    rows = rows[(rows["dataset"] == dataset) & (rows["variant"] != "")]
    return told(rows) if len(rows) else []


def search_effort() -> str:
    """How much was searched for the variant `best` and its rival."""
    path = STUDIES / "search/trials.csv"
    if not path.exists():
        return ""
    trials = pd.read_csv(path)
    hours = trials["seconds"].sum() / 3600
    return f", {len(trials)} trainings of few epochs and {hours:.1f} hours of a core in all"


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
    table = []
    for (variant, weights), own in rows.groupby(["variant", "weights"], sort=False):
        means, spreads = own[[*_STATISTICS]].mean(), own[[*_STATISTICS]].std()
        cells = [f"{means[column]:.0f} ± {spreads[column]:.0f}" for column in _STATISTICS]
        table.append([label(str(variant)), WEIGHTS_LABELS[weights], len(own), *cells])  # type: ignore[index]
    return [
        "A shared norm keeps one running mean and variance of all that it normalises. Trained end "
        "to end it normalises the encoder's and the decoder's activations, and a mixture of both "
        "fits neither. [A study](studies/norms.md) beside the pipeline measured the same weights "
        "with the statistics of each batch instead, as in training; where that error is far lower, "
        "it is these statistics that fail in evaluation, not the training, and they widen the "
        "spread of the stacked models above. Held-out error:",
        markdown.table(["model", "weights", "n", *_STATISTICS.values()], table),
    ]


_STATISTICS = {"running": "running statistics", "of_batch": "statistics of the batch"}
# By claim: a study's table, and what makes text of its rows.
BESIDE: dict[int, tuple[str, Callable[[pd.DataFrame], list[str]]]] = {
    8: ("latents", _new_faces),
    9: ("norms", _statistics),
}
