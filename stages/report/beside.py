"""Anybody's pictures beside what models make of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image

from stages.report.catalogue import label
from stages.report.sheets import FONT, Block, sheet

Made = Mapping[str, tuple[np.ndarray, np.ndarray]]  # by model: reconstructions, squared errors
HeldOut = Mapping[str, float | None]  # by model: the mean squared error of held-out faces


def errors(names: Sequence[str], crops: Sequence[str], made: Made) -> list[dict[str, object]]:
    """Of each picture its name, its crop ("face" or "centre") and its squared error by model."""
    return [
        {
            "name": name,
            "crop": crop,
            "errors": {model: float(values[row]) for model, (_, values) in made.items()},
        }
        for row, (name, crop) in enumerate(zip(names, crops, strict=True))
    ]


def table(names: Sequence[str], crops: Sequence[str], made: Made, held_out: HeldOut) -> str:
    """A line for each picture and model."""
    return "\n".join(
        f"{name} ({crop}), {model}: {_told(values[row], held_out[model])}, "
        f"mean squared error {values[row] / pictures[row].size:.5f}"
        for row, (name, crop) in enumerate(zip(_captions(names, True), crops, strict=True))
        for model, (pictures, values) in made.items()
    )


def reconstructions(
    names: Sequence[str], crops: Sequence[str], pixels: np.ndarray, made: Made, held_out: HeldOut
) -> Image.Image:
    """A row for each picture, uint8 (n, s, s, 3): itself, then what each model makes of it."""
    rows = []
    for row, (name, crop) in enumerate(zip(_captions(names), crops, strict=True)):
        told = f"its {crop}, {pixels.shape[1]} x {pixels.shape[2]} pixels"
        blocks: list[Block] = [(name, told, pixels[row, None, None])]
        for model, (pictures, values) in made.items():
            told = _told(values[row], held_out[model])
            blocks.append((label(model), told, pictures[row, None, None]))
        rows.append(blocks)
    return sheet(rows)


def samples(drawn: Mapping[str, np.ndarray]) -> Image.Image:
    """Faces drawn by each model, uint8 (n, s, s, 3), in a square."""
    return sheet(
        [[(label(model), f"{len(faces)} drawn", _square(faces)) for model, faces in drawn.items()]]
    )


def _square(faces: np.ndarray) -> np.ndarray:
    side = int(np.ceil(len(faces) ** 0.5))
    rows = -(-len(faces) // side)
    white = np.full((rows * side - len(faces), *faces.shape[1:]), 255, np.uint8)
    return np.concatenate([faces, white]).reshape(rows, side, *faces.shape[1:])


def _captions(names: Sequence[str], with_name: bool = False) -> list[str]:
    """The names, but a number where the sheet's font lacks a letter; `with_name`: and the name."""
    letters = FT2Font(str(FONT)).get_charmap()
    return [
        name
        if all(ord(letter) in letters for letter in name)
        else f"picture {number}" + (f", {name}" if with_name else "")
        for number, name in enumerate(names, 1)
    ]


def _told(error: float, held_out: float | None) -> str:
    return f"error {error:.1f}" + (
        "" if held_out is None else f", held out {held_out:.1f} on average"
    )
