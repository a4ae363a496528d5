"""table1.csv and curves.csv, and which implementation gives the paper's numbers."""

import numpy as np
import pandas as pd

from stages.common.settings import IMPLEMENTATIONS, Implementation, Weights
from stages.measure.records import Model, Record, Records
from stages.report.models import valid, variants
from stages.report.paper import PAPER, label

# The paper's two draws of 100 images give numbers up to 35 % apart: ours may lie a little outside.
NEAR = 1.25
LOSSES = {"error": "last_step", "averaged_error": "averaged"}  # of a training's curve
# How the columns of a variant's four models begin.
PREFIXES: dict[tuple[Implementation, Weights], str] = {
    ("described", "last_step"): "",
    ("described", "averaged"): "averaged_",
    ("released", "last_step"): "released_",
    ("released", "averaged"): "released_averaged_",
}


def table1(records: Records) -> pd.DataFrame:
    """A row for each model of Table 1, evaluated or not, and for every other variant.

    Of the model as described at its last step, and with a prefix of PREFIXES of its others, what
    is measured of it (as released: the errors); paper_*: the paper's numbers; explained_by: see
    `explained_by`. Missing values are nan.
    """
    rows = []
    for variant in variants(records):
        row: dict[str, object] = {"model": variant, "label": label(variant)}
        for (implementation, weights), prefix in PREFIXES.items():
            record = records.found.get(Model(variant, implementation, weights))
            numbers = (
                _errors(record)
                if implementation == "released"
                else _numbers(record, records.measures)
            )
            row |= {f"{prefix}{key}": value for key, value in numbers.items()}
        rows.append(row | _paper(records, variant))
    return pd.DataFrame(rows)


def _numbers(record: Record | None, measures: list[str]) -> dict[str, object]:
    numbers = _errors(record)
    for measure in measures:
        numbers.setdefault(measure, _values(record, measure).value.mean())
    numbers["sample_faces_found"] = _values(record, "faces_found", "samples").value.mean()
    return numbers


def _errors(record: Record | None) -> dict[str, object]:
    error, train_error = _values(record, "error"), _values(record, "error", "train")
    diverged = len(record.diverged) if record else 0
    return {
        "n": len(record.seeds) - diverged if record else 0,
        "diverged": diverged,
        "error": error.value.mean(),
        "error_sd": error.value.std(),
        "error_se": error.standard_error.mean(),
        "train_error": train_error.value.mean(),
        "train_error_sd": train_error.value.std(),
    }


def _paper(records: Records, variant: str) -> dict[str, object]:
    paper = PAPER.get(variant)
    return {
        "paper_table1": paper.table1 if paper and paper.table1 else np.nan,
        "paper_figure5": paper.figure5 if paper and paper.figure5 else np.nan,
        "explained_by": explained_by(records, variant),
    }


def _values(record: Record | None, measure: str, split: str = "test") -> pd.DataFrame:
    if record is None:
        return pd.DataFrame(columns=["value", "standard_error", "n"], dtype=float)
    return valid(record, measure, split)


def curves(records: Records) -> pd.DataFrame:
    """Held-out error of every model, seed and epoch.

    Columns variant, implementation, weights, seed, epoch, error.
    """
    tables = []
    for model, record in records.found.items():
        rows = record.curve[record.curve.split == "test"]
        rows = rows[rows.loss.map(LOSSES) == model.weights]
        table = rows[["seed", "epoch"]].assign(error=rows.value)
        for place, (column, value) in enumerate(model._asdict().items()):
            table.insert(place, column, value)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def explained_by(records: Records, variant: str) -> str:
    """Which implementation gives the paper's number: "described", "released", "both", "neither".

    One does where its error at the last step on the training sample (the paper measured on training
    images), mean over seeds, lies between the paper's lowest number / NEAR and its highest * NEAR.
    "" where the paper has no number for the variant, or neither was evaluated.
    """
    evaluated = {
        implementation: _training_errors(records, variant, implementation)
        for implementation in IMPLEMENTATIONS
        if Model(variant, implementation, "last_step") in records.found
    }
    if variant not in PAPER or not evaluated:
        return ""
    low, high = PAPER[variant].errors[0] / NEAR, PAPER[variant].errors[-1] * NEAR
    explaining = [
        implementation
        for implementation, errors in evaluated.items()
        if low <= errors.mean() <= high
    ]
    return "both" if len(explaining) == 2 else explaining[0] if explaining else "neither"


def _training_errors(records: Records, variant: str, implementation: Implementation) -> pd.Series:
    """At the last step on the training sample, of the seeds that did not diverge."""
    record = records.found.get(Model(variant, implementation, "last_step"))
    return _values(record, "error", "train").value
