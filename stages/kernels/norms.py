"""Batch normalisation and its gradient."""

import numpy as np
from numpy.typing import NDArray

from stages.kernels.jit import compiled
from stages.kernels.pointwise import BLOCK, LANES
from stages.kernels.vectors import load, offset, store, total, zeros

Floats = NDArray[np.float32]


@compiled
def normalise(
    x: Floats, scaling: tuple[Floats, Floats], epsilon: float, out: Floats, found: Floats
) -> None:
    """out (C, M) = x with each row at mean bias (C) and, but for epsilon, deviation weight (C).

    scaling: weight and bias. found (2, C) = each row's mean and 1 / sqrt(variance + epsilon); the
    variance is biased.
    """
    weight, bias = scaling
    rows, size = x.shape
    values, y = x.reshape(-1), out.reshape(-1)
    zero = zeros(LANES)
    for c in range(rows):
        summed = 0.0
        for start in range(0, size, BLOCK):
            block = zero
            for t in range(start, min(start + BLOCK, size), LANES):
                block = block + load(zero, values, offset(c * size + t))
            summed += np.float64(total(block))
        mean = np.float32(summed / size)
        squares = 0.0
        for start in range(0, size, BLOCK):
            block = zero
            for t in range(start, min(start + BLOCK, size), LANES):
                d = load(zero, values, offset(c * size + t)) - mean
                block = block + d * d
            squares += np.float64(total(block))
        found[0, c], found[1, c] = mean, 1 / np.sqrt(squares / size + epsilon)
        scale, shift = weight[c] * found[1, c], bias[c]
        for t in range(0, size, LANES):
            at = offset(c * size + t)
            store(y, at, (load(zero, values, at) - mean) * scale + shift)


@compiled
def normalise_gradient(
    grad: Floats, x: Floats, weight: Floats, found: Floats, out: Floats, for_scaling: Floats
) -> None:
    """out (C, M) = the gradient of `normalise`'s x; for_scaling (2, C) of its weight and bias."""
    rows, size = x.shape
    values, g, y = x.reshape(-1), grad.reshape(-1), out.reshape(-1)
    zero = zeros(LANES)
    for c in range(rows):
        mean, inverse = found[0, c], found[1, c]
        along = summed = 0.0
        for start in range(0, size, BLOCK):
            products = block = zero
            for t in range(start, min(start + BLOCK, size), LANES):
                at = offset(c * size + t)
                v = load(zero, g, at)
                products = products + v * (load(zero, values, at) - mean)
                block = block + v
            along += np.float64(total(products))
            summed += np.float64(total(block))
        for_scaling[0, c], for_scaling[1, c] = along * inverse, summed
        scale = weight[c] * inverse
        slope = np.float32(along / size * inverse * inverse)
        level = np.float32(summed / size)
        for t in range(0, size, LANES):
            at = offset(c * size + t)
            d = load(zero, values, at) - mean
            store(y, at, (load(zero, g, at) - level - d * slope) * scale)
