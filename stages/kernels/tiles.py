"""How much a kernel computes at a time, by the vector registers that the processor has.

A multiply-add takes about four cycles, and one or two can start in each: some ten sums have to be
under way at least, or the units wait. Sums also share what they need: F filters of V registers each
take V values and F weights for F * V multiply-adds. More than ten gain little, and too many are
worse than too few: what does not stay in registers goes through memory.

|         | registers | floats | sums | lanes | of a convolution | image's gradient | weight's |
|---------|-----------|--------|------|-------|------------------|------------------|----------|
| AVX-512 | 32        | 16     | 18   | 32    | 6 filters        | 3 channels       | 6 and 3  |
|         |           |        |      | 16    | 12               | 6                |          |
| AVX2    | 16        | 8      | 12   | 16    | 6                | 3                | 3 and 2  |
| SSE     | 16        | 4      | 12   | 8     | 6                | 3                | 3 and 2  |
| NEON    | 32        | 4      | 24   | 16    | 6                | 3                | 6 and 3  |

The image's gradient is computed at two columns at a time, the weight's of one register of lanes at
all taps of a row: two numbers are those of kernels of 3 and of 5.
"""

import os
import platform
from dataclasses import dataclass

from llvmlite import binding


@dataclass(frozen=True)
class Tile:
    """How a processor's registers are used: the rest follows from it."""

    width: int  # floats of a register
    lanes: tuple[int, ...]  # elements of the batch at a time: the first that divides it
    sums: int  # registers that hold sums

    def lanes_of(self, count: int) -> int | None:
        """So many at a time of `count`, or None where none divides it."""
        return next((lanes for lanes in self.lanes if count % lanes == 0), None)

    def together(self, count: int, registers: int) -> int:
        """So many at a time of `count`, a multiple of 3, where each takes so many registers."""
        for size in (12, 6, 3, 2):
            if size * registers <= self.sums and count % size == 0:
                return size
        return 3


TILES = {
    "AVX-512": Tile(16, (32, 16), 18),
    "AVX2": Tile(8, (16,), 12),
    "SSE": Tile(4, (8,), 12),
    "NEON": Tile(4, (16,), 24),
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
