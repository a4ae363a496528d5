"""Vectors of floats that the compiler keeps in registers; numba has no such type of its own.

What is computed is what is written, lane by lane: the compiler neither reorders sums nor guards
loops by where arrays lie in memory, so a kernel has one result. It may only fuse a product and the
sum that it enters. Offsets are np.uint64: signed ones would be checked for being negative.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import models, overload, register_model

from stages.kernels.jit import intrinsic

offset = np.uint64
FLAGS = ("contract",)
FLOAT, INT = ir.FloatType(), ir.IntType(32)
# Added to a float of small absolute value, and taken off again, it rounds to whole numbers.
ROUNDER = 1.5 * 2**23


class Vector(types.Type):
    """`width` single-precision lanes."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(f"float32x{width}")

    @property
    def llvm(self) -> ir.VectorType:
        return ir.VectorType(FLOAT, self.width)

    def splat(self, builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
        """`value` in every lane."""
        undefined = ir.Constant(self.llvm, ir.Undefined)
        one = builder.insert_element(undefined, value, INT(0))
        first = ir.Constant(ir.VectorType(INT, self.width), [0] * self.width)
        return builder.shuffle_vector(one, undefined, first)


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.llvm)  # type: ignore[no-untyped-call]


def several(vector: Vector, count: int) -> Any:
    """The type of a tuple of vectors."""
    return types.UniTuple(vector, count)  # type: ignore[no-untyped-call]


def _pointer(context: Any, builder: Any, array: Any, value: Any, at: Any) -> Any:
    data = context.make_array(array)(context, builder, value=value).data
    return builder.gep(data, [at])


def _load(builder: Any, pointer: Any, vector: Vector) -> Any:
    return builder.load(builder.bitcast(pointer, vector.llvm.as_pointer()), align=4)


@intrinsic
def zeros(_: Any, lanes: Any) -> Any:
    """A vector of so many zeros; `lanes` is a constant."""
    vector = Vector(lanes.literal_value)
    return vector(lanes), lambda *_: ir.Constant(vector.llvm, [0.0] * vector.width)


