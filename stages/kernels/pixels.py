"""Batches of faces, as they lie in memory while they are trained on."""

import numpy as np
from numpy.typing import NDArray

from stages.kernels.jit import compiled
from stages.kernels.vectors import offset, store, turned_bytes, zeros

BLOCK = 16


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
    values, y = faces.reshape(-1), out.reshape(-1)
    zero, white = zeros(BLOCK), np.float32(255)
    in_blocks = count % BLOCK == 0 and size % BLOCK == 0
    for i in range(height):
        for n in range(count):
            p = (rows[n] * height + i) * size
            lines[n * pitch : n * pitch + size] = values[p : p + size]
        if in_blocks:
            for n in range(0, count, BLOCK):
                for p in range(0, size, BLOCK):
                    q = p
                    for v in turned_bytes(zero, lines, offset(n * pitch + p), offset(pitch)):
                        t = ((q % 3 * height + i) * width + q // 3) * count + n
                        store(y, offset(t), v / white)
                        q += 1
        else:
            for p in range(size):
                t = ((p % 3 * height + i) * width + p // 3) * count
                for n in range(count):
                    y[t + n] = np.float32(lines[n * pitch + p]) / white
