"""The compiled kernels against the plain formulation in double precision."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.kernels import operations, resizing
from stages.kernels.pointwise import RELU
from stages.kernels.tiles import TILES
from stages.model.losses import losses
from tests.conftest import made_model
from tests.kernels.precision import (
    FAULTS,
    assert_as_exact,
    far_from_kinks,
    keep_from_kinks,
    plain_formulation,
    planted,
)

# (deep, shallow, kernel, input height of the convolution): every level of the network, and the
# last decoder level with the kernel of the released models with norms.
DEEPER = [(6 * 2**k, 3 * 2**k, 3, 128 // 2**k) for k in range(1, 7)]
LEVELS = [(6, 3, 5, 128), (6, 3, 3, 128), *DEEPER]
# Others that the kernels take: single columns, kernel 5 with little room, widths of no power of 2.
OTHERS = [(3, 3, 5, 2), (3, 6, 5, 4), (6, 9, 5, 12), (9, 3, 3, 6), (12, 48, 5, 4)]
Compared = tuple[list[Tensor], list[Tensor], list[Tensor]]


def batch_last(x: Tensor) -> bool:
    """Whether x lies in memory as the compiled kernels, and nothing else, leave it."""
    return x.permute(1, 2, 3, 0).is_contiguous() and not x.is_contiguous()


def assert_compiled(
    found: list[Tensor], single: list[Tensor], double: list[Tensor], number: int = 0
) -> None:
    """The kernels, which the tensor of this number tells by its memory, are as exact."""
    assert batch_last(found[number]) and not batch_last(single[number])
    assert_as_exact(found, single, double)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def compared(
    operation: Callable[..., Any], *inputs: Tensor, slope: Tensor | None = None
) -> Compared:
    """Outputs and gradients: by the kernels, by the plain formulation in single and in double."""

    def run(inputs: list[Tensor]) -> list[Tensor]:
        inputs = [x.clone().requires_grad_() for x in inputs]
        out, *rest = found if isinstance(found := operation(*inputs), tuple) else (found,)
        along = torch.ones_like(out) if slope is None else slope.to(out.dtype)
        return [out.detach(), *rest, *torch.autograd.grad(out, inputs, along)]

    found = run(list(inputs))
    with plain_formulation():
        return found, run(list(inputs)), run([x.double() for x in inputs])


def without_kinks(
    operation: Callable[..., Tensor], activation: str, *inputs: Tensor, clear: Tensor | bool = True
) -> Compared:
    """Compared with a slope of zero where the activation's kink, or what is not clear, is within
    rounding."""
    out = operation(*(x.double() for x in inputs), "selu")
    slope = draw(*out.shape, seed=1) * ((out.abs() > 1e-3) & clear)
    return compared(lambda *xs: operation(*xs, activation), *inputs, slope=slope)


def convolutions_compared(
    deep: int, shallow: int, kernel: int, height: int, activation: str, batch: int = 32
) -> list[Compared]:
    """Both convolutions."""
    weight = draw(deep, shallow, kernel, kernel) / kernel
    x, h = draw(batch, shallow, height, height), draw(batch, deep, height // 2, height // 2)
    bias, back_bias = draw(deep, seed=2), draw(shallow, seed=2)
    return [
        without_kinks(operations.convolution, activation, x, weight, bias),
        without_kinks(operations.transposed_convolution, activation, h, weight, back_bias),
    ]


@pytest.mark.parametrize("level", [*LEVELS, *OTHERS], ids=str)
@pytest.mark.parametrize("activation", ["selu", "relu", "sigmoid"])
def test_both_convolutions_equal_the_plain_formulation(
    level: tuple[int, int, int, int], activation: str
) -> None:
    for each in convolutions_compared(*level, activation):
        assert_compiled(*each)


def stride_1_compared(
    deep: int, shallow: int, kernel: int, height: int, activation: str, batch: int = 32
) -> list[Compared]:
    """A convolution to more and one to fewer channels, and a pooled one, whose second largest value
    may be within rounding of the largest."""
    weight, bias = draw(deep, shallow, kernel, kernel) / kernel, draw(deep, seed=2)
    x = draw(batch, shallow, height, height + 2)
    wide, back_bias = draw(batch, deep, height, height + 2, seed=3), draw(shallow, seed=2)
    convolution, pooled = partial(operations.convolution, stride=1), operations.pooled_convolution
    full = convolution(x.double(), weight.double(), bias.double(), "selu")
    blocks = full.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).movedim(3, 4).flatten(4)
    first, second = blocks.topk(2, 4).values.unbind(4)
    return [
        without_kinks(convolution, activation, x, weight, bias),
        without_kinks(convolution, activation, wide, weight.transpose(0, 1), back_bias),
        without_kinks(pooled, activation, x, weight, bias, clear=first - second > 1e-3),
    ]


@pytest.mark.parametrize("level", [*DEEPER, *OTHERS, (6, 3, 5, 38)], ids=str)
def test_convolutions_of_stride_1_equal_the_plain_formulation(
    level: tuple[int, int, int, int],
) -> None:
    for each in stride_1_compared(*level, "sigmoid" if level[1] == 3 else "selu"):
        assert_compiled(*each)


@pytest.mark.parametrize("compare", [convolutions_compared, stride_1_compared])
@pytest.mark.parametrize("batch", [16, 32])
@pytest.mark.parametrize("level", [(6, 3, 5, 16), (24, 12, 3, 16), (48, 48, 3, 4)], ids=str)
@pytest.mark.parametrize("tile", TILES)
def test_so_do_the_kernels_for_other_processors(
    tile: str,
    level: tuple[int, int, int, int],
    batch: int,
    compare: Callable[..., list[Compared]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operations, "tile", TILES[tile])
    for each in compare(*level, "selu", batch):
        assert_compiled(*each)


@pytest.mark.parametrize("mode", operations.NEAR)
@pytest.mark.parametrize("shape", [(32, 6, 16, 16), (16, 3, 1, 1), (16, 1, 2, 5)], ids=str)
def test_upsampling_equals_the_plain_formulation(mode: str, shape: tuple[int, ...]) -> None:
    x, slope = draw(*shape), draw(*shape[:2], 2 * shape[2], 2 * shape[3], seed=1)
    assert_compiled(*compared(lambda x: operations.upsample(x, mode), x, slope=slope))


def test_of_equal_values_the_first_is_pooled() -> None:
    weight = torch.zeros(3, 3, 3, 3)
    weight[range(3), range(3), 1, 1] = 1  # passes its input on
    for places in ((0, 3), (1, 2), (2, 3), (0, 1, 2, 3)):
        image = torch.zeros(16, 3, 4, 4)
        blocks = image.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
        for place in places:
            blocks[:, :, :, place // 2, :, place % 2] = 1
        expected = torch.zeros_like(image)
        expected[:, :, places[0] // 2 :: 2, places[0] % 2 :: 2] = 1
        image.requires_grad_()
        out = operations.pooled_convolution(image, weight, torch.zeros(3), "relu")
        assert batch_last(out)
        (gradient,) = torch.autograd.grad(out.sum(), image)
        torch.testing.assert_close(gradient, expected, rtol=0, atol=0)


def test_the_largest_of_values_of_which_one_is_no_number_is_none() -> None:
    for place in range(4):
        full, out = torch.rand(3, 2, 2, 16), torch.empty(3, 1, 1, 16)
        full.view(3, 4, 16)[:, place] = float("nan")
        resizing.max_pool(full.numpy(), RELU, out.numpy())
        assert out.isnan().all()


@pytest.mark.parametrize("fault", FAULTS)
def test_that_comparison_finds_a_planted_fault(fault: str) -> None:
    compare = stride_1_compared if "bordered" in fault else convolutions_compared
    level = (192, 96, 3, 4) if "outer" in fault else (12, 6, 3, 32)
    with planted(fault):
        every = compare(*level, "selu")
    with pytest.raises(AssertionError, match="is missed by"):
        for found, single, double in every:
            assert_as_exact(found, single, double)


def test_selu_and_sigmoid_are_exact_over_their_whole_range() -> None:
    values = torch.linspace(-60, 60, 32 * 6 * 16 * 16).view(32, 6, 16, 16)
    weight = torch.zeros(6, 3, 3, 3)
    weight[range(3), range(3), 0, 0] = 1  # passes its input on
    for activation in ("selu", "sigmoid"):
        out = operations.convolution(values[:, :3], weight, torch.zeros(6), activation)
        plain = operations.PLAIN[activation](values[:, :3, ::2, ::2].double())
        torch.testing.assert_close(out[:, :3].double(), plain, rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("activation", ["selu", "relu", "sigmoid"])
def test_what_is_no_number_stays_none(activation: str) -> None:
    """Else a training that diverged would look like one that did not."""
    weight = torch.full((6, 3, 3, 3), float("nan"))
    x, target = torch.rand(32, 3, 8, 8), torch.zeros(32, 6, 4, 4)
    out = operations.convolution(x, weight, torch.zeros(6), activation)
    assert batch_last(out) and out.isnan().all()
    assert operations.squared_error(out, target).isnan()
    h, target = torch.rand(32, 6, 4, 4), torch.zeros(32, 3, 8, 8)
    error = operations.recreation_error(h, weight, torch.zeros(3), activation, target)
    assert error.isnan()


@pytest.mark.parametrize("shape", [(32, 3, 8, 8), (16, 6, 64, 64)])
def test_squared_error_is_the_mean_over_elements_and_its_gradient(shape: tuple[int, ...]) -> None:
    target = draw(*shape, seed=1)

    def error(output: Tensor) -> Tensor:
        return 3 * operations.squared_error(output, target.to(output.dtype))

    assert_as_exact(*compared(error, draw(*shape)))


@pytest.mark.parametrize("level", [(6, 3, 5, 32), (24, 12, 3, 32), (192, 96, 3, 4)], ids=str)
def test_a_level_recreates_its_input_as_its_two_convolutions_do(
    level: tuple[int, int, int, int],
) -> None:
    deep, shallow, kernel, height = level
    x = draw(32, shallow, height, height).clamp(-2, 2)
    weights = [0.1 * draw(deep, shallow, kernel, kernel, seed=n) / deep**0.5 for n in (1, 2)]
    biases = [torch.tensor([2.0, -1.5, 1.0] * (size // 3)) for size in (deep, shallow)]

    def error(*layers: Tensor) -> tuple[Tensor, Tensor]:
        image = x.to(layers[0].dtype)
        pairs = layers[:2], layers[2:]
        h, found = operations.level(image, image, *pairs, ("selu", "sigmoid"))
        assert not h.requires_grad
        return 3 * found, h

    layers = weights[0], biases[0], weights[1], biases[1]
    found, single, double = compared(error, *layers)
    assert_compiled(found, single, double, number=1)
    with torch.no_grad():
        without = error(*layers)
    torch.testing.assert_close(list(without), found[:2])


@pytest.mark.parametrize("height", [1, 8, 64])
def test_batch_norm_equals_the_plain_formulation(height: int) -> None:
    x, slope = 3 + draw(32, 6, height, height), draw(32, 6, height, height, seed=1)
    weight, bias = torch.rand(2, 6, generator=torch.Generator().manual_seed(0))
    found, single, double = compared(
        lambda *inputs: operations.batch_norm(*inputs, epsilon=1e-3), x, weight, bias, slope=slope
    )
    assert batch_last(found[0]) or height == 1
    assert_as_exact(found, single, double)


STEPS: list[dict[str, Any]] = [
    *({"norm": norm, "implementation": "described"} for norm in ("none", "batch", "shared")),
    *({"norm": norm, "implementation": "released"} for norm in ("none", "batch", "shared")),
    # Pooling has ties within rounding in a whole step.
    *({"norm": "batch", "upsample": kind} for kind in operations.NEAR),
]


@pytest.mark.parametrize("training", ["stacked", "recursive", "joint"])
@pytest.mark.parametrize("changes", STEPS, ids=str)
def test_a_whole_training_step_equals_the_plain_formulation(
    training: str, changes: dict[str, Any]
) -> None:
    """Losses, gradients and running statistics of a model that stays away from kinks."""
    first = made_model(training=training, **changes)
    images = torch.rand(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    keep_from_kinks(first)

    def taken(dtype: torch.dtype) -> list[Tensor]:
        model = copy.deepcopy(first).to(dtype)
        with far_from_kinks():
            parts = losses(model, images.to(dtype))
        sum(parts.values()).backward()
        gradients = [x.grad for x in model.parameters() if x.grad is not None]
        buffers = [x for x in model.buffers() if x.count_nonzero()]
        return [*(x.detach() for x in parts.values()), *gradients, *buffers]

    found = taken(torch.float32)
    with plain_formulation():
        assert_as_exact(found, taken(torch.float32), taken(torch.float64))
