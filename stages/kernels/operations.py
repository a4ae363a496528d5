"""The operations a model is made of: its convolutions, what resizes, the norm and the errors.

Each is written twice. The plain formulation, in PyTorch's own operations, serves everything and
defines what is meant. Where `supports` says so, the same mathematics runs as compiled kernels, and
tests hold the two together. Tensors are (N, C, H, W); the kernels lay them out in memory with the
batch last.
"""

import os
from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
import torch
from numba.core import config
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import Parameter, functional

from stages.kernels import convolutions, norms, pointwise, resizing
from stages.kernels.pointwise import ACTIVATIONS, LINEAR
from stages.kernels.tiles import TILES, vector_extension

Activation = Literal["selu", "relu", "sigmoid"]

PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "selu": functional.selu,
    "relu": functional.relu,
    "sigmoid": torch.sigmoid,
}
# Set to 0, this environment variable turns the compiled kernels off.
SWITCH = "RECURSIVE_AUTOENCODER_KERNELS"
# Up to this width of the output, and where there are channels enough, lanes are channels in the
# gradient of the weights: with few values to sum over, sums over lanes would cost more.
OUTER_WIDTH = 4
# How much of an interpolated value is that of the nearest pixel, in each direction.
NEAR = {"nearest": 1.0, "bilinear": 0.75}

tile = TILES[vector_extension()]


def kernels_on() -> bool:
    """Whether the compiled kernels are used at all: not where `SWITCH` is set to 0, nor where numba
    compiles nothing (NUMBA_DISABLE_JIT)."""
    return os.environ.get(SWITCH) != "0" and not config.DISABLE_JIT  # type: ignore[attr-defined]


def supports(
    x: Tensor, *others: Tensor, weight: Tensor | None = None, transposed: bool = False
) -> bool:
    """Whether the compiled kernels take an operation's tensors: all that they rely on.

    x (N,C,H,W), and others as they are read beside it; for a convolution its weight (O,C,k,k), and
    whether it is transposed. Ordinary tensors on the CPU, in single precision, with a batch that is
    a multiple of 16; convolutions with kernel 3 or 5, both numbers of channels multiples of 3, and
    images of even height and width. Not while PyTorch traces, compiles or exports, which needs its
    own operations, nor where kernels are off.
    """
    if torch.compiler.is_compiling() or torch.compiler.is_exporting() or _traced():
        return False
    if not kernels_on() or x.dim() != 4 or len(x) % pointwise.LANES:
        return False
    if not all(map(_ordinary, (x, *others) if weight is None else (x, weight, *others))):
        return False
    if weight is None:
        return True
    filters, channels, k, columns = weight.shape
    known = k == columns and k in (3, 5) and filters % 3 == channels % 3 == 0
    if transposed:
        return known and x.shape[1] == filters
    return known and x.shape[1] == channels and x.shape[2] % 2 == x.shape[3] % 2 == 0


def _traced() -> bool:
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]


def _ordinary(x: Tensor) -> bool:
    return (
        type(x) in (Tensor, Parameter)
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.layout == torch.strided
        and x.numel() > 0
    )


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor, activation: Activation, stride: int = 2
) -> Tensor:
    """Activation of a convolution with Keras' "same" padding.

    x (N,C,H,W) with even H and W, weight (O,C,k,k) with odd k, bias (O,) -> (N,O,h,w), which are H
    and W over the stride, 1 or 2. With stride 2 "same" pads one row and column less before than
    after: (0,1) for k = 3, (1,2) for k = 5.
    """
    if supports(x, bias, weight=weight):
        return cast(Tensor, _Convolution.apply(x, weight, bias, activation, stride))
    before, after = _padding(weight, stride)
    padded = functional.pad(x, (before, after, before, after))
    return PLAIN[activation](functional.conv2d(padded, weight, bias, stride=stride))


