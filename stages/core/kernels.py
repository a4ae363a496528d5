"""Compiled CPU kernels for strided convolutions of few channels, and for what surrounds them.

Arrays are float32 and C-contiguous, with the channel first and then the batch: (C, N, H, W). A
stride-2 convolution of kernel k with "same" padding reads, for output row i, the input rows
2i + a - begin with a = 0 .. k-1 and begin = (k - 2) // 2, likewise for columns (Keras' rule: one
row less before than after). Four routines do all of it, as the transposed convolution is the
gradient of the convolution with respect to its input.

Shallow levels have 3 to 12 channels, too few for a matrix product to be fast. There an image is
split into four planes by row and column parity, flattened with one zero column, so that a tap of
the kernel is a shift in one dimension and every loop is long and contiguous.
"""

import numpy as np
from numba import njit

OPTIONS = {"fastmath": True, "error_model": "numpy", "boundscheck": False}
compiled = njit(cache=True, **OPTIONS)
inlined = njit(forceinline=True, **OPTIONS)

# Elements of a plane worked on at a time: what three outputs and their inputs need stays in the
# first cache.
BLOCK = 1024


NEXT = np.uint64(1)


# Offsets are unsigned, else every access is checked for being negative and no loop is vectorised.
# Three outputs at a time share what they read.


@inlined
def _add1(out0, out1, out2, i, n, x, a, w0, w1, w2, ka):
    p0, p1, p2 = w0[ka], w1[ka], w2[ka]
    for t in range(n):
        u = x[a + t]
        out0[i + t] += p0 * u
        out1[i + t] += p1 * u
        out2[i + t] += p2 * u


@inlined
def _add2(out0, out1, out2, i, n, x, a, b, w0, w1, w2, ka, kb):
    p0, p1, p2 = w0[ka], w1[ka], w2[ka]
    q0, q1, q2 = w0[kb], w1[kb], w2[kb]
    for t in range(n):
        u, v = x[a + t], x[b + t]
        out0[i + t] += p0 * u + q0 * v
        out1[i + t] += p1 * u + q1 * v
        out2[i + t] += p2 * u + q2 * v


@inlined
def _add3(out0, out1, out2, i, n, x, a, b, c, w0, w1, w2, ka, kb, kc):
    p0, p1, p2 = w0[ka], w1[ka], w2[ka]
    q0, q1, q2 = w0[kb], w1[kb], w2[kb]
    r0, r1, r2 = w0[kc], w1[kc], w2[kc]
    for t in range(n):
        u, v, w = x[a + t], x[b + t], x[c + t]
        out0[i + t] += p0 * u + q0 * v + r0 * w
        out1[i + t] += p1 * u + q1 * v + r1 * w
        out2[i + t] += p2 * u + q2 * v + r2 * w


@inlined
def _dot2(g0, g1, g2, i, n, x, a, b, w0, w1, w2, ka, kb):
    p0 = p1 = p2 = q0 = q1 = q2 = np.float32(0)
    for t in range(n):
        u, v = x[a + t], x[b + t]
        d, e, f = g0[i + t], g1[i + t], g2[i + t]
        p0 += d * u
        p1 += e * u
        p2 += f * u
        q0 += d * v
        q1 += e * v
        q2 += f * v
    w0[ka] += p0
    w1[ka] += p1
    w2[ka] += p2
    w0[kb] += q0
    w1[kb] += q1
    w2[kb] += q2


@inlined
def _dot3(g0, g1, g2, i, n, x, a, b, c, w0, w1, w2, ka, kb, kc):
    p0 = p1 = p2 = q0 = q1 = q2 = r0 = r1 = r2 = np.float32(0)
    for t in range(n):
        u, v, w = x[a + t], x[b + t], x[c + t]
        d, e, f = g0[i + t], g1[i + t], g2[i + t]
        p0 += d * u
        p1 += e * u
        p2 += f * u
        q0 += d * v
        q1 += e * v
        q2 += f * v
        r0 += d * w
        r1 += e * w
        r2 += f * w
    w0[ka] += p0
    w1[ka] += p1
    w2[ka] += p2
    w0[kb] += q0
    w1[kb] += q1
    w2[kb] += q2
    w0[kc] += r0
    w1[kc] += r1
    w2[kc] += r2


