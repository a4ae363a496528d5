"""No kernel's result depends on where its arrays lie in memory: the same numbers, whatever else a
process holds.

A compiler guards loops that store and sum by checks of distance, and where arrays are neighbours
takes another loop, which adds in another order.
"""

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from stages.kernels import convolutions, norms, pixels, pointwise, resizing
from stages.kernels.pointwise import SELU

ROW = (3, 1088)  # more than a block of sums
IMAGE, GRID, FULL, WEIGHT = (3, 8, 8, 16), (6, 4, 4, 16), (6, 8, 8, 16), (6, 3, 3, 3)


def normalise(x: Any, weight: Any, bias: Any, out: Any, found: Any) -> None:
    norms.normalise(x, (weight, bias), 1e-3, out, found)


# By its name: a kernel and what it takes, of an array its shape.
KERNELS: dict[str, tuple[Any, ...]] = {
    "squared_error": (pointwise.squared_error, (3264,), (3264,), (3264,)),
    "recreation_error": (pointwise.recreation_error, ROW, ROW, (3,), pointwise.SIGMOID, (3,)),
    **{
        f"activation_gradient: {name}": (pointwise.activation_gradient, ROW, ROW, number, ROW, (3,))
        for name, number in pointwise.ACTIVATIONS.items()
    },
    "normalise": (normalise, ROW, (3,), (3,), ROW, (2, 3)),
    "normalise_gradient": (norms.normalise_gradient, ROW, ROW, (3,), (2, 3), ROW, (2, 3)),
    "convolution": (convolutions.convolution(16, 3, 2), IMAGE, WEIGHT, (6,), SELU, GRID),
    "convolution: stride 1": (convolutions.convolution(16, 3, 1), IMAGE, WEIGHT, (6,), SELU, FULL),
    "bordered_weight_gradient": (
        convolutions.bordered_weight_gradient(8, 3, 3),
        *((3, 10, 10, 16), FULL, WEIGHT),
    ),
    "input_gradient": (convolutions.input_gradient(16, 3, 3), GRID, WEIGHT, (3,), SELU, IMAGE),
    "weight_gradient": (convolutions.weight_gradient(8, 3, 3), IMAGE, GRID, WEIGHT),
    "outer_weight_gradient": (
        convolutions.outer_weight_gradient(16, 6, 2),
        *((4, 4, 16, 16), (6, 2, 2, 16), (6, 16, 3, 3)),
    ),
    "upsample": (resizing.upsample, GRID, 0.75, FULL),
    "upsample_gradient": (resizing.upsample_gradient, FULL, 0.75, GRID),
    "max_pool": (resizing.max_pool, FULL, SELU, GRID),
    "max_pool_gradient": (resizing.max_pool_gradient, GRID, FULL, FULL),
    "channels_last": (convolutions.channels_last, (32, 4, 4, 16), (4, 4, 16, 32)),
}
ORDERS = 8


def placed(shapes: list[tuple[int, ...]]) -> Iterator[list[np.ndarray[Any, Any]]]:
    """Arrays of these shapes in one buffer, in several orders and with gaps of 0 to 32 floats."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    orders = list(permutations(range(len(shapes))))
    for order in orders[:: max(1, len(orders) // ORDERS)]:
        for gap in range(33):
            buffer = np.zeros(sum(sizes) + gap * len(sizes), np.float32)
            arrays, at = {}, 0
            for number in order:
                arrays[number] = buffer[at : at + sizes[number]].reshape(shapes[number])
                at += sizes[number] + gap
            yield [arrays[number] for number in range(len(shapes))]


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_has_one_result(name: str) -> None:
    kernel, *arguments = KERNELS[name]
    shapes = [each for each in arguments if isinstance(each, tuple)]
    values = np.random.default_rng(0)
    filled = [values.random(shape, dtype=np.float32) + np.float32(0.1) for shape in shapes]
    found = set()
    for arrays in placed(shapes):
        for array, value in zip(arrays, filled, strict=True):
            array[:] = value
        rest = iter(arrays)
        returned = kernel(*(next(rest) if isinstance(x, tuple) else x for x in arguments))
        found.add((returned, *(array.tobytes() for array in arrays)))
    assert len(found) == 1


def test_every_compiled_kernel_is_among_them() -> None:
    rooms = (pointwise, norms, convolutions, pixels, resizing)
    kernels = {
        name
        for room in rooms
        for name, value in vars(room).items()
        if (hasattr(value, "py_func") and not value.targetoptions.get("forceinline"))
        or (hasattr(value, "cache_info") and value.__module__ == room.__name__)
    }
    # gather_pixels has no sums: a value is one of a face's.
    assert kernels == {name.partition(":")[0] for name in KERNELS} | {"gather_pixels"}