def pooled_convolution(x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> Tensor:
    """The largest of each 2 x 2 values of a stride-1 `convolution`: -> (N,O,H/2,W/2)."""
    if supports(x, bias, weight=weight):
        return cast(Tensor, _PooledConvolution.apply(x, weight, bias, activation))
    return functional.max_pool2d(convolution(x, weight, bias, activation, stride=1), 2)


def transposed_convolution(
    x: Tensor, weight: Tensor, bias: Tensor, activation: Activation
) -> Tensor:
    """Activation of a stride-2 transposed convolution with Keras' "same" padding.

    x (N,O,h,w), weight (O,C,k,k), bias (C,) -> (N,C,2h,2w). The full output is cropped as
    `convolution` pads, so one is the other's gradient.
    """
    if supports(x, bias, weight=weight, transposed=True):
        return cast(Tensor, _TransposedConvolution.apply(x, weight, bias, activation))
    before, _ = _padding(weight, stride=2)
    full = functional.conv_transpose2d(x, weight, bias, stride=2)
    rows, columns = (slice(before, before + 2 * size) for size in x.shape[2:])
    return PLAIN[activation](full[:, :, rows, columns])


def upsample(x: Tensor, mode: str) -> Tensor:
    """x (N,C,h,w) -> (N,C,2h,2w) by interpolation, nearest or bilinear between pixels' centres."""
    if supports(x):
        return cast(Tensor, _Upsample.apply(x, NEAR[mode]))
    return functional.interpolate(x, scale_factor=2, mode=mode)


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over all elements, a scalar; no gradient reaches `target`."""
    if output.shape == target.shape and supports(output, target):
        return cast(Tensor, _SquaredError.apply(output, target))
    return functional.mse_loss(output, target.detach())


def recreation_error(
    x: Tensor, weight: Tensor, bias: Tensor, activation: Activation, target: Tensor
) -> Tensor:
    """The squared error between a transposed convolution of x and `target`, in one."""
    if supports(x, bias, target, weight=weight, transposed=True):
        return cast(Tensor, _RecreationError.apply(x, weight, bias, activation, target))
    return squared_error(transposed_convolution(x, weight, bias, activation), target)


def level(
    x: Tensor,
    target: Tensor,
    encoder: tuple[Tensor, Tensor],
    decoder: tuple[Tensor, Tensor],
    activations: tuple[Activation, Activation],
) -> tuple[Tensor, Tensor]:
    """One level of recursive training: h, and how well it recreates `target`, in one.

    h is the `convolution` of x with the encoder's weight and bias, the other the squared error of
    the `transposed_convolution` of h with the decoder's. The error's gradient reaches both weights
    and both biases; h has none.
    """
    together = target.shape[2:] == x.shape[2:] and len(encoder[0]) == len(decoder[0])
    if (
        torch.is_grad_enabled()
        and together
        and supports(x, encoder[1], target, weight=encoder[0])
        and supports(target, decoder[1], weight=decoder[0])
    ):
        return cast(tuple[Tensor, Tensor], _Level.apply(x, target, activations, *encoder, *decoder))
    h = convolution(x.detach(), *encoder, activations[0])
    return h.detach(), recreation_error(h, *decoder, activations[1], target)


def batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """x (N,C,H,W) normalised over N, H and W, times weight (C,) plus bias (C,).

    Then each channel's mean and biased variance (C,), without a gradient.
    """
    if supports(x, weight, bias):
        out, mean, inverse = _BatchNorm.apply(x, weight, bias, epsilon)
    else:
        out, mean, inverse = torch.native_batch_norm(
            x, weight, bias, None, None, True, 0.0, epsilon
        )
    return out, mean.detach(), inverse.detach().pow(-2) - epsilon


def _padding(weight: Tensor, stride: int) -> tuple[int, int]:
    total = weight.shape[2] - stride
    return total // 2, total - total // 2


def _batch_last(x: Tensor) -> Tensor:
    return x.detach().permute(1, 2, 3, 0).contiguous()


def _batch_first(x: Tensor) -> Tensor:
    return x.permute(3, 0, 1, 2)


def _values(x: Tensor) -> NDArray[np.float32]:
    return x.detach().contiguous().numpy()


def _halved(x: Tensor) -> Tensor:
    """Room for (C,h,w,N), of x (C,2h,2w,N)."""
    channels, height, width, count = x.shape
    return torch.empty(channels, height // 2, width // 2, count)


def _rows(x: Tensor) -> NDArray[np.float32]:
    return x.view(len(x), -1).numpy()


def _convolve(
    image: Tensor, weight: Tensor, bias: Tensor | None, activation: int, stride: int = 2
) -> Tensor:
    """Output (O,h,w,N) for image (C,H,W,N), H and W being h and w times the stride."""
    _, height, width, count = image.shape
    filters = weight.shape[0]
    out = torch.empty(filters, height // stride, width // stride, count)
    values = np.zeros(filters, np.float32) if bias is None else _values(bias)
    lanes = tile.lanes_of(count) or count
    together = tile.together(filters, lanes // tile.width)
    convolve = convolutions.convolution(lanes, together, stride)
    convolve(image.numpy(), _values(weight), values, activation, out.numpy())
    return out


def _input_gradient(grad: Tensor, weight: Tensor, bias: Tensor | None, activation: int) -> Tensor:
    """Gradient of the image (C,2h,2w,N), for grad (O,h,w,N) of the convolution's output.

    For the transposed convolution its output, so with a bias (C,) and an activation.
    """
    _, height, width, count = grad.shape
    channels, k = weight.shape[1:3]
    out = torch.empty(channels, 2 * height, 2 * width, count)
    values = np.zeros(channels, np.float32) if bias is None else _values(bias)
    lanes = tile.lanes_of(count) or count
    together = tile.together(channels, 2 * lanes // tile.width)
    gradient = convolutions.input_gradient(lanes, together, k)
    gradient(grad.numpy(), _values(weight), values, activation, out.numpy())
    return out


def _image_gradient(grad: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Gradient of the image (N,C,H,W), for grad (O,h,w,N) of the convolution's output."""
    if stride == 2:
        return _batch_first(_input_gradient(grad, weight, None, LINEAR))
    turned = weight.transpose(0, 1).flip(2, 3)
    return _batch_first(_convolve(grad, turned, None, LINEAR, stride))


def _weight_gradient(image: Tensor, grad: Tensor, weight: Tensor, stride: int = 2) -> Tensor:
    """Gradient of the weight (O,C,k,k), for grad (O,h,w,N) of the convolution's output."""
    filters, channels, k, _ = weight.shape
    out = torch.empty(weight.shape)
    lanes = tile.lanes_of(channels)
    if grad.shape[2] <= OUTER_WIDTH and channels % convolutions.BLOCK == 0 and lanes:
        pixels = torch.empty(*image.shape[1:], channels)
        convolutions.channels_last(image.numpy(), pixels.numpy())
        together = tile.together(filters, lanes // tile.width)
        outer = convolutions.outer_weight_gradient(lanes, together, stride)
        outer(pixels.numpy(), grad.numpy(), out.numpy())
        return out
    if stride == 2:
        gradient = convolutions.weight_gradient(tile.width, tile.together(filters, k), k)
        gradient(image.numpy(), grad.numpy(), out.numpy())
        return out
    # The smaller of the two gets a border. Seen from the output, a tap lies on the other side.
    if filters < channels:
        turned = _weight_gradient(grad, image, weight.transpose(0, 1), stride)
        return turned.transpose(0, 1).flip(2, 3)
    border = k // 2
    image = functional.pad(image, (0, 0, border, border, border, border))
    gradient = convolutions.bordered_weight_gradient(tile.width, tile.together(filters, k), k)
    gradient(image.numpy(), grad.numpy(), out.numpy())
    return out


def _activation_gradient(grad: Tensor, out: Tensor, activation: int) -> tuple[Tensor, Tensor]:
    """Gradients before the activation, (C,H,W,N), and of the bias, (C,)."""
    before, bias = torch.empty_like(out), torch.empty(len(out))
    arrays = _rows(_batch_last(grad)), _rows(out), activation, _rows(before), bias.numpy()
    pointwise.activation_gradient(*arrays)
    return before, bias


def _recreation(
    grid: Tensor, weight: Tensor, bias: Tensor, activation: int, target: Tensor
) -> tuple[float, Tensor, Tensor]:
    """The error, and its gradients before the activation, (C,H,W,N), and of the bias, (C,)."""
    grad, for_bias = _input_gradient(grid, weight, None, LINEAR), torch.empty(len(bias))
    arrays = _rows(grad), _rows(target), _values(bias)
    error = pointwise.recreation_error(*arrays, activation, for_bias.numpy())
    return error, grad, for_bias


class _Convolution(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, name: Activation, stride: int
    ) -> Tensor:
        image, activation = _batch_last(x), ACTIVATIONS[name]
        out = _convolve(image, weight, bias, activation, stride)
        ctx.save_for_backward(image, weight, out)
        ctx.activation, ctx.stride = activation, stride
        return _batch_first(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        image, weight, out = ctx.saved_tensors
        grad, bias = _activation_gradient(slope, out, ctx.activation)
        for_x = _image_gradient(grad, weight, ctx.stride) if ctx.needs_input_grad[0] else None
        return for_x, _weight_gradient(image, grad, weight, ctx.stride), bias, None, None


class _TransposedConvolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, name: Activation) -> Tensor:
        grid, activation = _batch_last(x), ACTIVATIONS[name]
        out = _input_gradient(grid, weight, bias, activation)
        ctx.save_for_backward(grid, weight, out)
        ctx.activation = activation
        return _batch_first(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        grid, weight, out = ctx.saved_tensors
        grad, bias = _activation_gradient(slope, out, ctx.activation)
        for_x = _batch_first(_convolve(grad, weight, None, LINEAR))
        return for_x, _weight_gradient(grad, grid, weight), bias, None


class _PooledConvolution(Function):
    """Activations are monotonic: that of the largest value is the largest activation. Values that
    differ and have the same one are where its slope is as good as zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, name: Activation) -> Tensor:
        image, activation = _batch_last(x), ACTIVATIONS[name]
        full = _convolve(image, weight, bias, LINEAR, stride=1)
        out = _halved(full)
        resizing.max_pool(full.numpy(), activation, out.numpy())
        ctx.save_for_backward(image, weight, full, out)
        ctx.activation = activation
        return _batch_first(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        image, weight, full, out = ctx.saved_tensors
        pooled, bias = _activation_gradient(slope, out, ctx.activation)
        grad = torch.empty_like(full)
        resizing.max_pool_gradient(pooled.numpy(), full.numpy(), grad.numpy())
        for_x = _image_gradient(grad, weight, stride=1) if ctx.needs_input_grad[0] else None
        return for_x, _weight_gradient(image, grad, weight, stride=1), bias, None


class _Upsample(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, near: float) -> Tensor:
        ctx.near = near
        image = _batch_last(x)
        channels, height, width, count = image.shape
        out = torch.empty(channels, 2 * height, 2 * width, count)
        resizing.upsample(image.numpy(), near, out.numpy())
        return _batch_first(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        grad = _batch_last(slope)
        out = _halved(grad)
        resizing.upsample_gradient(grad.numpy(), ctx.near, out.numpy())
        return _batch_first(out), None


class _RecreationError(Function):
    """Its gradient before the activation is known as soon as the error is: all it keeps."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, name: Activation, target: Tensor
    ) -> Tensor:
        grid, activation = _batch_last(x), ACTIVATIONS[name]
        error, grad, for_bias = _recreation(grid, weight, bias, activation, _batch_last(target))
        ctx.save_for_backward(grid, weight, grad, for_bias)
        return torch.tensor(error, dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        grid, weight, grad, for_bias = ctx.saved_tensors
        factor = slope.item()
        if factor != 1:
            grad, for_bias = grad * factor, for_bias * factor
        for_x = _batch_first(_convolve(grad, weight, None, LINEAR))
        return for_x, _weight_gradient(grad, grid, weight), for_bias, None, None


class _Level(Function):
    """All gradients are at hand when the error is, so that nothing else is kept for them."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, target: Tensor, names: tuple[Activation, Activation], *given: Tensor
    ) -> tuple[Tensor, Tensor]:
        weight, bias, back_weight, back_bias = given
        activation, back_activation = (ACTIVATIONS[name] for name in names)
        image = _batch_last(x)
        h = _convolve(image, weight, bias, activation)
        error, grad, for_back_bias = _recreation(
            h, back_weight, back_bias, back_activation, _batch_last(target)
        )
        for_back_weight = _weight_gradient(grad, h, back_weight)
        before = _convolve(grad, back_weight, None, LINEAR)
        for_bias = torch.empty(len(bias))
        slopes = _rows(before)
        pointwise.activation_gradient(slopes, _rows(h), activation, slopes, for_bias.numpy())
        for_weight = _weight_gradient(image, before, weight)
        ctx.gradients = for_weight, for_bias, for_back_weight, for_back_bias
        h = _batch_first(h)
        ctx.mark_non_differentiable(h)
        return h, torch.tensor(error, dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor, slope: Tensor) -> tuple[Tensor | None, ...]:
        # Kept no longer than this, else each would be copied.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("a level's gradients can be asked for once")
        factor = slope.item()
        if factor != 1:
            gradients = tuple(gradient * factor for gradient in gradients)
        return None, None, None, *gradients


class _BatchNorm(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = _batch_last(x)
        out, found = torch.empty_like(x), x.new_empty(2, len(x))
        scaling = _values(weight), _values(bias)
        norms.normalise(_rows(x), scaling, epsilon, _rows(out), found.numpy())
        ctx.save_for_backward(x, weight, found)
        mean, inverse = found.unbind()
        ctx.mark_non_differentiable(mean, inverse)
        return _batch_first(out), mean, inverse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, found = ctx.saved_tensors
        grad, for_x, for_scaling = _rows(_batch_last(slope)), torch.empty_like(x), found.clone()
        scaling = _values(weight), found.numpy()
        norms.normalise_gradient(grad, _rows(x), *scaling, _rows(for_x), for_scaling.numpy())
        return _batch_first(for_x), *for_scaling.unbind(), None


class _SquaredError(Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, target: Tensor) -> Tensor:
        output, target = _batch_last(output), _batch_last(target)
        grad = torch.empty_like(output)
        error = pointwise.squared_error(*(t.view(-1).numpy() for t in (output, target, grad)))
        ctx.save_for_backward(grad)
        return torch.tensor(error, dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (grad,) = ctx.saved_tensors
        return _batch_first(grad if slope.item() == 1 else grad * slope), None
