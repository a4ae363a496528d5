"""Table 1: every number of every model, computed once; and the two CSV files."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.common.settings import IMPLEMENTATIONS, Implementation
from stages.measure.records import Model, Record, Records
from stages.report.catalogue import (
    KINDS,
    PAPER,
    Kind,
    Mean,
    PaperModel,
    absence,
    error_by_epoch,
    label,
    mean_of,
    valid,
    variants,
)
from stages.report.statistics import CONFIDENCE, Interval, beats_mean_picture, prediction_interval

# The paper measured on 100 images. Of two draws of 100 held-out images 95 % have mean errors within
# this factor of each other: 1.07 to 1.11, by the model.
NEAR = 1.11
# What is measured of other images than the held-out ones: measure and split.
ELSEWHERE = {
    "train_error": ("error", "train"),
    "sample_faces_found": ("faces_found", "samples"),
}


@dataclass(frozen=True)
class Row:
    """One variant. paper: without numbers where it is not the paper's. means: of each of its four
    models, by the names of MEASURES and ELSEWHERE, of no seed where it is not evaluated. absent:
    why a model is not. one_more: at the last step, where the error of one more training would lie
    on the training images. explained_by: see `_explained_by`. unlearnt: the models that are no
    better than the mean training picture."""

    variant: str
    label: str
    paper: PaperModel
    means: dict[Kind, dict[str, Mean]]
    absent: dict[Kind, str]
    one_more: dict[Implementation, Interval | None]
    explained_by: str
    unlearnt: frozenset[Kind]


def table1(records: Records) -> list[Row]:
    """A row for each model of the paper's Table 1, evaluated or not, and every other variant."""
    return [_row(records, variant) for variant in variants(records)]


def _row(records: Records, variant: str) -> Row:
    models = {kind: Model(variant, *kind) for kind in KINDS}
    found = {kind: records.found.get(model) for kind, model in models.items()}
    told = {name: (name, "test") for name in records.measures}
    told |= {name: of for name, of in ELSEWHERE.items() if of[0] in records.measures}
    means = {
        kind: {name: mean_of(record, *of) for name, of in told.items()}
        for kind, record in found.items()
    }
    return Row(
        variant,
        label(variant),
        PAPER.get(variant, PaperModel(variant, None, None)),
        means,
        {kind: absence(records, models[kind]) for kind, record in found.items() if not record},
        {how: _one_more(found[how, "last_step"]) for how in IMPLEMENTATIONS},
        _explained_by(variant, means),
        frozenset(
            kind
            for kind, record in found.items()
            if record and beats_mean_picture(record, records.references) is False
        ),
    )


def _one_more(record: Record | None) -> Interval | None:
    if record is None or record.diverged:
        return None
    interval = prediction_interval(np.log(valid(record, "error", "train").value), CONFIDENCE)
    return interval and (float(np.exp(interval[0])), float(np.exp(interval[1])))


def _explained_by(variant: str, means: dict[Kind, dict[str, Mean]]) -> str:
    """Which implementation gives the paper's number: "described", "released", "both", "neither".

    One does where its error at the last step on the training sample (the paper measured on training
    images), mean over seeds, lies between the paper's lowest number / NEAR and its highest * NEAR.
    "" where the paper has no number for the variant, or neither was evaluated.
    """
    errors = {how: means[how, "last_step"]["train_error"] for how in IMPLEMENTATIONS}
    if variant not in PAPER or not any(mean.n or mean.diverged for mean in errors.values()):
        return ""
    low, high = PAPER[variant].errors[0] / NEAR, PAPER[variant].errors[-1] * NEAR
    explaining = [how for how, mean in errors.items() if low <= mean.value <= high]
    return "both" if len(explaining) == 2 else explaining[0] if explaining else "neither"


def prefix(kind: Kind) -> str:
    """How the columns of a variant's model begin: nothing as described at the last step."""
    usual = ("described", "last_step")
    return "".join(f"{one}_" for one, other in zip(kind, usual, strict=True) if one != other)


def table1_csv(rows: list[Row]) -> pd.DataFrame:
    """A row a variant, for each of its models n, diverged, the errors and, as described, all other
    measures; the paper's numbers. Missing values are nan."""
    lines = []
    for row in rows:
        line: dict[str, object] = {"model": row.variant, "label": row.label}
        for kind, means in row.means.items():
            error, training = means["error"], means["train_error"]
            numbers = {
                "n": error.n,
                "diverged": error.diverged,
                "error": error.value,
                "error_sd": error.deviation,
                "error_se": error.standard_error,
                "train_error": training.value,
                "train_error_sd": training.deviation,
            }
            if kind[0] == "described":
                numbers |= {name: mean.value for name, mean in means.items()}
            line |= {f"{prefix(kind)}{name}": value for name, value in numbers.items()}
        line |= {
            "paper_table1": row.paper.table1 or np.nan,
            "paper_figure5": row.paper.figure5 or np.nan,
            "explained_by": row.explained_by,
        }
        lines.append(line)
    return pd.DataFrame(lines)


def curves_csv(records: Records) -> pd.DataFrame:
    """Held-out error of every model, seed and epoch.

    Columns variant, implementation, weights, seed, epoch, error.
    """
    columns = [*Model._fields, "seed", "epoch", "error"]
    tables = []
    for model, record in records.found.items():
        rows = error_by_epoch(record, model.weights)
        tables.append(rows.assign(**model._asdict(), error=rows.value)[columns])
    return pd.concat(tables, ignore_index=True)
