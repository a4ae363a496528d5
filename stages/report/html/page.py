"""The records as one self-contained page: faces, verdicts, Table 1, curves.

page.html is its text, page.css its looks, page.js what it does; uPlot draws the curves (its licence
is beside it).
"""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from stages.common.settings import IMPLEMENTATIONS, WEIGHTS
from stages.measure.measures import MEASURES
from stages.measure.records import Model, Record, Records
from stages.report.effect import number
from stages.report.looks import colours_of
from stages.report.models import best_of, distinct, models, valid, variants
from stages.report.paper import IMPLEMENTATION_LABELS, PAPER, WEIGHTS_LABELS, label
from stages.report.rule import Verdicts
from stages.report.tables import LOSSES, explained_by
from stages.report.words import caveats, mean_sd, provenance

HERE = Path(__file__).parent
Cell = tuple[str, float | str]  # its text, and what it is sorted by; "" where there is nothing

LIMIT = 3_300_000  # bytes of all pictures; in the page they take a third more
# Without loss, the differences that the page amplifies are the model's own.
ENCODINGS: list[dict[str, Any]] = [
    {"lossless": True, "method": 2},
    *({"quality": q} for q in (90, 75, 50)),
]
DASHES = {"stacked": [6, 3], "joint": [2, 3], "recursive": []}
# Of the table, what heads them; then every measure of the table of measures but these.
COLUMNS = (
    *("model", "implementation", "weights", "seeds", "diverged", "error", "± over seeds"),
    *("error on training images", "paper: Table 1", "paper: Figure 5", "paper explained by"),
    "faces found in samples",
)


def page(records: Records, verdicts: Verdicts) -> str:
    """reports/index.html, under 5 MB for up to forty variants."""
    faces = len(records.references.inputs)
    described = distinct(models(records, "described", "averaged"))
    shown = [one for one in described if len(one.reconstructions) == faces]  # else all diverged
    names = [one.model.variant for one in shown]
    best = best_of(shown)
    first = ["stacked", "recursive", *([best.model.variant] if best else [])]
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    by_claim = zip(*(verdicts[weights] for weights in WEIGHTS), strict=True)
    claims = [dict(zip(WEIGHTS, each, strict=True)) for each in by_claim]
    return environment.get_template("page.html").render(
        dataset=records.dataset,
        provenance=provenance(records),
        caveats=caveats(records),
        claims=claims,
        columns=[*COLUMNS, *(MEASURES[name].label for name in _others(records))],
        rows=_rows(records),
        models=[(name, label(name)) for name in names],
        chosen=[name for name in first if name in names] or names[:2],
        faces=faces,
        weights_labels=WEIGHTS_LABELS,
        implementation_labels=IMPLEMENTATION_LABELS,
        data={"faces": _faces(records, shown), "curves": _curves(records)},
        **{
            name.replace(".", "_"): Markup((HERE / name).read_text(encoding="utf-8"))
            for name in ("page.css", "page.js", "uPlot.min.css", "uPlot.iife.min.js")
        },
    )


def _faces(records: Records, shown: list[Record]) -> dict[str, Any]:
    """The pictures, without loss unless that would take too much, as data URIs."""
    inputs = records.references.inputs
    pictures = np.concatenate([inputs, *(one.reconstructions for one in shown)])
    for how in ENCODINGS:
        encoded = [_webp(face, how) for face in pictures]
        if sum(map(len, encoded)) < LIMIT:
            break
    uris = iter(f"data:image/webp;base64,{base64.b64encode(one).decode()}" for one in encoded)
    found: dict[str, Any] = {"inputs": [next(uris) for _ in inputs], "models": {}}
    for one in shown:
        difference = (one.reconstructions.astype(float) - inputs) / 255
        found["models"][one.model.variant] = {
            "label": label(one.model.variant),
            "error": mean_sd(one),
            "errors": [round(error) for error in np.square(difference).sum((1, 2, 3))],
            "pictures": [next(uris) for _ in inputs],
        }
    return found


def _webp(face: np.ndarray, how: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(face).save(file, "WEBP", **how)
    return file.getvalue()


def _rows(records: Records) -> list[list[Cell]]:
    """A row for each evaluated model, and for each of the paper's that was not."""
    shown: list[Model] = []
    for variant in variants(records):
        four = [Model(variant, how, weights) for how in IMPLEMENTATIONS for weights in WEIGHTS]
        shown += [model for model in four if model in records.found] or four[:1]
    return [_row(records, model, position) for position, model in enumerate(shown)]


def _others(records: Records) -> list[str]:
    return [name for name in records.measures if name != "mse" and "error" not in name]


def _row(records: Records, model: Model, position: int) -> list[Cell]:
    record, paper = records.found.get(model), PAPER.get(model.variant)

    def values(measure: str, split: str = "test") -> "pd.Series[float]":
        return valid(record, measure, split).value if record else pd.Series(dtype=float)

    errors = values("error")
    numbers = [len(errors), len(record.diverged) if record else None, errors.mean(), errors.std()]
    numbers.append(values("error", "train").mean())
    numbers += [paper.table1, paper.figure5] if paper else [None, None]
    explained = explained_by(records, model.variant)
    measures = [
        values("faces_found", "samples").mean(),
        *(values(name).mean() for name in _others(records)),
    ]
    return [
        (label(model.variant), position),
        (IMPLEMENTATION_LABELS[model.implementation], model.implementation),
        (WEIGHTS_LABELS[model.weights], model.weights),
        *map(_cell, numbers),
        (explained, explained),
        *map(_cell, measures),
    ]


def _cell(value: float | None) -> Cell:
    return ("", "") if value is None or pd.isna(value) else (number(value), float(value))


def _curves(records: Records) -> dict[str, Any]:
    """Held-out error by epoch of the models as described: over seeds the mean, and the ends."""
    shown = distinct(models(records, "described", "averaged"))
    colours = colours_of(records)
    tables = {one.model.variant: one.curve[one.curve.split == "test"] for one in shown}
    last = max((table.epoch.max() for table in tables.values() if len(table)), default=1)
    epochs = range(1, int(last) + 1)
    series = []
    for one in shown:
        name, table = one.model.variant, tables[one.model.variant]
        found: dict[str, Any] = {
            "label": label(name),
            "colour": colours[name] if colours[name] != "black" else None,  # as the text
            "dash": DASHES[one.settings.training],
        }
        for loss, weights in LOSSES.items():
            own = table[(table.loss == loss) & ~table.seed.isin(list(one.diverged))]
            over_seeds = own.groupby("epoch").value.agg(["mean", "min", "max"]).reindex(epochs)
            found[weights] = {
                end: [None if pd.isna(value) else float(f"{value:.5g}") for value in column]
                for end, column in over_seeds.items()
            }
        series.append(found)
    return {"epochs": list(epochs), "series": series}
