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

from stages.common.settings import WEIGHTS
from stages.measure.measures import MEASURES
from stages.measure.records import Record, Records
from stages.report.effect import number
from stages.report.looks import colours_of
from stages.report.models import best_recursive, distinct, models
from stages.report.paper import IMPLEMENTATION_LABELS, WEIGHTS_LABELS, label
from stages.report.rule import Verdicts
from stages.report.tables import LOSSES, by_model
from stages.report.words import caveats, mean_sd, provenance

HERE = Path(__file__).parent
LIMIT = 3_300_000  # bytes of all pictures; in the page they take a third more
# Without loss, the differences that the page amplifies are the model's own.
ENCODINGS: list[dict[str, Any]] = [
    {"lossless": True, "method": 2},
    *({"quality": q} for q in (90, 75, 50)),
]
DASHES = {"stacked": [6, 3], "joint": [2, 3], "recursive": []}
# Of Table 1, and what heads them.
COLUMNS = {
    "label": "model",
    "implementation": "implementation",
    "weights": "weights",
    "n": "seeds",
    "diverged": "diverged",
    "error": "error",
    "error_sd": "± over seeds",
    "train_error": "error on training images",
    "paper_table1": "paper: Table 1",
    "paper_figure5": "paper: Figure 5",
    "explained_by": "paper explained by",
    **{
        name: measure.label
        for name, measure in MEASURES.items()
        if name not in ("error", "mse") and not name.startswith("depth_")
    },
    "sample_faces_found": "faces found in samples",
}


def page(records: Records, verdicts: Verdicts) -> str:
    """reports/index.html, under 5 MB whatever there is to show."""
    faces = len(records.references.inputs)
    described = distinct(models(records, "described", "averaged"))
    shown = [one for one in described if len(one.reconstructions) == faces]  # else all diverged
    names = [one.model.variant for one in shown]
    best = best_recursive(shown)
    first = ["stacked", "recursive", *([best.model.variant] if best else [])]
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    by_claim = zip(*(verdicts[weights] for weights in WEIGHTS), strict=True)
    claims = [dict(zip(WEIGHTS, each, strict=True)) for each in by_claim]
    return environment.get_template("page.html").render(
        provenance=provenance(records),
        caveats=caveats(records),
        claims=claims,
        columns=COLUMNS,
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


def _rows(records: Records) -> list[list[tuple[str, float | str]]]:
    """Table 1: of every cell its text, and what it is sorted by ("" where there is nothing)."""
    table = by_model(records)
    labels: dict[str, str] = {str(k): v for k, v in IMPLEMENTATION_LABELS.items()}
    labels |= {str(k): v for k, v in WEIGHTS_LABELS.items()}
    rows = []
    for position, (_, row) in enumerate(table.iterrows()):
        cells: list[tuple[str, float | str]] = [(row["label"], position)]
        for value in (row[name] for name in list(COLUMNS)[1:]):
            if isinstance(value, str):
                cells.append((labels.get(value, value), value))
            else:
                cells.append(("", "") if pd.isna(value) else (number(value), float(value)))
        rows.append(cells)
    return rows


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
