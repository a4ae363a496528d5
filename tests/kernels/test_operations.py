"""The fast CPU operations against the plain formulation in double precision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stages.kernels import compiled, operations
from stages.model.losses import losses
from stages.model.network import Autoencoder
from tests.conftest import model_settings

# (deep, shallow, kernel, input height of the convolution): every level of the network, and the
# last decoder level with the kernel of the published models with norms.
LEVELS = [
    (6, 3, 5, 128),
    (6, 3, 3, 128),
    (12, 6, 3, 64),
    (24, 12, 3, 32),
    (48, 24, 3, 16),
    (96, 48, 3, 8),
    (192, 96, 3, 4),
    (384, 192, 3, 2),
]

BATCH = 2 * compiled.LANES


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Within 1e-5 of the largest value expected."""
    scale = expected.abs().max().item()
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * scale)


def batch_last(x: Tensor) -> bool:
    """Whether x lies in memory as the compiled kernels, and nothing else, leave it."""
    return x.permute(1, 2, 3, 0).is_contiguous() and not x.is_contiguous()


def check(
    operation: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor, activation: str
) -> None:
    singles = [t.clone().requires_grad_() for t in (x, weight, bias)]
    doubles = [t.double().requires_grad_() for t in (x, weight, bias)]
    out, expected = operation(*singles, activation), operation(*doubles, activation)
    assert batch_last(out) and not batch_last(expected)
    assert_close(out, expected)
    slope = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(out, singles, slope)
    wanted = torch.autograd.grad(expected, doubles, slope.double())
    for a, b in zip(found, wanted, strict=True):
        assert_close(a, b)


@pytest.mark.parametrize(("deep", "shallow", "kernel", "height"), LEVELS)
@pytest.mark.parametrize("activation", ["selu", "relu", "sigmoid"])
def test_both_convolutions_equal_the_plain_formulation(
    deep: int, shallow: int, kernel: int, height: int, activation: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(deep, shallow, kernel, kernel, generator=generator) / kernel
    image = torch.randn(BATCH, shallow, height, height, generator=generator)
    grid = torch.randn(BATCH, deep, height // 2, height // 2, generator=generator)
    # Fixed draws: SELU's slope jumps at zero, where single and double precision may disagree.
    biases = torch.randn(deep, generator=generator), torch.randn(shallow, generator=generator)
    check(operations.convolution, image, weight, biases[0], activation)
    check(operations.transposed_convolution, grid, weight, biases[1], activation)


def test_selu_and_sigmoid_are_exact_over_their_whole_range() -> None:
    values = torch.linspace(-60, 60, BATCH * 6 * 16 * 16).view(BATCH, 6, 16, 16)
    weight = torch.zeros(6, 3, 3, 3)
    weight[range(3), range(3), 0, 0] = 1  # passes its input on
    for activation in ("selu", "sigmoid"):
        out = operations.convolution(values[:, :3], weight, torch.zeros(6), activation)
        plain = operations.PLAIN[activation](values[:, :3, ::2, ::2].double())
        torch.testing.assert_close(out[:, :3].double(), plain, rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("activation", ["selu", "relu", "sigmoid"])
def test_what_is_no_number_stays_none(activation: str) -> None:
    """Else a training that diverged would look like one that did not."""
    weight = torch.full((6, 3, 3, 3), float("nan"))
    out = operations.convolution(torch.rand(BATCH, 3, 8, 8), weight, torch.zeros(6), activation)
    assert batch_last(out) and out.isnan().all()
    assert operations.squared_error(out, torch.zeros_like(out)).isnan()


def test_squared_error_is_the_mean_over_elements_and_its_gradient() -> None:
    output, target = torch.rand(2, BATCH, 3, 8, 8)
    output.requires_grad_()
    error = operations.squared_error(output, target)
    expected = (output.detach().double() - target.double()).square().mean()
    assert error.item() == pytest.approx(expected.item(), rel=1e-6)
    (3 * error).backward()
    assert_close(output.grad, 6 * (output.detach() - target).double() / output.numel())


@pytest.mark.parametrize("height", [1, 8, 64])
def test_batch_norm_equals_the_plain_formulation(height: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = 3 + torch.randn(BATCH, 6, height, height, generator=generator)
    weight, bias = torch.rand(2, 6, generator=generator)
    singles = [t.clone().requires_grad_() for t in (x, weight, bias)]
    doubles = [t.double().requires_grad_() for t in (x, weight, bias)]
    found = operations.batch_norm(*singles, epsilon=1e-3)
    expected = operations.batch_norm(*doubles, epsilon=1e-3)
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b)
    torch.testing.assert_close(expected[2], x.double().var((0, 2, 3), unbiased=False))
    slope = torch.randn(x.shape, generator=generator)
    gradients = torch.autograd.grad(found[0], singles, slope)
    wanted = torch.autograd.grad(expected[0], doubles, slope.double())
    for a, b in zip(gradients, wanted, strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("training", ["stacked", "recursive"])
@pytest.mark.parametrize("norm", ["none", "batch", "shared"])
@pytest.mark.parametrize("wiring", ["described", "published"])
def test_a_whole_training_step_equals_the_plain_formulation(
    training: str, norm: str, wiring: str
) -> None:
    # These seeds put no activation within rounding of SELU's kink, as above.
    torch.manual_seed(4)
    images = torch.rand(compiled.LANES, 3, 128, 128)
    settings = model_settings(training=training, norm=norm, wiring=wiring)
    fast, plain = Autoencoder(settings), Autoencoder(settings).double()
    plain.load_state_dict({name: value.double() for name, value in fast.state_dict().items()})
    found, expected = losses(fast, images), losses(plain, images.double())
    sum(found.values()).backward()
    sum(expected.values()).backward()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-5)
    pairs = list(zip(fast.parameters(), plain.parameters(), strict=True))
    assert all((a.grad is None) == (b.grad is None) for a, b in pairs)
    grads = [(a.grad.double(), b.grad) for a, b in pairs if b.grad is not None]
    error = sum((a - b).square().sum() for a, b in grads).sqrt()
    assert error < 1e-5 * sum(b.square().sum() for _, b in grads).sqrt()
    for a, b in zip(fast.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-7)
