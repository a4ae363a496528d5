"""Compiled CPU kernels for strided convolutions of few channels, and for what surrounds them.

Arrays are float32 and C-contiguous with the batch last, (C, H, W, N), and N a multiple of `LANES`:
one element of the kernel multiplies that many neighbouring values of memory, whatever the width of
the image, so borders are plain and nothing is rearranged. A stride-2 convolution of kernel k with
"same" padding reads, for output row i, the input rows 2i + a - begin with a = 0 .. k-1 and begin =
(k - 2) // 2, likewise for columns (Keras' rule: one row less before than after). Three routines do
all of it, as the transposed convolution is the gradient of the convolution with respect to its
input.
"""

from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, models, register_model

OPTIONS = {"fastmath": True, "error_model": "numpy", "boundscheck": False, "nogil": True}
compiled = njit(cache=True, **OPTIONS)
inlined = njit(forceinline=True, **OPTIONS)

LANES = 16
# Errors and statistics are summed in single precision for so many elements, then in double.
BLOCK = 1024


class Vector(types.Type):
    """`width` floats that the compiler keeps in registers; numba has no such type of its own."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(f"float32x{width}")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager: object, vector: Vector) -> None:
        super().__init__(manager, vector, ir.VectorType(ir.FloatType(), vector.width))


def _vector_operations(width: int) -> tuple[Callable, Callable, Callable, Callable]:
    """zeros(), load(flat array, offset), store(flat array, offset, v), add_product(v, x, y).

    The last is v + x * y for a vector y and a vector or a scalar x. Offsets are np.uint64.
    """
    vector = Vector(width)
    llvm = ir.VectorType(ir.FloatType(), width)
    undefined = ir.Constant(llvm, ir.Undefined)
    first = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)

    def pointer(context, builder, array, value, offset):
        data = context.make_array(array)(context, builder, value=value).data
        return builder.bitcast(builder.gep(data, [offset]), llvm.as_pointer())

    @intrinsic
    def zeros(_):
        return vector(), lambda context, builder, signature, _: ir.Constant(llvm, [0.0] * width)

    @intrinsic
    def load(_, array, offset):
        def generate(context, builder, signature, values):
            return builder.load(pointer(context, builder, array, *values), align=4)

        return vector(array, types.uint64), generate

    @intrinsic
    def store(_, array, offset, v):
        def generate(context, builder, signature, values):
            builder.store(values[2], pointer(context, builder, array, *values[:2]), align=4)
            return context.get_dummy_value()

        return types.void(array, types.uint64, vector), generate

    @intrinsic
    def add_product(_, v, x, y):
        def generate(context, builder, signature, values):
            v, factor, y = values
            if x != vector:
                one = builder.insert_element(undefined, factor, ir.IntType(32)(0))
                factor = builder.shuffle_vector(one, undefined, first)
            product = builder.fmul(factor, y, flags=("fast",))
            return builder.fadd(v, product, flags=("fast",))

        return vector(vector, vector if x == vector else types.float32, vector), generate

    return zeros, load, store, add_product


zeros, load, store, add_product = _vector_operations(LANES)
# Half as wide where nine sums are kept at a time, so that AVX's sixteen registers hold them.
HALF = LANES // 2
half_zeros, half_load, half_store, half_add_product = _vector_operations(HALF)

# Numbers that offsets are counted in. Signed ones would be checked for being negative.
offset = np.uint64
ONE, TWO, THREE, FOUR = offset(1), offset(2), offset(3), offset(4)


@inlined
def _add_three(sums, v, weights, q, step):
    """Three sums plus v times the weights at q, q + step and q + 2 step."""
    s0, s1, s2 = sums
    s0 = add_product(s0, weights[q], v)
    s1 = add_product(s1, weights[q + step], v)
    s2 = add_product(s2, weights[q + step + step], v)
    return s0, s1, s2


@inlined
def _taps(sums, x, p, pixel, weights, q, step, count):
    """Three filters' sums over `count` neighbouring pixels of a row, from x[p] and weights[q]."""
    for _ in range(count):
        sums = _add_three(sums, load(x, p), weights, q, step)
        p += pixel
        q += ONE
    return sums


