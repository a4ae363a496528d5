"""How much a kernel computes at a time, by the vector registers that the processor has.

A multiply-add takes about four cycles, and two can start in each: at least eight sums have to be
under way, or the units wait. More of them share the values that a sum needs: with F filters of V
vectors, V loads and F weights serve F * V multiply-adds. But all must stay in registers, with V for
the values and one for the weight, else the compiler parks sums in memory.

|         | registers | floats | F * V of a convolution | ... of its input's gradient | weights' |
|---------|-----------|--------|------------------------|-----------------------------|----------|
| AVX-512 | 32        | 16     | 12 * 2 = 24            | 6 at 2 columns * 2 = 24     | 6 * 3    |
| AVX2    | 16        | 8      | 6 * 2 = 12             | 3 at 2 columns * 2 = 12     | 3 * 3    |
| SSE     | 16        | 4      | 6 * 2 = 12             | 3 at 2 columns * 2 = 12     | 3 * 3    |
| NEON    | 32        | 4      | 6 * 4 = 24             | 3 at 2 columns * 4 = 24     | 6 * 3    |
"""

import os
import platform
from dataclasses import dataclass

from llvmlite import binding


@dataclass(frozen=True)
class Tile:
    """What kernels compute at a time. Of several numbers the first is taken that divides."""

    width: int  # floats of a register
    lanes: tuple[int, ...]  # elements of the batch
    filters: tuple[int, ...]  # of a convolution
    channels: tuple[int, ...]  # of the gradient of its input, each at two columns
    correlated: tuple[int, ...]  # filters of the gradient of its weights
    taps: int  # of a row of the kernel there, so many registers for each filter


TILES = {
    "AVX-512": Tile(16, (32, 16), (12, 6, 3), (6, 3), (6, 3), 3),
    "AVX2": Tile(8, (16,), (6, 3), (3,), (3,), 3),
    "SSE": Tile(4, (8,), (6, 3), (3,), (3,), 3),
    "NEON": Tile(4, (16,), (6, 3), (3,), (6, 3), 3),
}


def vector_extension() -> str:
    """The key of `TILES` for this processor, as far as numba compiles for it.

    NUMBA_CPU_NAME and NUMBA_CPU_FEATURES make numba compile for another.
    """
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "NEON"
    features = dict(binding.get_host_cpu_features())
    if "NUMBA_CPU_NAME" in os.environ or "NUMBA_CPU_FEATURES" in os.environ:
        names = os.environ.get("NUMBA_CPU_FEATURES", "").split(",")
        features = {name[1:]: name.startswith("+") for name in names if name}
    if features.get("avx512f"):
        return "AVX-512"
    return "AVX2" if features.get("avx2") and features.get("fma") else "SSE"


def first_divisor(sizes: tuple[int, ...], count: int) -> int | None:
    """The first of `sizes` that divides `count`, if any does."""
    return next((size for size in sizes if count % size == 0), None)
