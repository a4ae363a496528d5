"""Upsampling and max pooling by a factor of two, and their gradients; the batch is last."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.kernels.jit import compiled, inlined
from stages.kernels.pointwise import LANES, activate
from stages.kernels.vectors import larger, load, offset, store, where_greater, zeros

Floats = NDArray[np.float32]
f32 = np.float32


@compiled
def upsample(x: Floats, near: float, out: Floats) -> None:
    """out (C,2h,2w,N): in each direction `near` of the nearest value of x (C,h,w,N) plus the rest
    of the one beyond, which at the border is the nearest again.

    1 is nearest interpolation, 3/4 bilinear, the pixels taken as areas.
    """
    channels, h, w, count = x.shape
    values, y = x.reshape(-1), out.reshape(-1)
    zero, most, rest = zeros(LANES), f32(near), f32(1 - near)
    for c in range(channels):
        for r in range(2 * h):
            i = r // 2
            beyond = min(max(i + 2 * (r % 2) - 1, 0), h - 1)
            row, other = (c * h + i) * w, (c * h + beyond) * w
            for s in range(2 * w):
                j = s // 2
                side = min(max(j + 2 * (s % 2) - 1, 0), w - 1)
                t = ((c * 2 * h + r) * 2 * w + s) * count
                for n in range(0, count, LANES):
                    nearest = most * load(zero, values, offset((row + j) * count + n))
                    beside = most * load(zero, values, offset((row + side) * count + n))
                    nearest = nearest + rest * load(zero, values, offset((other + j) * count + n))
                    beside = beside + rest * load(zero, values, offset((other + side) * count + n))
                    store(y, offset(t + n), most * nearest + rest * beside)


@compiled
def upsample_gradient(grad: Floats, near: float, out: Floats) -> None:
    """out (C,h,w,N) = the gradient of what was upsampled, for grad (C,2h,2w,N) of the result."""
    channels, h, w, count = out.shape
    g, y = grad.reshape(-1), out.reshape(-1)
    zero, most, rest = zeros(LANES), f32(near), f32(1 - near)
    for c in range(channels):
        top = c * 2 * h
        for i in range(h):
            rows = _readers(i, h)
            for j in range(w):
                columns = _readers(j, w)
                for n in range(0, count, LANES):
                    summed = zero
                    for a in range(4):
                        along = zero
                        for b in range(4):
                            at = offset(((top + rows[a]) * 2 * w + columns[b]) * count + n)
                            along = along + (most if b < 2 else rest) * load(zero, g, at)
                        summed = summed + (most if a < 2 else rest) * along
                    store(y, offset(((c * h + i) * w + j) * count + n), summed)


@inlined
def _readers(i: int, size: int) -> tuple[int, int, int, int]:
    """The two that have value i as the nearest, and the two that have it as the one beyond."""
    return 2 * i, 2 * i + 1, max(2 * i - 1, 0), min(2 * i + 2, 2 * size - 1)


@inlined
def _largest(like: Any, values: Floats, places: Any) -> Any:
    """The largest of the vectors at these places; no number in lanes where one has none."""
    largest = load(like, values, places[0])
    for at in places:
        largest = larger(largest, load(like, values, at))
    return largest


@compiled
def max_pool(x: Floats, activation: int, out: Floats) -> None:
    """out (C,h,w,N) = the activation, which is monotonic, of the largest of each 2 x 2 values of
    x (C,2h,2w,N)."""
    channels, h, w, count = out.shape
    values, y = x.reshape(-1), out.reshape(-1)
    zero, pixel, line = zeros(LANES), offset(count), offset(2 * w * count)
    for i in range(channels * h):
        for j in range(w):
            for n in range(0, count, LANES):
                p = offset((i * 4 * w + 2 * j) * count + n)
                largest = _largest(zero, values, (p, p + pixel, p + line, p + line + pixel))
                store(y, offset((i * w + j) * count + n), activate(largest, activation))


@compiled
def max_pool_gradient(grad: Floats, x: Floats, out: Floats) -> None:
    """out (C,2h,2w,N) = grad (C,h,w,N) at the first of the largest of each 2 x 2 values of x
    (C,2h,2w,N), or at the first where one is no number; zero elsewhere."""
    channels, h, w, count = grad.shape
    values, g, y = x.reshape(-1), grad.reshape(-1), out.reshape(-1)
    zero, pixel, line = zeros(LANES), offset(count), offset(2 * w * count)
    for i in range(channels * h):
        for j in range(w):
            for n in range(0, count, LANES):
                p = offset((i * 4 * w + 2 * j) * count + n)
                places = p, p + pixel, p + line, p + line + pixel
                largest = _largest(zero, values, places)
                rest = load(zero, g, offset((i * w + j) * count + n))
                for at in places:
                    v = load(zero, values, at)
                    store(y, at, where_greater(largest, v, f32(0), rest))
                    rest = where_greater(largest, v, rest, f32(0))
