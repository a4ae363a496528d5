"""How kernels are compiled, and where the compiled code is kept between processes."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numba.extending

from stages.common.errors import PipelineError

Function = TypeVar("Function", bound=Callable[..., Any])

# No fast mathematics: what is added in which order is written down, see vectors.py.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "boundscheck": False, "nogil": True}


def compiled(function: Function) -> Function:
    """`function`, compiled when it is first called with arguments of some types.

    The code is kept where `kernel_cache` says; where that is nowhere, a call raises PipelineError.
    """
    try:
        return cast(Function, numba.njit(cache=True, **OPTIONS)(function))
    except RuntimeError:  # numba: "no locator available"
        return cast(Function, _nowhere)


def _nowhere(*_: object) -> None:
    raise PipelineError(
        "compiled code can be kept nowhere; set NUMBA_CACHE_DIR to a folder that can be written to"
    )


def inlined(function: Function) -> Function:
    """A part of kernels, compiled into each place that calls it."""
    return cast(Function, numba.njit(forceinline=True, **OPTIONS)(function))


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that kernels call, given as LLVM code; whole numbers it takes may be constants."""
    decorated = numba.extending.intrinsic(prefer_literal=True)(function)
    return cast(Callable[..., Any], decorated)