@compiled
def convolve(image, weight, out):
    """out (O,h,w,N) = the strided convolution of image (C,2h,2w,N) with weight (O,C,k,k).

    k is 3 or 5, O a multiple of 3.
    """
    channels, height, width, count = image.shape
    filters, h, w, _ = out.shape
    k = weight.shape[2]
    begin = (k - 2) // 2
    x, weights, y = image.reshape(-1), weight.reshape(-1), out.reshape(-1)
    pixel, step, plane = offset(count), offset(channels * k * k), offset(h * w * count)
    for i in range(h):
        top = 2 * i - begin
        for o in range(0, filters, 3):
            for j in range(w):
                left = 2 * j - begin
                first, last = max(0, -left), min(k, width - left)
                for n in range(0, count, LANES):
                    sums = zeros(), zeros(), zeros()
                    for c in range(channels):
                        for a in range(max(0, -top), min(k, height - top)):
                            p = offset(((c * height + top + a) * width + left + first) * count + n)
                            q = offset(((o * channels + c) * k + a) * k + first)
                            # The numbers of taps written out are unrolled.
                            if last - first == 3:
                                sums = _taps(sums, x, p, pixel, weights, q, step, 3)
                            elif last - first == 5:
                                sums = _taps(sums, x, p, pixel, weights, q, step, 5)
                            else:
                                sums = _taps(sums, x, p, pixel, weights, q, step, last - first)
                    t = offset(((o * h + i) * w + j) * count + n)
                    for s in sums:
                        store(y, t, s)
                        t += plane


@inlined
def _spread3(even, odd, g, p, pixel, plane, weights, q, step, jump, filters, left):
    """Three channels' sums at an even and an odd column, from one row of a kernel of 3."""
    for _ in range(filters):
        v = load(g, p)
        even = _add_three(even, v, weights, q, step)
        odd = _add_three(odd, v, weights, q + ONE, step)
        if left:
            even = _add_three(even, load(g, p - pixel), weights, q + TWO, step)
        p += plane
        q += jump
    return even, odd


@inlined
def _spread5(even, odd, g, p, pixel, plane, weights, q, step, jump, filters, left, right):
    """The same for a kernel of 5."""
    for _ in range(filters):
        v = load(g, p)
        even = _add_three(even, v, weights, q + ONE, step)
        odd = _add_three(odd, v, weights, q + TWO, step)
        if right:
            odd = _add_three(odd, load(g, p + pixel), weights, q, step)
        if left:
            v = load(g, p - pixel)
            even = _add_three(even, v, weights, q + THREE, step)
            odd = _add_three(odd, v, weights, q + FOUR, step)
        p += plane
        q += jump
    return even, odd


@compiled
def input_gradient(grad, weight, out):
    """out (C,2h,2w,N) = the gradient of `convolve`'s image, for grad (O,h,w,N) of its output.

    k is 3 or 5, C a multiple of 3.
    """
    filters, h, w, count = grad.shape
    channels, k = weight.shape[1:3]
    begin = (k - 2) // 2
    g, weights, y = grad.reshape(-1), weight.reshape(-1), out.reshape(-1)
    pixel, step, plane = offset(count), offset(k * k), offset(h * w * count)
    jump = offset(channels * k * k)
    rest = pixel, plane, weights
    for r in range(2 * h):
        for c in range(0, channels, 3):
            for j in range(w):
                left, right = j > 0, j + 1 < w
                for n in range(0, count, LANES):
                    even = odd = zeros(), zeros(), zeros()
                    for a in range((r + begin) % 2, k, 2):
                        i = (r + begin - a) // 2
                        if i < 0 or i >= h:
                            continue
                        p = offset((i * w + j) * count + n)
                        q = offset((c * k + a) * k)
                        last = q, step, jump, filters
                        # Borders apart, so that the flags are known when the loop is compiled.
                        if k == 3 and left:
                            even, odd = _spread3(even, odd, g, p, *rest, *last, True)
                        elif k == 3:
                            even, odd = _spread3(even, odd, g, p, *rest, *last, False)
                        elif left and right:
                            even, odd = _spread5(even, odd, g, p, *rest, *last, True, True)
                        else:
                            even, odd = _spread5(even, odd, g, p, *rest, *last, left, right)
                    t = offset(((c * 2 * h + r) * 2 * w + 2 * j) * count + n)
                    for d in range(3):
                        store(y, t, even[d])
                        store(y, t + pixel, odd[d])
                        t += FOUR * plane


