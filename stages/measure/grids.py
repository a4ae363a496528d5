"""Faces in rows, as one picture."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torchvision.utils import make_grid


def grid(rows: Sequence[np.ndarray]) -> Image.Image:
    """Rows of as many faces each, uint8 (n, 128, 128, 3), pixel by pixel and without borders."""
    faces = torch.from_numpy(np.concatenate(rows)).permute(0, 3, 1, 2)
    tiled = make_grid(faces, nrow=len(rows[0]), padding=0)
    return Image.fromarray(tiled.permute(1, 2, 0).numpy())
