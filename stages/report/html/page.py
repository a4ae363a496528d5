"""The records as one self-contained page: faces, verdicts, Table 1, curves.

page.html is its text, page.css its looks, page.js what it does; uPlot draws the curves (its licence
is beside it).
"""

import base64
import io
import re
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from PIL import Image

from stages.common.settings import WEIGHTS
from stages.measure.measures import MEASURES
from stages.measure.records import Record, Records
from stages.report.catalogue import (
    COLOURS,
    FIRST,
    IMPLEMENTATION_LABELS,
    KINDS,
    OWN_COLOURS,
    WEIGHTS_LABELS,
    Kind,
    distinct,
    error_by_epoch,
    label,
    looks_of,
    mean_of,
    models,
)
from stages.report.findings import Findings
from stages.report.statistics import number
from stages.report.tables import Row
from stages.report.text import environment, rule

HERE = Path(__file__).parent
Cell = tuple[str, float | str]  # its text, and what it is sorted by; "" where there is nothing

LIMIT = 3_300_000  # bytes of all pictures; in the page they take a third more
# Without loss, the differences that the page amplifies are the model's own.
ENCODINGS: list[dict[str, Any]] = [
    {"lossless": True, "method": 2},
    *({"quality": q} for q in (90, 75, 50)),
]


def page(records: Records, found: Findings) -> str:
    """reports/index.html, under 5 MB for up to forty variants."""
    faces = len(records.references.inputs)
    described = distinct(models(records, "described", "averaged"))
    shown = [one for one in described if len(one.reconstructions) == faces]  # else all diverged
    names = [one.model.variant for one in shown]
    chosen = [name for name in FIRST if name in names] or names[:2]
    measures = [name for name in records.measures if name != "mse" and "error" not in name]
    own = found.provenance["own"]
    noun = "picture" if own else "face"
    rows = _rows(found.shown, measures)
    columns = [name for name in rows[0] if not own or not re.search("paper|faces", name)]
    template = environment(HERE, safe=True).get_template("page.html")
    return template.render(
        found=found,
        columns=columns,
        rows=[[row[name] for name in columns] for row in rows],
        models=[(name, _named(name)) for name in names],
        chosen=chosen,
        faces=faces,
        size=records.size,
        rule=_rule(found),
        data={
            "noun": noun,
            "faces": _faces(records, shown),
            "curves": _curves(records, described, chosen),
        },
        **{
            name.replace(".", "_"): Markup((HERE / name).read_text(encoding="utf-8"))
            for name in ("page.css", "page.js", "uPlot.min.css", "uPlot.iife.min.js")
        },
    )


def _named(variant: str) -> str:
    """Labels of one kind: words, for variants beyond the paper, too."""
    return label(variant).replace("_", " ")


def _rule(found: Findings) -> list[Markup]:
    """The points of the rule, which is Markdown, as HTML."""
    points = str(escape(rule(found))).removeprefix("- ").split("\n- ")
    strong = [re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", point, flags=re.S) for point in points]
    return [Markup(re.sub(r"\*(.+?)\*", r"<em>\1</em>", point, flags=re.S)) for point in strong]


def _faces(records: Records, shown: list[Record]) -> dict[str, Any]:
    """The pictures, without loss unless that would take too much, as data URIs."""
    inputs = records.references.inputs
    pictures = np.concatenate([inputs, *(one.reconstructions for one in shown)])
    for how in ENCODINGS:
        encoded = [_webp(face, how) for face in pictures]
        if sum(map(len, encoded)) < LIMIT:
            break
    uris = iter(f"data:image/webp;base64,{base64.b64encode(one).decode()}" for one in encoded)
    found: dict[str, Any] = {"size": records.size, "models": {}}
    found["inputs"] = [next(uris) for _ in inputs]
    for one in shown:
        difference = (one.reconstructions.astype(float) - inputs) / 255
        found["models"][one.model.variant] = {
            "label": _named(one.model.variant),
            "error": str(mean_of(one)),
            "errors": [round(error) for error in np.square(difference).sum((1, 2, 3))],
            "pictures": [next(uris) for _ in inputs],
        }
    return found


def _webp(face: np.ndarray, how: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(face).save(file, "WEBP", **how)
    return file.getvalue()


def _rows(table: list[Row], measures: list[str]) -> list[dict[str, Cell]]:
    """A row, by column, for each evaluated model, and for each of the paper's that was not."""
    shown: list[tuple[Row, Kind]] = []
    for row in table:
        evaluated = [(row, kind) for kind in KINDS if kind not in row.absent]
        shown += evaluated or [(row, KINDS[0])]
    return [_row(*model, position, measures) for position, model in enumerate(shown)]


def _row(row: Row, kind: Kind, position: int, measures: list[str]) -> dict[str, Cell]:
    (implementation, weights), means = kind, row.means[kind]
    error, absent = means["error"], kind in row.absent
    cells: dict[str, Cell] = {
        "model": (_named(row.variant) + ("†" if kind in row.unlearnt else ""), position),
        "implementation": (IMPLEMENTATION_LABELS[implementation], implementation),
        "weights": (WEIGHTS_LABELS[weights], weights),
        "seeds": _cell(None if absent else error.n),
        "diverged": _cell(None if absent else error.diverged),
        "error": _cell(error.value),
        "± over seeds": _cell(error.deviation),
        "error on training images": _cell(means["train_error"].value),
        "paper: Table 1": _cell(row.paper.table1),
        "paper: Figure 5": _cell(row.paper.figure5),
        "paper explained by": (row.explained_by, row.explained_by),
    }
    if "sample_faces_found" in means:
        cells["faces found in samples"] = _cell(means["sample_faces_found"].value)
    return cells | {MEASURES[name].label: _cell(means[name].value) for name in measures}


def _cell(value: float | None) -> Cell:
    return ("", "") if value is None or pd.isna(value) else (number(value), float(value))


def _curves(records: Records, shown: list[Record], first: list[str]) -> dict[str, Any]:
    """Held-out error by epoch of the models shown: over seeds the mean, and the ends.

    first: those that are shown at first. Every model has a colour of its own here.
    """
    looks = looks_of(records)
    order = [*first, *(one.model.variant for one in shown if one.model.variant not in first)]
    colours = dict(zip(order, cycle([*COLOURS.values(), *OWN_COLOURS]), strict=False))
    tests = [one.curve[one.curve.split == "test"] for one in shown]
    last = max((table.epoch.max() for table in tests if len(table)), default=1)
    epochs = range(1, int(last) + 1)
    series = []
    for one in shown:
        name = one.model.variant
        found: dict[str, Any] = {
            "label": _named(name),
            "colour": colours[name],
            "dash": [2 * length for length in looks[name].dash],  # pixels
            "shown": name in first,
        }
        for weights in WEIGHTS:
            own = error_by_epoch(one, weights)
            own = own[~own.seed.isin([*one.diverged])]
            over_seeds = own.groupby("epoch").value.agg(["mean", "min", "max"]).reindex(epochs)
            found[weights] = {
                end: [None if pd.isna(value) else float(f"{value:.5g}") for value in column]
                for end, column in over_seeds.items()
            }
        series.append(found)
    return {"epochs": list(epochs), "series": series}