@compiled
def _split(image, n, planes, size):
    """Image n of (C,N,H,W) into planes (C,4*size), whose padding is zero already."""
    channels, _, height, width = image.shape
    pitch = width // 2 + 1
    for c in range(channels):
        for r in range(height):
            row = image[c, n, r]
            start = 2 * (r % 2) * size + (r // 2 + 1) * pitch + 1
            even = planes[c, start : start + width // 2]
            odd = planes[c, size + start : size + start + width // 2]
            for j in range(width // 2):
                even[j] = row[2 * j]
                odd[j] = row[2 * j + 1]


@compiled
def _pad(grid, n, flat):
    """Image n of (C,N,h,w) into flat (C,(h+2)*(w+1)+2), whose padding is zero already."""
    channels, _, height, width = grid.shape
    for c in range(channels):
        for i in range(height):
            start = (i + 1) * (width + 1) + 1
            flat[c, start : start + width] = grid[c, n, i]


@compiled
def convolve(image, weight, out):
    """out (O,N,h,w) = the strided convolution of image (C,N,2h,2w) with weight (O,C,k,k).

    k is 3 or 5, O a multiple of 3.
    """
    channels, count, height, width = image.shape
    filters, _, k, _ = weight.shape
    h, w = height // 2, width // 2
    pitch = w + 1
    size = (h + 2) * pitch + 2
    begin = (k - 2) // 2
    planes = np.zeros((channels, 4 * size), np.float32)
    sums = np.empty((filters, h * pitch), np.float32)
    for n in range(count):
        _split(image, n, planes, size)
        sums[:] = 0
        for t in range(0, h * pitch, BLOCK):
            i, length = np.uint64(t), np.uint64(min(BLOCK, h * pitch - t))
            for c in range(channels):
                x = planes[c]
                for a in range(k):
                    s = 2 * ((a - begin) & 1) * size + t + pitch * (1 + ((a - begin) >> 1)) + 1
                    zero, one = np.uint64(s), np.uint64(s + size)
                    for o in range(0, filters, 3):
                        y0, y1, y2 = sums[o], sums[o + 1], sums[o + 2]
                        w0, w1, w2 = weight[o, c, a], weight[o + 1, c, a], weight[o + 2, c, a]
                        if k == 3:
                            _add3(
                                y0, y1, y2, i, length, x, zero, one, zero + NEXT,
                                w0, w1, w2, 0, 1, 2,
                            )  # fmt: skip
                        else:
                            _add3(
                                y0, y1, y2, i, length, x, one - NEXT, one, one + NEXT,
                                w0, w1, w2, 0, 2, 4,
                            )  # fmt: skip
                            _add2(y0, y1, y2, i, length, x, zero, zero + NEXT, w0, w1, w2, 1, 3)
        for o in range(filters):
            for i in range(h):
                out[o, n, i] = sums[o, i * pitch : i * pitch + w]


@compiled
def weight_gradient(image, grad, out):
    """out (O,C,k,k) = the gradient of `convolve`'s weight, for grad (O,N,h,w) of its output."""
    channels, count, height, width = image.shape
    filters, _, k, _ = out.shape
    h, w = height // 2, width // 2
    pitch = w + 1
    size = (h + 2) * pitch + 2
    begin = (k - 2) // 2
    planes = np.zeros((channels, 4 * size), np.float32)
    flat = np.zeros((filters, size), np.float32)
    out[:] = 0
    for n in range(count):
        _split(image, n, planes, size)
        _pad(grad, n, flat)
        for t in range(0, h * pitch, BLOCK):
            i, length = np.uint64(t + pitch + 1), np.uint64(min(BLOCK, h * pitch - t))
            for c in range(channels):
                x = planes[c]
                for a in range(k):
                    s = 2 * ((a - begin) & 1) * size + t + pitch * (1 + ((a - begin) >> 1)) + 1
                    zero, one = np.uint64(s), np.uint64(s + size)
                    for o in range(0, filters, 3):
                        y0, y1, y2 = flat[o], flat[o + 1], flat[o + 2]
                        w0, w1, w2 = out[o, c, a], out[o + 1, c, a], out[o + 2, c, a]
                        if k == 3:
                            _dot3(
                                y0, y1, y2, i, length, x, zero, one, zero + NEXT,
                                w0, w1, w2, 0, 1, 2,
                            )  # fmt: skip
                        else:
                            _dot3(
                                y0, y1, y2, i, length, x, one - NEXT, one, one + NEXT,
                                w0, w1, w2, 0, 2, 4,
                            )  # fmt: skip
                            _dot2(y0, y1, y2, i, length, x, zero, zero + NEXT, w0, w1, w2, 1, 3)


@compiled
def input_gradient(grad, weight, out):
    """out (C,N,2h,2w) = the gradient of `convolve`'s image, for grad (O,N,h,w) of its output.

    k is 3 or 5, C a multiple of 3.
    """
    filters, count, h, w = grad.shape
    _, channels, k, _ = weight.shape
    pitch = w + 1
    begin = (k - 2) // 2
    flat = np.zeros((filters, (h + 2) * pitch + 2), np.float32)
    planes = np.empty((3, 4, h * pitch), np.float32)
    for n in range(count):
        _pad(grad, n, flat)
        for c in range(0, channels, 3):
            planes[:] = 0
            for t in range(0, h * pitch, BLOCK):
                i, length = np.uint64(t), np.uint64(min(BLOCK, h * pitch - t))
                for o in range(filters):
                    x = flat[o]
                    for a in range(k):
                        p = 2 * ((a - begin) & 1)
                        s = np.uint64(t + pitch * (1 - ((a - begin) >> 1)) + 1)
                        y0, y1, y2 = planes[0, p], planes[1, p], planes[2, p]
                        z0, z1, z2 = planes[0, p + 1], planes[1, p + 1], planes[2, p + 1]
                        w0, w1, w2 = weight[o, c, a], weight[o, c + 1, a], weight[o, c + 2, a]
                        if k == 3:
                            _add2(y0, y1, y2, i, length, x, s, s - NEXT, w0, w1, w2, 0, 2)
                            _add1(z0, z1, z2, i, length, x, s, w0, w1, w2, 1)
                        else:
                            _add2(y0, y1, y2, i, length, x, s, s - NEXT, w0, w1, w2, 1, 3)
                            _add3(
                                z0, z1, z2, i, length, x, s + NEXT, s, s - NEXT, w0, w1, w2, 0, 2, 4
                            )
            for d in range(3):
                for i in range(h):
                    for p in range(2):
                        even = planes[d, 2 * p, i * pitch : i * pitch + w]
                        odd = planes[d, 2 * p + 1, i * pitch : i * pitch + w]
                        row = out[c + d, n, 2 * i + p]
                        for j in range(w):
                            row[2 * j] = even[j]
                            row[2 * j + 1] = odd[j]


@compiled
def to_patches(image, k, out):
    """out (C,k,k,N,h,w): for each output position of a strided convolution the taps it reads."""
    channels, count, height, width = image.shape
    h, w = height // 2, width // 2
    begin = (k - 2) // 2
    for c in range(channels):
        for a in range(k):
            for b in range(k):
                shift = b - begin
                first, last = int(shift < 0), w - int(2 * (w - 1) + shift >= width)
                for n in range(count):
                    for i in range(h):
                        r = 2 * i + a - begin
                        row = out[c, a, b, n, i]
                        if r < 0 or r >= height:
                            row[:] = 0
                            continue
                        row[0] = row[w - 1] = 0
                        source = image[c, n, r]
                        for j in range(first, last):
                            row[j] = source[np.uint64(2 * j + shift)]


@compiled
def from_patches(patches, out):
    """out (C,N,2h,2w): the sum of patches (C,k,k,N,h,w) where `to_patches` read them."""
    channels, k, _, count, h, w = patches.shape
    height, width = 2 * h, 2 * w
    begin = (k - 2) // 2
    out[:] = 0
    for c in range(channels):
        for a in range(k):
            for b in range(k):
                shift = b - begin
                first, last = int(shift < 0), w - int(2 * (w - 1) + shift >= width)
                for n in range(count):
                    for i in range(h):
                        r = 2 * i + a - begin
                        if r < 0 or r >= height:
                            continue
                        row = patches[c, a, b, n, i]
                        target = out[c, n, r]
                        for j in range(first, last):
                            target[np.uint64(2 * j + shift)] += row[j]


@compiled
def _expm1(x):
    """exp(x) - 1 for x <= 0, by a Taylor series of x/32 and five doublings; exact to about 1e-6."""
    z = max(x, np.float32(-20)) * np.float32(1 / 32)
    e = np.float32(1 / 40320)
    e = e * z + np.float32(1 / 5040)
    e = e * z + np.float32(1 / 720)
    e = e * z + np.float32(1 / 120)
    e = e * z + np.float32(1 / 24)
    e = e * z + np.float32(1 / 6)
    e = e * z + np.float32(0.5)
    e = e * z + np.float32(1)
    e = e * z
    for _ in range(5):
        e = e * (e + np.float32(2))
    return e


SELU_SCALE = np.float32(1.0507009873554804934193349852946)
SELU_SHIFT = np.float32(1.0507009873554804934193349852946 * 1.6732632423543772848170429916717)


@compiled
def bias_selu(x, bias):
    """x (C, M) += bias (C), then SELU, in place."""
    for c in range(x.shape[0]):
        row = x[c]
        for t in range(row.size):
            v = row[t] + bias[c]
            row[t] = SELU_SCALE * v if v > 0 else SELU_SHIFT * _expm1(min(v, np.float32(0)))


@compiled
def bias_relu(x, bias):
    """x (C, M) += bias (C), then ReLU, in place."""
    for c in range(x.shape[0]):
        row = x[c]
        for t in range(row.size):
            row[t] = max(row[t] + bias[c], np.float32(0))


@compiled
def bias_sigmoid(x, bias):
    """x (C, M) += bias (C), then the logistic sigmoid, in place."""
    for c in range(x.shape[0]):
        row = x[c]
        for t in range(row.size):
            v = row[t] + bias[c]
            e = _expm1(-abs(v)) + np.float32(1)
            row[t] = (np.float32(1) if v > 0 else e) / (np.float32(1) + e)


@compiled
def selu_gradient(grad, y, out, bias):
    """out (C, M) = grad times SELU's slope where the output is y; bias (C) = out's sums."""
    for c in range(y.shape[0]):
        g, v, o = grad[c], y[c], out[c]
        total = np.float32(0)
        for t in range(g.size):
            slope = SELU_SCALE if v[t] > 0 else v[t] + SELU_SHIFT
            o[t] = g[t] * slope
            total += o[t]
        bias[c] = total


@compiled
def relu_gradient(grad, y, out, bias):
    """The same for ReLU."""
    for c in range(y.shape[0]):
        g, v, o = grad[c], y[c], out[c]
        total = np.float32(0)
        for t in range(g.size):
            o[t] = g[t] if v[t] > 0 else np.float32(0)
            total += o[t]
        bias[c] = total


@compiled
def sigmoid_gradient(grad, y, out, bias):
    """The same for the logistic sigmoid."""
    for c in range(y.shape[0]):
        g, v, o = grad[c], y[c], out[c]
        total = np.float32(0)
        for t in range(g.size):
            o[t] = g[t] * v[t] * (np.float32(1) - v[t])
            total += o[t]
        bias[c] = total


@compiled
def squared_error(output, target, grad):
    """Mean squared error of two flat arrays; grad = its gradient with respect to `output`."""
    scale = np.float32(2 / output.size)
    total = 0.0
    for start in range(0, output.size, BLOCK):
        block = np.float32(0)
        for t in range(start, min(start + BLOCK, output.size)):
            d = output[t] - target[t]
            grad[t] = scale * d
            block += d * d
        total += block
    return total / output.size


@compiled
def gather_pixels(faces, rows, out):
    """out (3,N,H,W) in [0,1] = the rows of faces (M,H,W,3) uint8, divided by 255."""
    for n in range(rows.size):
        face = faces[rows[n]]
        for i in range(face.shape[0]):
            line = face[i]
            for c in range(3):
                target = out[c, n, i]
                for j in range(target.size):
                    target[j] = np.float32(line[j, c]) / np.float32(255)