@inlined
def _correlate(sums, x, u, g, t, count, plane, first, second, third):
    """Nine sums, three filters by three taps, over the batch at one position.

    The taps' pixels follow one another from x[u]; the flags say which of them exist.
    """
    p0, p1, p2, q0, q1, q2, r0, r1, r2 = sums
    pixel = offset(count)
    for _ in range(0, count, HALF):
        g0, g1, g2 = half_load(g, t), half_load(g, t + plane), half_load(g, t + plane + plane)
        if first:
            v = half_load(x, u)
            p0, p1 = half_add_product(p0, v, g0), half_add_product(p1, v, g1)
            p2 = half_add_product(p2, v, g2)
        if second:
            v = half_load(x, u + pixel)
            q0, q1 = half_add_product(q0, v, g0), half_add_product(q1, v, g1)
            q2 = half_add_product(q2, v, g2)
        if third:
            v = half_load(x, u + pixel + pixel)
            r0, r1 = half_add_product(r0, v, g0), half_add_product(r1, v, g1)
            r2 = half_add_product(r2, v, g2)
        u += offset(HALF)
        t += offset(HALF)
    return p0, p1, p2, q0, q1, q2, r0, r1, r2


@inlined
def _add(totals, q, v):
    half_store(totals, q, half_add_product(half_load(totals, q), np.float32(1), v))


@compiled
def weight_gradient(image, grad, out):
    """out (O,C,k,k) = the gradient of `convolve`'s weight, for grad (O,h,w,N) of its output.

    k is 3 or 5, O a multiple of 3.
    """
    channels, height, width, count = image.shape
    filters, h, w, _ = grad.shape
    k = out.shape[2]
    begin = (k - 2) // 2
    x, g = image.reshape(-1), grad.reshape(-1)
    pixel, plane = offset(count), offset(h * w * count)
    step = offset(channels * k * k * HALF)
    totals = np.zeros(out.size * HALF, np.float32)
    for i in range(h):
        top = 2 * i - begin
        for o in range(0, filters, 3):
            for c in range(channels):
                for a in range(max(0, -top), min(k, height - top)):
                    for b in range(0, k, 3):
                        u = offset(((c * height + top + a) * width + b - begin) * count)
                        t = offset((o * h + i) * w * count)
                        z = half_zeros()
                        sums = (z, z, z, z, z, z, z, z, z)
                        # Of the taps b .. b+2 that reach over the border: with k = 3 the last one
                        # right, with k = 5 the first one left, and both of the second group right.
                        if b == 3:
                            for _ in range(w - 1):
                                sums = _correlate(sums, x, u, g, t, count, plane, True, True, False)
                                u += pixel + pixel
                                t += pixel
                        else:
                            if k == 5:
                                sums = _correlate(sums, x, u, g, t, count, plane, False, True, True)
                                u += pixel + pixel
                                t += pixel
                            for _ in range(w - 1):
                                sums = _correlate(sums, x, u, g, t, count, plane, True, True, True)
                                u += pixel + pixel
                                t += pixel
                            if k == 3:
                                sums = _correlate(sums, x, u, g, t, count, plane, True, True, False)
                        q = offset((((o * channels + c) * k + a) * k + b) * HALF)
                        p0, p1, p2, q0, q1, q2, r0, r1, r2 = sums
                        _add(totals, q, p0)
                        _add(totals, q + step, p1)
                        _add(totals, q + step + step, p2)
                        q += offset(HALF)
                        _add(totals, q, q0)
                        _add(totals, q + step, q1)
                        _add(totals, q + step + step, q2)
                        if b == 0:
                            q += offset(HALF)
                            _add(totals, q, r0)
                            _add(totals, q + step, r1)
                            _add(totals, q + step + step, r2)
    weights = out.reshape(-1)
    for q in range(weights.size):
        weights[q] = totals[HALF * q : HALF * (q + 1)].sum()


