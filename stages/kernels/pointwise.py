"""Biases, activations, errors and their gradients: a pass over memory each, its sums beside.

Sums run in single precision over blocks, then in double.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.kernels.jit import compiled, inlined
from stages.kernels.vectors import (
    ROUNDER,
    load,
    offset,
    power_of_two,
    store,
    total,
    where_greater,
    zeros,
)

Floats = NDArray[np.float32]
f32 = np.float32

# Every size is a multiple of this.
LANES = 16
BLOCK = 1024
LINEAR, SELU, RELU, SIGMOID = range(4)
ACTIVATIONS = {"selu": SELU, "relu": RELU, "sigmoid": SIGMOID}

SELU_SCALE = f32(1.0507009873554804934193349852946)
SELU_SHIFT = f32(1.0507009873554804934193349852946 * 1.6732632423543772848170429916717)
PER_LOG2 = f32(1 / np.log(2))
# ln 2 in two parts, the first of few digits, so that a whole number times it is exact.
LOG2_HIGH = f32(0.693359375)
LOG2_LOW = f32(np.log(2) - 0.693359375)
ROUND = f32(ROUNDER)


@inlined
def expm1(x: Any) -> Any:
    """exp(x) - 1 for x <= 0, to about 1e-7: with x = n ln 2 + r, by a polynomial of r and 2**n."""
    x = where_greater(f32(-80), x, f32(-80), x)
    whole = x * PER_LOG2 + ROUND
    n = whole - ROUND
    r = x - n * LOG2_HIGH
    r = r - n * LOG2_LOW
    # The Taylor series, whose rest is below 2e-8 of r for |r| <= ln(2) / 2.
    e = r * f32(1 / 5040) + f32(1 / 720)
    e = e * r + f32(1 / 120)
    e = e * r + f32(1 / 24)
    e = e * r + f32(1 / 6)
    e = e * r + f32(0.5)
    e = e * r * r + r
    power = power_of_two(whole)
    return e * power + (power - f32(1))


@inlined
def activate(v: Any, activation: int) -> Any:
    """The activation of a vector; what is no number stays none."""
    if activation == SELU:
        e = SELU_SHIFT * expm1(where_greater(v, f32(0), f32(0), v))
        v = where_greater(v, f32(0), SELU_SCALE * v, e)
    elif activation == RELU:
        v = where_greater(f32(0), v, f32(0), v)
    elif activation == SIGMOID:
        e = expm1(where_greater(v, f32(0), f32(0) - v, v)) + f32(1)
        v = where_greater(v, f32(0), f32(1), e) / (f32(1) + e)
    return v


@inlined
def backwards(g: Any, y: Any, activation: int) -> Any:
    """g times the slope of the activation where its output is y."""
    if activation == SELU:
        g = g * where_greater(y, f32(0), SELU_SCALE, y + SELU_SHIFT)
    elif activation == RELU:
        g = where_greater(y, f32(0), g, f32(0))
    elif activation == SIGMOID:
        g = g * (y * (f32(1) - y))
    return g


@compiled
def activation_gradient(
    grad: Floats, y: Floats, activation: int, out: Floats, bias: Floats
) -> None:
    """out (C, M) = grad times the activation's slope where its output is y; bias (C) = its sums."""
    rows, size = y.shape
    g, values, o = grad.reshape(-1), y.reshape(-1), out.reshape(-1)
    zero = zeros(LANES)
    for c in range(rows):
        summed = 0.0
        for start in range(0, size, BLOCK):
            block = zero
            for t in range(start, min(start + BLOCK, size), LANES):
                at = offset(c * size + t)
                v = backwards(load(zero, g, at), load(zero, values, at), activation)
                store(o, at, v)
                block = block + v
            summed += np.float64(total(block))
        bias[c] = summed


@compiled
def recreation_error(
    x: Floats, target: Floats, bias: Floats, activation: int, for_bias: Floats
) -> float:
    """The mean squared error between target (C, M) and the activation of x (C, M) plus bias (C).

    x becomes the error's gradient with respect to it, for_bias (C) that with respect to bias.
    """
    rows, size = x.shape
    values, aims = x.reshape(-1), target.reshape(-1)
    scale = f32(2 / x.size)
    zero = zeros(LANES)
    error = 0.0
    for c in range(rows):
        shift, summed = bias[c], 0.0
        for start in range(0, size, BLOCK):
            squares = block = zero
            for t in range(start, min(start + BLOCK, size), LANES):
                at = offset(c * size + t)
                y = activate(load(zero, values, at) + shift, activation)
                d = y - load(zero, aims, at)
                g = backwards(d * scale, y, activation)
                store(values, at, g)
                squares = squares + d * d
                block = block + g
            error += np.float64(total(squares))
            summed += np.float64(total(block))
        for_bias[c] = summed
    return error / x.size


@compiled
def squared_error(output: Floats, target: Floats, grad: Floats) -> float:
    """Mean squared error of two flat arrays; grad = its gradient with respect to `output`."""
    scale = f32(2 / output.size)
    zero = zeros(LANES)
    error = 0.0
    for start in range(0, output.size, BLOCK):
        squares = zero
        for t in range(start, min(start + BLOCK, output.size), LANES):
            at = offset(t)
            d = load(zero, output, at) - load(zero, target, at)
            store(grad, at, d * scale)
            squares = squares + d * d
        error += np.float64(total(squares))
    return error / output.size
