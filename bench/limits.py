"""What the processor can do at most: single-precision operations a second, by three ways to know.

Torch's and NumPy's matrix products come from different libraries, either of which may not know the
processor; the loop keeps everything in registers.
"""

import os
import re
import subprocess
import sys
import timeit
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import torch

from stages.kernels.jit import compiled
from stages.kernels.tiles import TILES, vector_extension
from stages.kernels.vectors import total, zeros

SIZE = 2048
TURNS = 2_000_000
ONE = np.float32(1)

# OpenBLAS takes these for orders, and others than the processor's kernels.
MISLEADING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
NUMPY = f"""
import timeit, numpy
a = numpy.random.rand({SIZE}, {SIZE}).astype(numpy.float32)
print(min(timeit.repeat(lambda: a @ a, number=1)))
"""


def gflops(cores: int) -> dict[str, float]:
    """Billions of operations a second on so many cores, by each way: the best of five."""
    return {
        "torch": torch_product(cores),
        "NumPy": numpy_product(cores),
        "multiply-adds in registers": multiply_adds(cores),
    }


def torch_product(cores: int) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(cores)
    a = torch.rand(SIZE, SIZE)
    seconds = min(timeit.repeat(lambda: a @ a, number=1))
    torch.set_num_threads(threads)
    return 2 * SIZE**3 / seconds / 1e9


def numpy_product(cores: int) -> float:
    kept = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    variables = kept | {"OPENBLAS_NUM_THREADS": str(cores)}
    command = [sys.executable, "-c", NUMPY]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    return 2 * SIZE**3 / float(done.stdout) / 1e9


def multiply_adds(cores: int) -> float:
    width = TILES[vector_extension()].width
    loop = register_loop(width)
    loop(1, 0.999, 0.001)
    with ThreadPoolExecutor(cores) as pool:

        def run() -> None:
            list(pool.map(lambda _: loop(TURNS, 0.999, 0.001), range(cores)))

        seconds = min(timeit.repeat(run, number=1))
    return 2 * 10 * width * TURNS * cores / seconds / 1e9


@cache
def register_loop(width: int) -> Callable[[int, float, float], float]:
    """Ten sums of one register each, enough for two units of four cycles."""

    @compiled
    def loop(turns: int, factor: float, summand: float) -> float:
        zero = zeros(width)
        x, y = zero + np.float32(factor), zero + np.float32(summand)
        # From different values: sums that are alike would be computed once.
        a, b, c, d, e = zero, zero + ONE, zero + x, zero + y, x * y
        f, g, h, i, j = x + ONE, y + ONE, x + x, y + y, x + y
        for _ in range(turns):
            a, b, c, d, e = a * x + y, b * x + y, c * x + y, d * x + y, e * x + y
            f, g, h, i, j = f * x + y, g * x + y, h * x + y, i * x + y, j * x + y
        return float(total(a + b + c + d + e + f + g + h + i + j))

    return loop


def processor() -> str:
    """Its name, with family and model where the system tells, and its vector extension."""
    found = {}
    if Path("/proc/cpuinfo").exists():
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        found = dict(re.findall(r"^([a-z ]+?)\s*: (.*)$", text, re.MULTILINE))
    name = found.get("model name", os.uname().machine)
    details = [f"{key} {found[key]}" for key in ("cpu family", "model") if key in found]
    return f"{name} ({', '.join([*details, vector_extension()])})"
