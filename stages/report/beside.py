"""Anybody's pictures beside what models make of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from stages.report.catalogue import label
from stages.report.sheets import FACE, Block, sheet

Made = Mapping[str, tuple[np.ndarray, np.ndarray]]  # by model: reconstructions, squared errors
VALUES = 3 * FACE * FACE


def table(names: Sequence[str], made: Made) -> str:
    """A line for each picture and model: both errors."""
    return "\n".join(
        f"{name}, {model}: {_told(errors[row])}"
        for row, name in enumerate(names)
        for model, (_, errors) in made.items()
    )


def reconstructions(names: Sequence[str], pixels: np.ndarray, made: Made) -> Image.Image:
    """A row for each picture, uint8 (n, 128, 128, 3): itself, then what each model makes of it."""
    rows = []
    for row, name in enumerate(names):
        blocks: list[Block] = [(name, f"{FACE} x {FACE} pixels of it", pixels[row, None, None])]
        for model, (pictures, errors) in made.items():
            blocks.append((label(model), _told(errors[row]), pictures[row, None, None]))
        rows.append(blocks)
    return sheet(rows)


def samples(drawn: Mapping[str, np.ndarray]) -> Image.Image:
    """Faces drawn by each model, uint8 (n, 128, 128, 3), in a square."""
    return sheet(
        [[(label(model), f"{len(faces)} drawn", _square(faces)) for model, faces in drawn.items()]]
    )


def _square(faces: np.ndarray) -> np.ndarray:
    side = int(np.ceil(len(faces) ** 0.5))
    rows = -(-len(faces) // side)
    white = np.full((rows * side - len(faces), *faces.shape[1:]), 255, np.uint8)
    return np.concatenate([faces, white]).reshape(rows, side, *faces.shape[1:])


def _told(error: float) -> str:
    return f"error {error:.1f}, mean squared error {error / VALUES:.5f}"
