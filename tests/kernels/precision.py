"""How far from the truth a result in single precision may be, on whatever processor.

The truth is the plain formulation in double precision. The plain formulation in single precision
misses it, too, by what the processor's own rounding makes: a result may miss it by a small multiple
of that. Kinks of SELU and ReLU have to be out of reach of rounding, so tests keep away from them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages.kernels import convolutions, operations

MULTIPLE = 10


def assert_as_exact(
    found: Sequence[Tensor], single: Sequence[Tensor], double: Sequence[Tensor]
) -> None:
    """Each of `found` misses its counterpart of `double` by at most a small multiple of what that
    of `single` does, and what `single` usually does, relative to the length.

    The former alone would be chance for few values, the latter alone zero for a gradient of zero.
    """
    rounding = torch.finfo(torch.float32).eps
    lengths = [x.norm().item() for x in double]
    misses = list(map(miss, single, double))
    usual = max(rounding, median(a / b for a, b in zip(misses, lengths, strict=True) if b))
    for number, (tensor, truth) in enumerate(zip(found, double, strict=True)):
        allowed = MULTIPLE * (misses[number] + usual * lengths[number])
        missed = miss(tensor, truth)
        assert missed <= allowed, f"tensor {number} is missed by {missed}, allowed are {allowed}"


def miss(found: Tensor, truth: Tensor) -> float:
    """The length of the difference."""
    assert found.shape == truth.shape
    return (found.double() - truth).norm().item()


@contextmanager
def plain_formulation() -> Iterator[None]:
    """Within, the compiled kernels are off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(operations.SWITCH, "0")
        yield


def keep_from_kinks(model: nn.Module) -> None:
    """Give a model weights and biases that keep activations from zero, about half of them below."""
    with torch.no_grad():
        for level in (*model.encoder, *model.decoder):
            level.weight *= 0.3
            level.bias[::2], level.bias[1::2] = 4, -4
        model.decoder[0].bias.copy_(torch.tensor([0.5, -0.3, 0.1]))


@contextmanager
def far_from_kinks() -> Iterator[None]:
    """Within, the plain formulation may not apply SELU or ReLU to anything near zero."""

    def checked(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def apply(x: Tensor) -> Tensor:
            assert x.abs().min() > 0.1
            return activation(x)

        return apply

    with pytest.MonkeyPatch.context() as patch:
        for name in ("selu", "relu"):
            patch.setitem(operations.PLAIN, name, checked(operations.PLAIN[name]))
        yield


def _wrong_tap(weight: Any) -> None:
    weight[0, 0, 0, :2] = weight[0, 0, 0, 1::-1].copy()


def _missing_border(image: Any) -> None:
    image[:, :, -1] = 0


def _swapped(bias: Any) -> None:
    bias[:] = bias[::-1].copy()


# A kernel, which of its arrays is spoilt, 0 to 2 for inputs or -1 for its result, and how.
FAULTS: dict[str, tuple[str, int, Callable[[Any], None]]] = {
    "convolution: wrong tap": ("convolution", 1, _wrong_tap),
    "convolution: missing border": ("convolution", 0, _missing_border),
    "convolution: swapped bias": ("convolution", 2, _swapped),
    "input gradient: wrong tap": ("input_gradient", 1, _wrong_tap),
    "input gradient: missing border": ("input_gradient", 0, _missing_border),
    "input gradient: swapped bias": ("input_gradient", 2, _swapped),
    "weight gradient: wrong tap": ("weight_gradient", -1, _wrong_tap),
    "weight gradient: missing border": ("weight_gradient", 0, _missing_border),
    "outer weight gradient: wrong tap": ("outer_weight_gradient", -1, _wrong_tap),
    "bordered weight gradient: wrong tap": ("bordered_weight_gradient", -1, _wrong_tap),
}


@contextmanager
def planted(fault: str) -> Iterator[None]:
    """Within, the kernel of the fault's name has it."""
    name, place, spoil = FAULTS[fault]
    make = getattr(convolutions, name)

    def spoilt(*tile: int) -> Callable[..., None]:
        def call(*given: Any) -> None:
            arrays = [x.copy() if number == place else x for number, x in enumerate(given)]
            if place >= 0:
                spoil(arrays[place])
            make(*tile)(*arrays)
            if place < 0:
                spoil(given[place])

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolutions, name, spoilt)
        yield
