"""The face in a picture of any size, cropped as the faces of LFW are."""

from functools import cache

import numpy as np
from PIL import Image
from skimage.data import lbp_frontal_face_cascade_filename
from skimage.feature import Cascade

from stages.data.crops import FORMATS, decode

LOOKED_AT = 512  # pixels of the longer side in which a face is looked for
SMALLEST = 64  # pixels of a face's side in it
DETECTIONS = 3  # that overlap
# A crop's side in detected windows: in LFW's pictures the median, their centre being the same.
MARGIN = 128 / 113
_cascade = cache(lambda: Cascade(lbp_frontal_face_cascade_filename()))  # type: ignore[no-untyped-call]


def fit_face(picture: bytes, size: int) -> np.ndarray | None:
    """(size, size, 3) uint8 RGB of the largest frontal face; None without. Raises as `fit` does."""
    image = decode(picture, FORMATS, size, 2 * LOOKED_AT)
    scale = max(1.0, max(image.size) / LOOKED_AT)
    small = np.asarray(image.resize([round(side / scale) for side in image.size]))
    sizes = {"min_size": (SMALLEST, SMALLEST), "max_size": small.shape[:2]}
    windows = _cascade().detect_multi_scale(
        small, scale_factor=1.2, step_ratio=1, min_neighbor_number=DETECTIONS, **sizes
    )
    if not windows:
        return None
    face = max(windows, key=lambda window: window["width"])
    middle = np.array((face["c"], face["r"])) + face["width"] / 2
    side = min(face["width"] * MARGIN * scale, *image.size)
    left, top = (middle * scale - side / 2).clip(0, np.array(image.size) - side)
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box, reducing_gap=3))
