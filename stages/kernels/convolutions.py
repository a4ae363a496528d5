"""Convolutions of few channels and both their gradients.

Arrays are float32 and C-contiguous with the batch last, (C, H, W, N): one element of the kernel
multiplies many neighbouring values of memory, whatever the width of the image, so borders are plain
and nothing is rearranged. A stride-2 convolution of kernel k with "same" padding (Keras' rule: one
row less before than after) reads, for output row i, the input rows 2i - begin + a with
a = 0 .. k-1 and begin = (k - 2) // 2, likewise for columns. For four outputs of eight columns, the
taps a .. e, those beyond the border in brackets:

           kernel 3, begin 0             kernel 5, begin 1
    column  0 1 2 3 4 5 6 7                 0 1 2 3 4 5 6 7
    j = 0   a b c                       [a] b c d e
    j = 1       a b c                         a b c d e
    j = 2           a b c                         a b c d e
    j = 3               a b [c]                       a b c [d e]

The transposed convolution is the gradient of the convolution with respect to its input: its column
2j is met by output j (kernel 3: tap a; kernel 5: tap b) and j - 1 (two taps on), column 2j + 1 by
output j (one tap on), with kernel 5 also by j - 1 and j + 1. So a routine each for the convolution
and its two gradients does all of it; images of few pixels have another for the weight's.

With stride 1, begin = (k - 1) // 2, and the gradient of the input is a convolution, too: that of
the output's gradient, the weights turned about. The gradient of the weight takes an image with a
border of zeros there: two positions on each side would be cases of their own. Each routine is made
for a tile, see tiles.py.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.kernels.jit import compiled, inlined
from stages.kernels.pointwise import activate
from stages.kernels.vectors import (
    add_filters,
    add_products,
    all_zeros,
    load,
    loads,
    offset,
    scatter,
    store,
    total,
    turned,
    zeros,
)

Floats = NDArray[np.float32]
BLOCK = 16
# Of a row, in the gradient of the weights, at a time: what they read stays in the nearest cache
# while all channels and rows of the kernel pass over it.
COLUMNS = 16
ONE, TWO, THREE, FOUR = offset(1), offset(2), offset(3), offset(4)


@inlined
def _taps(sums: Any, x: Floats, p: Any, weights: Floats, steps: Any, count: int) -> Any:
    """The sums of several filters over `count` neighbouring pixels of a row.

    p: places of the first pixel in x and of its tap in weights; steps: to the next pixel, filter.
    """
    at, q = p
    pixel, filters = steps
    for _ in range(count):
        sums = add_filters(sums, load(sums[0], x, at), weights, q, filters)
        at += pixel
        q += ONE
    return sums


@cache
def convolution(lanes: int, together: int, stride: int) -> Callable[..., None]:
    """`convolve` for `lanes` elements of the batch and `together` filters at a time."""

    @compiled
    def convolve(image: Floats, weight: Floats, bias: Floats, activation: int, out: Floats) -> None:
        """out (O,h,w,N) = activation of bias (O) + the convolution of image (C,H,W,N).

        H and W are h and w times the stride; weight (O,C,k,k); k is 3 or 5.
        """
        channels, height, width, count = image.shape
        filters, h, w, _ = out.shape
        k = weight.shape[2]
        begin = (k - stride) // 2
        x, weights, y = image.reshape(-1), weight.reshape(-1), out.reshape(-1)
        step, plane = offset(channels * k * k), offset(h * w * count)
        steps = offset(count), step
        zero = zeros(lanes)
        for i in range(h):
            top = stride * i - begin
            above, below = max(0, -top), min(k, height - top)
            for o in range(0, filters, together):
                for j in range(w):
                    left = stride * j - begin
                    first, last = max(0, -left), min(k, width - left)
                    for n in range(0, count, lanes):
                        sums = all_zeros(zero, together)
                        for c in range(channels):
                            for a in range(above, below):
                                p = offset(
                                    ((c * height + top + a) * width + left + first) * count + n
                                )
                                q = offset(((o * channels + c) * k + a) * k + first)
                                # The numbers of taps written out are unrolled.
                                if last - first == 3:
                                    sums = _taps(sums, x, (p, q), weights, steps, 3)
                                elif last - first == 5:
                                    sums = _taps(sums, x, (p, q), weights, steps, 5)
                                elif last - first == 2:
                                    sums = _taps(sums, x, (p, q), weights, steps, 2)
                                else:
                                    sums = _taps(sums, x, (p, q), weights, steps, last - first)
                        t = offset(((o * h + i) * w + j) * count + n)
                        f = o
                        for s in sums:
                            store(y, t, activate(s + bias[f], activation))
                            t += plane
                            f += 1

    return convolve


@inlined
def _spread(columns: Any, g: Floats, weights: Floats, at: Any, left: bool, right: bool) -> Any:
    """Sums at an even and an odd column, over all filters, of one row of the kernel.

    left, right: whether there are neighbours; constants, so that each border has a loop of its own.
    """
    even, odd = columns
    p, q, tap, pixel, plane, jump, step, filters = at
    for _ in range(filters):
        v = load(even[0], g, p)
        even = add_filters(even, v, weights, q + tap, step)
        odd = add_filters(odd, v, weights, q + tap + ONE, step)
        if left:
            v = load(even[0], g, p - pixel)
            even = add_filters(even, v, weights, q + tap + TWO, step)
            if tap:
                odd = add_filters(odd, v, weights, q + FOUR, step)
        if right:
            odd = add_filters(odd, load(even[0], g, p + pixel), weights, q, step)
        p += plane
        q += jump
    return even, odd


@inlined
def _two_columns(sums: Any, g: Floats, weights: Floats, place: Any, sizes: Any, k: int) -> Any:
    """The gradient of an image in row r at columns 2j and 2j + 1, for several channels from c on
    and elements of the batch from n on: sums, which are zero, at each."""
    r, c, j, n = place
    filters, channels, h, w, count = sizes
    begin = (k - 2) // 2
    pixel, plane = offset(count), offset(h * w * count)
    step, jump = offset(k * k), offset(channels * k * k)
    left, right = j > 0, j + 1 < w
    even = odd = sums
    for a in range((r + begin) % 2, k, 2):
        i = (r + begin - a) // 2
        if i < 0 or i >= h:
            continue
        p, q = offset((i * w + j) * count + n), offset((c * k + a) * k)
        at = p, q, offset(begin), pixel, plane, jump, step, filters
        if k == 3 and left:
            even, odd = _spread((even, odd), g, weights, at, True, False)
        elif k == 3:
            even, odd = _spread((even, odd), g, weights, at, False, False)
        elif left and right:
            even, odd = _spread((even, odd), g, weights, at, True, True)
        else:
            even, odd = _spread((even, odd), g, weights, at, left, right)
    return even, odd


@cache
def input_gradient(lanes: int, together: int, k: int) -> Callable[..., None]:
    """`gradient` for so many elements of the batch and channels at a time, and a kernel of k."""

    @compiled
    def gradient(grad: Floats, weight: Floats, bias: Floats, activation: int, out: Floats) -> None:
        """out (C,2h,2w,N) = the gradient of a convolution's image, for grad (O,h,w,N) of its
        output and weight (O,C,k,k); and of this, plus bias (C), the activation."""
        filters, h, w, count = grad.shape
        channels = weight.shape[1]
        sizes = filters, channels, h, w, count
        g, weights, y = grad.reshape(-1), weight.reshape(-1), out.reshape(-1)
        pixel, plane = offset(count), offset(4 * h * w * count)
        zero = zeros(lanes)
        for r in range(2 * h):
            for c in range(0, channels, together):
                for j in range(w):
                    for n in range(0, count, lanes):
                        none = all_zeros(zero, together)
                        even, odd = _two_columns(none, g, weights, (r, c, j, n), sizes, k)
                        t = offset(((c * 2 * h + r) * 2 * w + 2 * j) * count + n)
                        for d in range(together):
                            b = bias[c + d]
                            store(y, t, activate(even[d] + b, activation))
                            store(y, t + pixel, activate(odd[d] + b, activation))
                            t += plane

    return gradient


@inlined
def _put_totals(totals: Floats, weights: Floats, sizes: Any, zero: Any) -> None:
    """weights (O,C,k,k), flat, = the sums over lanes of (O/together,C,k,together,k,lanes), flat."""
    filters, channels, together, k = sizes
    t, lanes = offset(0), offset(totals.size // weights.size)
    for o in range(0, filters, together):
        for c in range(channels):
            for a in range(k):
                for f in range(o, o + together):
                    q = offset(((f * channels + c) * k + a) * k)
                    for b in range(k):
                        weights[q + offset(b)] = total(load(zero, totals, t))
                        t += lanes


@cache
def weight_gradient(width: int, together: int, k: int) -> Callable[..., None]:
    """`gradient` for so many elements of the batch and filters at a time, and a kernel of k."""
    begin = (k - 2) // 2
    # Of the taps those that the first position reads, which lacks what is left of the border, and
    # those of the last one.
    left, right, both = k - begin, begin + 2, 2
    size = together * k

    @compiled
    def gradient(image: Floats, grad: Floats, out: Floats) -> None:
        """out (O,C,k,k) = the gradient of a convolution's weight, for its image (C,2h,2w,N) and
        grad (O,h,w,N) of its output."""
        channels, height, columns, count = image.shape
        filters, h, w, _ = grad.shape
        x, g, weights = image.reshape(-1), grad.reshape(-1), out.reshape(-1)
        pixel, plane = offset(count), offset(h * w * count)
        zero, lanes = zeros(width), offset(width)
        totals = np.zeros(filters * channels * k * k * width, np.float32)
        for i in range(h):
            top = 2 * i - begin
            for o in range(0, filters, together):
                for start in range(0, w, COLUMNS):
                    end = min(w, start + COLUMNS)
                    for c in range(channels):
                        for a in range(max(0, -top), min(k, height - top)):
                            row = (c * height + top + a) * columns
                            place = (row + 2 * start - begin) * count
                            sums = all_zeros(zero, size)
                            for n in range(0, count, width):
                                p = offset(place + n)
                                q = offset(((o * h + i) * w + start) * count + n)
                                if start == 0:
                                    ys = loads(zero, g, q, plane, together)
                                    inside = p + offset(begin) * pixel
                                    if w == 1:
                                        xs = loads(zero, x, inside, pixel, both)
                                        sums = add_products(sums, xs, ys, begin)
                                        continue
                                    xs = loads(zero, x, inside, pixel, left)
                                    sums = add_products(sums, xs, ys, begin)
                                    p += pixel + pixel
                                    q += pixel
                                for _ in range(max(start, 1), min(end, w - 1)):
                                    ys = loads(zero, g, q, plane, together)
                                    sums = add_products(sums, loads(zero, x, p, pixel, k), ys, 0)
                                    p += pixel + pixel
                                    q += pixel
                                if end == w:
                                    ys = loads(zero, g, q, plane, together)
                                    xs = loads(zero, x, p, pixel, right)
                                    sums = add_products(sums, xs, ys, 0)
                            t = offset(
                                ((o * channels + c * together) * k + a * together) * k * width
                            )
                            for s in sums:
                                store(totals, t, load(zero, totals, t) + s)
                                t += lanes
        _put_totals(totals, weights, (filters, channels, together, k), zero)

    return gradient


@cache
def bordered_weight_gradient(width: int, together: int, k: int) -> Callable[..., None]:
    """`gradient` for so many elements of the batch and filters at a time, and a kernel of k."""
    size = together * k

    @compiled
    def gradient(image: Floats, grad: Floats, out: Floats) -> None:
        """out (O,C,k,k) = the gradient of a stride-1 convolution's weight, for its image with a
        border of zeros, (C,h+k-1,w+k-1,N), and grad (O,h,w,N) of its output."""
        channels, height, columns, count = image.shape
        filters, h, w, _ = grad.shape
        x, g, weights = image.reshape(-1), grad.reshape(-1), out.reshape(-1)
        pixel, plane = offset(count), offset(h * w * count)
        zero, lanes = zeros(width), offset(width)
        totals = np.zeros(filters * channels * k * k * width, np.float32)
        for i in range(h):
            for o in range(0, filters, together):
                for start in range(0, w, COLUMNS):
                    end = min(w, start + COLUMNS)
                    for c in range(channels):
                        for a in range(k):
                            row = ((c * height + i + a) * columns + start) * count
                            place = ((o * h + i) * w + start) * count
                            sums = all_zeros(zero, size)
                            for n in range(0, count, width):
                                p, q = offset(row + n), offset(place + n)
                                for _ in range(start, end):
                                    ys = loads(zero, g, q, plane, together)
                                    sums = add_products(sums, loads(zero, x, p, pixel, k), ys, 0)
                                    p += pixel
                                    q += pixel
                            t = offset(
                                ((o * channels + c * together) * k + a * together) * k * width
                            )
                            for s in sums:
                                store(totals, t, load(zero, totals, t) + s)
                                t += lanes
        _put_totals(totals, weights, (filters, channels, together, k), zero)

    return gradient


@cache
def outer_weight_gradient(lanes: int, together: int, stride: int) -> Callable[..., None]:
    """`gradient` for so many channels, a multiple of which there are, and filters at a time."""

    @compiled
    def gradient(pixels: Floats, grad: Floats, out: Floats) -> None:
        """out (O,C,k,k) = the gradient of a convolution's weight, for its image with the channels
        last, (H,W,N,C), and grad (O,h,w,N) of its output; H and W are h and w times the stride.

        For images of few pixels and many channels: sums run over few values, so each lane is a
        channel and no sums over lanes are left.
        """
        height, width, count, channels = pixels.shape
        filters, h, w, _ = grad.shape
        k = out.shape[2]
        begin = (k - stride) // 2
        x, g, weights = pixels.reshape(-1), grad.reshape(-1), out.reshape(-1)
        pixel, plane = offset(channels), offset(h * w * count)
        square, jump = offset(k * k), offset(channels * k * k)
        zero = zeros(lanes)
        for o in range(0, filters, together):
            for c in range(0, channels, lanes):
                for a in range(k):
                    for b in range(k):
                        sums = all_zeros(zero, together)
                        for i in range(h):
                            r = stride * i - begin + a
                            for j in range(w):
                                s = stride * j - begin + b
                                if r < 0 or r >= height or s < 0 or s >= width:
                                    continue
                                p = offset((r * width + s) * count * channels + c)
                                q = offset(((o * h + i) * w + j) * count)
                                for _ in range(count):
                                    sums = add_filters(sums, load(zero, x, p), g, q, plane)
                                    p += pixel
                                    q += ONE
                        t = offset(((o * channels + c) * k + a) * k + b)
                        for v in sums:
                            scatter(weights, t, square, v)
                            t += jump

    return gradient


@compiled
def channels_last(image: Floats, out: Floats) -> None:
    """out (H,W,N,C) = image (C,H,W,N), both numbers C and N multiples of `BLOCK`."""
    channels = len(image)
    size = image.size // channels
    x, y = image.reshape(-1), out.reshape(-1)
    zero, across, down = zeros(BLOCK), offset(size), offset(channels)
    for c in range(0, channels, BLOCK):
        for p in range(0, size, BLOCK):
            at = offset(p * channels + c)
            for v in turned(loads(zero, x, offset(c * size + p), across, BLOCK)):
                store(y, at, v)
                at += down