@intrinsic
def load(_: Any, like: Any, array: Any, at: Any) -> Any:
    """array[at], array[at + 1], ... of a flat array, as many as `like` has lanes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _load(builder, _pointer(context, builder, array, *values[1:]), like)

    return like(like, array, types.uint64), generate


@intrinsic
def store(_: Any, array: Any, at: Any, v: Any) -> Any:
    """Put v's lanes at array[at], array[at + 1], ..."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = _pointer(context, builder, array, *values[:2])
        builder.store(values[2], builder.bitcast(pointer, v.llvm.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.uint64, v), generate


@intrinsic
def scatter(_: Any, array: Any, at: Any, step: Any, v: Any) -> Any:
    """Put v's lanes at array[at], array[at + step], ..."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = _pointer(context, builder, array, *values[:2])
        for lane in range(v.width):
            builder.store(builder.extract_element(values[3], INT(lane)), pointer)
            pointer = builder.gep(pointer, [values[2]])
        return context.get_dummy_value()

    return types.void(array, types.uint64, types.uint64, v), generate


@intrinsic
def total(_: Any, v: Any) -> Any:
    """The sum of v's lanes, halves upon halves."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        (sums,), width = values, v.width
        while width > 1:
            width //= 2
            low, high = (
                ir.Constant(ir.VectorType(INT, width), list(range(start, start + width)))
                for start in (0, width)
            )
            sums = builder.fadd(
                builder.shuffle_vector(sums, sums, low), builder.shuffle_vector(sums, sums, high)
            )
        return builder.extract_element(sums, INT(0))

    return types.float32(v), generate


@intrinsic
def where_greater(_: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """x in the lanes where a > b, y in the others, also where a or b is no number."""
    vector = next(kind for kind in (a, x, y) if isinstance(kind, Vector))

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, b, x, y = _vectors(builder, vector, signature.args, values)
        return builder.select(builder.fcmp_ordered(">", a, b), x, y)

    kinds = (kind if isinstance(kind, Vector) else types.float32 for kind in (a, b, x, y))
    return vector(*kinds), generate


@intrinsic
def larger(_: Any, a: Any, b: Any) -> Any:
    """The larger of two vectors, lane by lane; no number where either is none."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, b = values
        chosen = builder.or_(builder.fcmp_ordered(">", b, a), builder.fcmp_unordered("uno", b, b))
        return builder.select(chosen, b, a)

    return a(a, b), generate


@intrinsic
def power_of_two(_: Any, v: Any) -> Any:
    """2 to the whole numbers -126 .. 127 that v - ROUNDER holds."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        whole = ir.VectorType(INT, v.width)
        bits = builder.shl(builder.bitcast(values[0], whole), ir.Constant(whole, [23] * v.width))
        bits = builder.add(bits, ir.Constant(whole, [127 << 23] * v.width))
        return builder.bitcast(bits, v.llvm)

    return v(v), generate


def _vectors(builder: Any, vector: Vector, kinds: Any, values: Any) -> list[Any]:
    return [
        value if isinstance(kind, Vector) else vector.splat(builder, value)
        for kind, value in zip(kinds, values, strict=True)
    ]


def _define(operation: Callable[..., Any], instruction: str) -> None:
    """Let numba know `operation` of two vectors, or a vector and a number, lane by lane."""

    @intrinsic
    def compute(_: Any, a: Any, b: Any) -> Any:
        vector = a if isinstance(a, Vector) else b

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            a, b = _vectors(builder, vector, signature.args, values)
            return getattr(builder, instruction)(a, b, flags=FLAGS)

        kinds = (kind if isinstance(kind, Vector) else types.float32 for kind in (a, b))
        return vector(*kinds), generate

    @overload(operation, inline="always")
    def implement(a: Any, b: Any) -> Any:
        def call(a: Any, b: Any) -> Any:
            return compute(a, b)

        return call if isinstance(a, Vector) or isinstance(b, Vector) else None


for _operation, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_operation, _instruction)


@intrinsic
def loads(_: Any, like: Any, array: Any, at: Any, step: Any, count: Any) -> Any:
    """A tuple of `count` vectors, from array[at], array[at + step], ...; `count` is a constant."""
    vectors = several(like, count.literal_value)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = _pointer(context, builder, array, *values[1:3])
        found = []
        for _ in range(vectors.count):
            found.append(_load(builder, pointer, like))
            pointer = builder.gep(pointer, [values[3]])
        return context.make_tuple(builder, vectors, found)

    return vectors(like, array, types.uint64, types.uint64, count), generate


@intrinsic
def all_zeros(_: Any, like: Any, count: Any) -> Any:
    """A tuple of `count` vectors of zeros; `count` is a constant."""
    vectors = several(like, count.literal_value)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        zero = ir.Constant(like.llvm, [0.0] * like.width)
        return context.make_tuple(builder, vectors, [zero] * vectors.count)

    return vectors(like, count), generate


@intrinsic
def add_filters(_: Any, sums: Any, v: Any, weights: Any, at: Any, step: Any) -> Any:
    """The sums, each plus v times one weight: weights[at], weights[at + step], ..."""
    if not isinstance(v, Vector):
        raise TypingError("add_filters takes a vector")

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        before, x, *rest = values
        pointer = _pointer(context, builder, weights, *rest[:2])
        after = []
        for number in range(sums.count):
            weight = v.splat(builder, builder.load(pointer))
            after.append(_add_product(builder, before, number, x, weight))
            pointer = builder.gep(pointer, [rest[2]])
        return context.make_tuple(builder, sums, after)

    return sums(sums, v, weights, types.uint64, types.uint64), generate


@intrinsic
def add_products(_: Any, sums: Any, xs: Any, ys: Any, first: Any) -> Any:
    """sums[len(sums) / len(ys) * j + first + i] plus xs[i] times ys[j]; `first` is a constant."""
    row = sums.count // ys.count

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        before, x, y, _ = values
        after = [builder.extract_value(before, number) for number in range(sums.count)]
        for j in range(ys.count):
            for i in range(xs.count):
                number = row * j + first.literal_value + i
                vectors = builder.extract_value(x, i), builder.extract_value(y, j)
                after[number] = _add_product(builder, before, number, *vectors)
        return context.make_tuple(builder, sums, after)

    return sums(sums, xs, ys, first), generate


def _add_product(builder: Any, sums: Any, number: int, x: Any, y: Any) -> Any:
    product = builder.fmul(x, y, flags=FLAGS)
    return builder.fadd(builder.extract_value(sums, number), product, flags=FLAGS)


@intrinsic
def turned(_: Any, rows: Any) -> Any:
    """The columns of as many vectors as each has lanes, a power of 2, in their order."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vectors = [builder.extract_value(values[0], number) for number in range(rows.count)]
        return context.make_tuple(builder, rows, _turned(builder, vectors))

    return rows(rows), generate


@intrinsic
def turned_bytes(_: Any, like: Any, array: Any, at: Any, step: Any) -> Any:
    """Of rows of bytes, array[at], array[at + 1], ... and array[at + step], ..., as many as `like`
    has lanes, the first as many columns, as floats."""
    width = like.width
    vectors = several(like, width)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = _pointer(context, builder, array, *values[1:3])
        kind, found = ir.VectorType(ir.IntType(8), width), []
        for _ in range(width):
            typed = builder.bitcast(pointer, kind.as_pointer())
            found.append(builder.load(typed, align=1))
            pointer = builder.gep(pointer, [values[3]])
        columns = [builder.uitofp(column, like.llvm) for column in _turned(builder, found)]
        return context.make_tuple(builder, vectors, columns)

    return vectors(like, array, types.uint64, types.uint64), generate


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Rows i and i + half the rows, lanes in turn, become rows 2i and 2i + 1: as often as the
    number of rows is halved, and every lane is where row and column have changed places."""
    width = len(rows)
    half = width // 2
    lanes = [lane + side for lane in range(width) for side in (0, width)]
    orders = [
        ir.Constant(ir.VectorType(INT, width), part) for part in (lanes[:width], lanes[width:])
    ]
    for _ in range(width.bit_length() - 1):
        rows = [
            builder.shuffle_vector(rows[i], rows[i + half], order)
            for i in range(half)
            for order in orders
        ]
    return rows
