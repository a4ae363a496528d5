"""Sheets of faces, pixel by pixel.

Faces are shown as they are, 0 to 255, never normalised, and enlarged by repeating pixels.
"""

import re
from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.common.settings import CANDIDATE, IMPLEMENTATIONS, WEIGHTS, Implementation, Weights
from stages.measure.records import Model, Record, Records
from stages.report.catalogue import (
    FIRST,
    IMPLEMENTATION_LABELS,
    PAPER,
    WEIGHTS_LABELS,
    distinct,
    label,
    mean_of,
    models,
    rank,
    valid,
)

FACE = 256  # pixels a side of a face, however many it has
HERO_FACES = 2
SAMPLES = 4  # of a model
GAP = 12  # pixels between two blocks of a sheet
CAPTION = 62  # pixels above a block, for two lines
# The one that comes with matplotlib, whatever the system has.
FONT = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
TEXT = 21  # pixels, less where a caption would be wider than its block

Block = tuple[str, str, np.ndarray]  # two lines of caption, uint8 (rows, columns, s, s, 3)


def sheet(rows: Sequence[Sequence[Block | None]]) -> Image.Image:
    """Rows of blocks of faces, aligned in columns; None leaves a place empty."""
    down = [max(block[2].shape[0] for block in row if block) for row in rows]
    across = [
        max(block[2].shape[1] for block in column if block) if any(column) else 0
        for column in zip_longest(*rows)
    ]
    tops = np.cumsum([0, *(CAPTION + n * FACE + GAP for n in down)])
    lefts = np.cumsum([GAP, *(n * FACE + GAP for n in across)])
    canvas = Image.new("RGB", (int(lefts[-1]), int(tops[-1])), "white")
    pen = ImageDraw.Draw(canvas)
    for row, top in zip(rows, tops[:-1] + CAPTION, strict=True):
        for block, left in zip(row, lefts, strict=False):
            if block:
                _paste(canvas, pen, block, int(left), int(top))
    return canvas


def _paste(
    canvas: Image.Image, pen: ImageDraw.ImageDraw, block: Block, left: int, top: int
) -> None:
    *lines, faces = block
    rows, columns = faces.shape[:2]
    for text, above, colour in zip(lines, (32, 8), ("black", "#555555"), strict=True):
        size = TEXT
        while size > 8 and _font(size).getlength(text) > columns * FACE:
            size -= 1
        pen.text((left, top - above), text, colour, _font(size), anchor="ls")
    size = faces.shape[2]
    tiled = faces.transpose(0, 2, 1, 3, 4).reshape(rows * size, columns * size, 3)
    zoomed = tiled.repeat(FACE // size, axis=0).repeat(FACE // size, axis=1)
    canvas.paste(Image.fromarray(zoomed), (left, top))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONT, size)


def reconstructions(records: Records, implementation: Implementation) -> Image.Image | None:
    """Figure 6: the same face through every model of the paper, those of the same name in a row:
    stacked, then recursive; last step, averaged."""
    kinds = _kinds(records, implementation, papers=True)
    pairs = dict.fromkeys(re.sub("^(recursive|stacked)", "", name) for name in kinds)
    rows: list[list[Block | None]] = [
        [
            _by_weights(kinds.get(training + pair, {}).get(weights))
            for training in ("stacked", "recursive")
            for weights in WEIGHTS
        ]
        for pair in pairs
    ]
    return sheet([[_input(records)] * 4, *rows]) if rows else None


def other_variants(records: Records) -> Image.Image | None:
    """The same face through every variant that is not the paper's: last step, averaged below."""
    kinds = _kinds(records, "described", papers=False)
    if not kinds:
        return None
    outputs = [[_by_weights(kind.get(weights)) for kind in kinds.values()] for weights in WEIGHTS]
    return sheet([[_input(records), *row] for row in outputs])


def _kinds(
    records: Records, implementation: Implementation, papers: bool
) -> dict[str, dict[Weights, Record]]:
    """The models to show, by variant, in the report's order."""
    found = [one for model, one in records.found.items() if model.implementation == implementation]
    shown = [one for one in distinct(found) if (one.model.variant in PAPER) == papers]
    kinds: dict[str, dict[Weights, Record]] = {}
    for record in sorted(shown, key=lambda record: rank(record.model.variant)):
        kinds.setdefault(record.model.variant, {})[record.model.weights] = record
    return kinds


def _input(records: Records) -> Block:
    return "", "input", records.references.inputs[:1, None]


def samples(records: Records) -> Image.Image | None:
    """Figure 4: what the variational models make of standard normal latents."""
    shown = distinct([record for record in records.found.values() if len(record.samples)])
    order = sorted(
        {record.model[:2] for record in shown},
        key=lambda model: (IMPLEMENTATIONS.index(model[1]), rank(model[0])),
    )
    if not order:
        return None
    kinds = [[records.found.get(Model(*model, weights)) for weights in WEIGHTS] for model in order]
    return sheet([[_samples(record) for record in kind] for kind in kinds])


def _samples(record: Record | None) -> Block | None:
    if record is None or not len(record.samples):
        return None
    found = valid(record, "faces_found", "samples")
    told = WEIGHTS_LABELS[record.model.weights]
    if len(found):
        told += f": face in {found.value.mean():.0%} of {found.n.sum():,.0f}"
    implementation = IMPLEMENTATION_LABELS[record.model.implementation]
    return f"{label(record.model.variant)}, {implementation}", told, record.samples[None, :SAMPLES]


def hero(records: Records) -> Image.Image | None:
    """Two faces through the models of FIRST, and that of the lowest error beyond the paper among
    those of as many epochs."""
    averaged = {one.model.variant: one for one in models(records, "described", "averaged")}
    shown = [averaged[name] for name in FIRST if name in averaged]
    if not shown:
        return None
    beyond = [one for name, one in averaged.items() if name not in (*PAPER, CANDIDATE)]
    epochs = shown[0].settings.epochs
    whole = [one for one in beyond if not one.diverged and one.settings.epochs == epochs]
    shown += sorted(whole, key=lambda one: one.mean("error"))[:1]
    have = min((len(one.reconstructions) for one in shown if len(one.reconstructions)), default=1)
    faces = np.linspace(0, have - 1, min(HERO_FACES, have)).round().astype(int)
    inputs = ("", "input", records.references.inputs[faces, None])
    outputs = (_output(record, f"error {mean_of(record)}", faces) for record in shown)
    return sheet([[inputs, *outputs]])


def _by_weights(record: Record | None) -> Block | None:
    if record is None:
        return None
    return _output(record, f"{WEIGHTS_LABELS[record.model.weights]}: {mean_of(record)}", [0])


def _output(record: Record, told: str, faces: Sequence[int] | np.ndarray) -> Block:
    """Reconstructions one below the other; white where every seed diverged."""
    pictures = np.full((len(faces), 1, *record.reconstructions.shape[1:]), 255, np.uint8)
    if len(record.reconstructions):
        pictures = record.reconstructions[list(faces), None]
    return label(record.model.variant), told, pictures
