"""Batches of faces, as they lie in memory while they are trained on."""

import numpy as np
from numpy.typing import NDArray

from stages.kernels.jit import compiled
from stages.kernels.vectors import offset


@compiled
def gather_pixels(
    faces: NDArray[np.uint8], rows: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    """out (3,H,W,N) in [0,1] = the rows of faces (M,H,W,3) uint8, divided by 255."""
    _, height, width, count = out.shape
    size = 3 * width
    # One line of every face, apart by more than the line: else they share the cache's few ways.
    pitch = size + 64
    lines = np.empty(count * pitch, np.uint8)
    pixel = np.empty(count, np.uint8)
    values, y = faces.reshape(-1), out.reshape(-1)
    for i in range(height):
        for n in range(count):
            p = (rows[n] * height + i) * size
            lines[n * pitch : n * pitch + size] = values[p : p + size]
        for p in range(size):
            for n in range(count):
                pixel[n] = lines[offset(n * pitch + p)]
            start = offset(((p % 3 * height + i) * width + p // 3) * count)
            for n in range(count):
                y[start + offset(n)] = np.float32(pixel[n]) / np.float32(255)