@compiled
def to_patches(image, k, out):
    """out (C,k,k,h,w,N): for each output position of a strided convolution the taps it reads."""
    channels, height, width, count = image.shape
    begin = (k - 2) // 2
    x, y = image.reshape(-1), out.reshape(-1)
    t = 0
    for c in range(channels):
        for a in range(k):
            for b in range(k):
                for r in range(a - begin, height + a - begin, 2):
                    for s in range(b - begin, width + b - begin, 2):
                        inside = 0 <= r < height and 0 <= s < width
                        p = ((c * height + r) * width + s) * count
                        for n in range(0, count, LANES):
                            v = load(x, offset(p + n)) if inside else zeros()
                            store(y, offset(t + n), v)
                        t += count


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
def normalise(x, weight, bias, epsilon, out, mean, inverse):
    """out (C, M) = x with each row at mean bias (C) and, but for epsilon, deviation weight (C).

    Also fills in each row's mean (C) and 1 / sqrt(variance + epsilon) (C); the variance is biased.
    """
    for c in range(len(x)):
        row = x[c]
        total = 0.0
        for start in range(0, row.size, BLOCK):
            block = np.float32(0)
            for t in range(start, min(start + BLOCK, row.size)):
                block += row[t]
            total += block
        m = np.float32(total / row.size)
        total = 0.0
        for start in range(0, row.size, BLOCK):
            block = np.float32(0)
            for t in range(start, min(start + BLOCK, row.size)):
                block += (row[t] - m) ** 2
            total += block
        mean[c], inverse[c] = m, 1 / np.sqrt(total / row.size + epsilon)
        scale, shift = weight[c] * inverse[c], bias[c]
        for t in range(row.size):
            out[c, t] = (row[t] - m) * scale + shift


@compiled
def normalise_gradient(grad, x, weight, mean, inverse, out, for_weight, for_bias):
    """out (C, M) = the gradient of `normalise`'s x; also those of its weight and its bias (C)."""
    for c in range(len(x)):
        row, g = x[c], grad[c]
        m, i = mean[c], inverse[c]
        along, total = 0.0, 0.0
        for start in range(0, row.size, BLOCK):
            a = b = np.float32(0)
            for t in range(start, min(start + BLOCK, row.size)):
                a += g[t] * (row[t] - m)
                b += g[t]
            along += a
            total += b
        for_weight[c], for_bias[c] = along * i, total
        scale = weight[c] * i
        slope, level = np.float32(along / row.size * i * i), np.float32(total / row.size)
        for t in range(row.size):
            out[c, t] = scale * (g[t] - level - (row[t] - m) * slope)


@compiled
def gather_pixels(faces, rows, out):
    """out (3,H,W,N) in [0,1] = the rows of faces (M,H,W,3) uint8, divided by 255."""
    _, height, width, count = out.shape
    size = 3 * width
    # One line of every face, apart by more than the line: else they share the cache's few ways.
    pitch = size + 64
    lines = np.empty(count * pitch, np.uint8)
    pixel = np.empty(count, np.uint8)
    values, y = faces.reshape(-1), out.reshape(-1)
    for i in range(height):
        for n in range(count):
            p = (rows[n] * height + i) * size
            lines[n * pitch : n * pitch + size] = values[p : p + size]
        for p in range(size):
            for n in range(count):
                pixel[n] = lines[offset(n * pitch + p)]
            start = offset(((p % 3 * height + i) * width + p // 3) * count)
            for n in range(count):
                y[start + offset(n)] = np.float32(pixel[n]) / np.float32(255)
