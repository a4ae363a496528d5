"""The three operations a model is made of: both strided convolutions and the squared error.

Each is written twice. The plain formulation, in PyTorch's own operations, serves GPUs and double
precision and defines what is meant. On a CPU in single precision the same mathematics runs as
compiled kernels and matrix products, and tests hold the two together. Tensors are (N, C, H, W);
the fast path lays them out in memory with the channel first, then the batch.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from stages.core import kernels

Activation = Literal["selu", "relu", "sigmoid"]

PLAIN = {"selu": functional.selu, "relu": functional.relu, "sigmoid": torch.sigmoid}
FAST = {
    "selu": (kernels.bias_selu, kernels.selu_gradient),
    "relu": (kernels.bias_relu, kernels.relu_gradient),
    "sigmoid": (kernels.bias_sigmoid, kernels.sigmoid_gradient),
}
# Output widths from which the direct kernels beat a matrix product.
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


def _fast(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32


def _padding(weight: Tensor) -> tuple[int, int]:
    total = weight.shape[2] - 2
    return total // 2, total - total // 2


def _channel_first(x: Tensor) -> Tensor:
    return x.detach().transpose(0, 1).contiguous()


def _patches(image: Tensor, k: int) -> Tensor:
    channels, count, height, width = image.shape
    patches = image.new_empty(channels, k, k, count, height // 2, width // 2)
    kernels.to_patches(image.numpy(), k, patches.numpy())
    return patches.view(channels * k * k, -1)


def _convolve(image: Tensor, weight: Tensor) -> tuple[Tensor, Tensor | None]:
    """Output (O,N,h,w), and the patches where a matrix product made it."""
    _, count, height, width = image.shape
    out = image.new_empty(weight.shape[0], count, height // 2, width // 2)
    if width // 2 >= DIRECT_WIDTH:
        kernels.convolve(image.numpy(), weight.numpy(), out.numpy())
        return out, None
    patches = _patches(image, weight.shape[2])
    torch.mm(weight.view(len(weight), -1), patches, out=out.view(len(weight), -1))
    return out, patches


def _weight_gradient(image: Tensor, patches: Tensor | None, grad: Tensor, like: Tensor) -> Tensor:
    """Gradient of the weight (O,C,k,k), for grad (O,N,h,w) of the convolution's output."""
    if patches is not None:
        return (grad.view(len(grad), -1) @ patches.T).view_as(like)
    out = torch.empty_like(like)
    kernels.weight_gradient(image.numpy(), grad.numpy(), out.numpy())
    return out


def _input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the image (C,N,2h,2w), for grad (O,N,h,w) of the convolution's output."""
    filters, count, height, width = grad.shape
    out = grad.new_empty(weight.shape[1], count, 2 * height, 2 * width)
    if width >= DIRECT_WIDTH:
        kernels.input_gradient(grad.numpy(), weight.numpy(), out.numpy())
        return out
    patches = weight.view(filters, -1).T @ grad.view(filters, -1)
    patches = patches.view(*weight.shape[1:], count, height, width)
    kernels.from_patches(patches.numpy(), out.numpy())
    return out


def _activate(out: Tensor, bias: Tensor, activation: Activation) -> None:
    FAST[activation][0](out.view(len(out), -1).numpy(), bias.detach().numpy())


def _activation_gradient(
    grad: Tensor, out: Tensor, activation: Activation
) -> tuple[Tensor, Tensor]:
    """Gradients before the activation, (C,N,H,W), and of the bias, (C,)."""
    grad = _channel_first(grad)
    before, bias = torch.empty_like(out), out.new_empty(len(out))
    flat = [t.view(len(out), -1).numpy() for t in (grad, out, before)]
    FAST[activation][1](*flat, bias.numpy())
    return before, bias


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation
    ) -> Tensor:
        image = _channel_first(x)
        out, patches = _convolve(image, weight.detach())
        _activate(out, bias, activation)
        ctx.save_for_backward(image, patches, weight, out)
        ctx.activation = activation
        return out.transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        image, patches, weight, out = ctx.saved_tensors
        weight = weight.detach()
        grad, bias = _activation_gradient(grad, out, ctx.activation)
        for_input = (
            _input_gradient(grad, weight).transpose(0, 1) if ctx.needs_input_grad[0] else None
        )
        return for_input, _weight_gradient(image, patches, grad, weight), bias, None


class _TransposedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation
    ) -> Tensor:
        grid = _channel_first(x)
        out = _input_gradient(grid, weight.detach())
        _activate(out, bias, activation)
        ctx.save_for_backward(grid, weight, out)
        ctx.activation = activation
        return out.transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        grid, weight, out = ctx.saved_tensors
        weight = weight.detach()
        grad, bias = _activation_gradient(grad, out, ctx.activation)
        for_input, patches = _convolve(grad, weight)
        return for_input.transpose(0, 1), _weight_gradient(grad, patches, grid, weight), bias, None


class _SquaredError(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, target: Tensor) -> Tensor:
        output, target = _channel_first(output), _channel_first(target)
        grad = torch.empty_like(output)
        error = kernels.squared_error(*(t.view(-1).numpy() for t in (output, target, grad)))
        ctx.save_for_backward(grad)
        return torch.tensor(error, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return (slope if grad.item() == 1 else slope * grad).transpose(0, 1), None
