"""The operations a model is made of: both strided convolutions, the norm and the squared error.

Each is written twice. The plain formulation, in PyTorch's own operations, serves GPUs, double
precision and odd batch sizes, and defines what is meant. On a CPU, in single precision and with a
batch that is a multiple of 16, the same mathematics runs as compiled kernels, and tests hold the
two together. Tensors are (N, C, H, W); the fast path lays them out in memory with the batch last.
"""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stages.kernels import compiled

Activation = Literal["selu", "relu", "sigmoid"]

PLAIN = {"selu": functional.selu, "relu": functional.relu, "sigmoid": torch.sigmoid}
FAST = {
    "selu": (compiled.bias_selu, compiled.selu_gradient),
    "relu": (compiled.bias_relu, compiled.relu_gradient),
    "sigmoid": (compiled.bias_sigmoid, compiled.sigmoid_gradient),
}
# Output widths from which the direct weight gradient beats a matrix product.
DIRECT_WIDTH = 16


def convolution(x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> Tensor:
    """Activation of a stride-2 convolution with Keras' "same" padding.

    x (N,C,H,W) with even H and W, weight (O,C,k,k) with k 3 or 5, bias (O,) -> (N,O,H/2,W/2).
    "same" pads one row and column less before than after: (0,1) for k = 3, (1,2) for k = 5.
    """
    if _fast(x):
        return _Convolution.apply(x, weight, bias, activation)
    before, after = _padding(weight)
    padded = functional.pad(x, (before, after, before, after))
    return PLAIN[activation](functional.conv2d(padded, weight, bias, stride=2))


def transposed_convolution(
    x: Tensor, weight: Tensor, bias: Tensor, activation: Activation
) -> Tensor:
    """Activation of a stride-2 transposed convolution with Keras' "same" padding.

    x (N,O,h,w), weight (O,C,k,k) with k 3 or 5, bias (C,) -> (N,C,2h,2w). The full output is
    cropped as `convolution` pads, so one is the other's gradient.
    """
    if _fast(x):
        return _TransposedConvolution.apply(x, weight, bias, activation)
    before, after = _padding(weight)
    full = functional.conv_transpose2d(x, weight, bias, stride=2)
    return PLAIN[activation](full[:, :, before:-after, before:-after])


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over all elements, a scalar; no gradient reaches `target`."""
    if _fast(output):
        return _SquaredError.apply(output, target)
    return functional.mse_loss(output, target.detach())


def batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """x (N,C,H,W) normalised over N, H and W, times weight (C,) plus bias (C,).

    Then each channel's mean and biased variance (C,), without a gradient.
    """
    if _fast(x):
        out, mean, inverse = _BatchNorm.apply(x, weight, bias, epsilon)
    else:
        out, mean, inverse = torch.native_batch_norm(
            x, weight, bias, None, None, True, 0.0, epsilon
        )
    return out, mean.detach(), inverse.detach().pow(-2) - epsilon


def kernels_on() -> bool:
    return True


def _fast(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and len(x) % compiled.LANES == 0


def _padding(weight: Tensor) -> tuple[int, int]:
    total = weight.shape[2] - 2
    return total // 2, total - total // 2


def _batch_last(x: Tensor) -> Tensor:
    return x.detach().permute(1, 2, 3, 0).contiguous()


def _batch_first(x: Tensor) -> Tensor:
    return x.permute(3, 0, 1, 2)


def _flat(x: Tensor) -> np.ndarray:
    return x.view(len(x), -1).numpy()


def _convolve(image: Tensor, weight: Tensor) -> Tensor:
    """Output (O,h,w,N) for image (C,2h,2w,N)."""
    _, height, width, count = image.shape
    out = image.new_empty(len(weight), height // 2, width // 2, count)
    compiled.convolve(image.numpy(), weight.detach().numpy(), out.numpy())
    return out


def _input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the image (C,2h,2w,N), for grad (O,h,w,N) of the convolution's output."""
    _, height, width, count = grad.shape
    out = grad.new_empty(weight.shape[1], 2 * height, 2 * width, count)
    compiled.input_gradient(grad.numpy(), weight.detach().numpy(), out.numpy())
    return out


def _weight_gradient(image: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the weight (O,C,k,k), for grad (O,h,w,N) of the convolution's output."""
    filters, height, width, count = grad.shape
    if width >= DIRECT_WIDTH:
        out = torch.empty_like(weight)
        compiled.weight_gradient(image.numpy(), grad.numpy(), out.numpy())
        return out
    patches = image.new_empty(weight[0].numel(), height * width * count)
    compiled.to_patches(image.numpy(), weight.shape[2], patches.numpy())
    return (grad.view(filters, -1) @ patches.T).view_as(weight)


def _activate(out: Tensor, bias: Tensor, activation: Activation) -> None:
    FAST[activation][0](_flat(out), bias.detach().numpy())


def _activation_gradient(
    grad: Tensor, out: Tensor, activation: Activation
) -> tuple[Tensor, Tensor]:
    """Gradients before the activation, (C,H,W,N), and of the bias, (C,)."""
    before, bias = torch.empty_like(out), out.new_empty(len(out))
    FAST[activation][1](_flat(_batch_last(grad)), _flat(out), _flat(before), bias.numpy())
    return before, bias


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation
    ) -> Tensor:
        image = _batch_last(x)
        out = _convolve(image, weight)
        _activate(out, bias, activation)
        ctx.save_for_backward(image, weight, out)
        ctx.activation = activation
        return _batch_first(out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        image, weight, out = ctx.saved_tensors
        grad, bias = _activation_gradient(grad, out, ctx.activation)
        needed = ctx.needs_input_grad[0]
        for_input = _batch_first(_input_gradient(grad, weight)) if needed else None
        return for_input, _weight_gradient(image, grad, weight), bias, None


class _TransposedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation
    ) -> Tensor:
        grid = _batch_last(x)
        out = _input_gradient(grid, weight)
        _activate(out, bias, activation)
        ctx.save_for_backward(grid, weight, out)
        ctx.activation = activation
        return _batch_first(out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        grid, weight, out = ctx.saved_tensors
        grad, bias = _activation_gradient(grad, out, ctx.activation)
        for_input = _batch_first(_convolve(grad, weight))
        return for_input, _weight_gradient(grad, grid, weight), bias, None


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = _batch_last(x), weight.detach()
        out, mean, inverse = torch.empty_like(x), x.new_empty(len(x)), x.new_empty(len(x))
        vectors = [t.numpy() for t in (weight, bias.detach())]
        compiled.normalise(_flat(x), *vectors, epsilon, _flat(out), mean.numpy(), inverse.numpy())
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.mark_non_differentiable(mean, inverse)
        return _batch_first(out), mean, inverse

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, *vectors = ctx.saved_tensors
        for_x, for_weight, for_bias = torch.empty_like(x), *torch.empty(2, len(x))
        compiled.normalise_gradient(
            _flat(_batch_last(grad)),
            _flat(x),
            *(t.numpy() for t in vectors),
            _flat(for_x),
            for_weight.numpy(),
            for_bias.numpy(),
        )
        return _batch_first(for_x), for_weight, for_bias, None


class _SquaredError(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, target: Tensor) -> Tensor:
        output, target = _batch_last(output), _batch_last(target)
        grad = torch.empty_like(output)
        error = compiled.squared_error(*(t.view(-1).numpy() for t in (output, target, grad)))
        ctx.save_for_backward(grad)
        return torch.tensor(error, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return _batch_first(slope if grad.item() == 1 else slope * grad), None
