"""How kernels are compiled, and where the compiled code is kept between processes."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numba.extending
from numba.core import config

from stages.common.errors import PipelineError

Function = TypeVar("Function", bound=Callable[..., Any])

# No fast mathematics: what is added in which order is written down, see vectors.py.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "boundscheck": False, "nogil": True}


def compiled(function: Function) -> Function:
    """`function`, compiled when it is first called with arguments of some types.

    The code is kept beside the source or in the user's cache folder, as numba does; where neither
    can be written to, in a temporary folder. Raises PipelineError where that cannot, either.
    """
    compile_it = numba.njit(cache=True, **OPTIONS)
    try:
        return cast(Function, compile_it(function))
    except RuntimeError:  # numba: "no locator available"
        config.CACHE_DIR = str(temporary_folder())  # type: ignore[attr-defined]
        return cast(Function, compile_it(function))


def inlined(function: Function) -> Function:
    """A part of kernels, compiled into each place that calls it."""
    return cast(Function, numba.njit(forceinline=True, **OPTIONS)(function))


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that kernels call, given as LLVM code; whole numbers it takes may be constants."""
    decorated = numba.extending.intrinsic(prefer_literal=True)(function)
    return cast(Callable[..., Any], decorated)


def temporary_folder() -> Path:
    """A folder of this user alone: whoever could write into it could run code as this user."""
    try:
        folder = Path(tempfile.gettempdir(), f"recursive-autoencoder-kernels-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat()
        if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
            folder = Path(tempfile.mkdtemp(prefix="recursive-autoencoder-kernels-"))
    except OSError as error:
        raise PipelineError(
            f"compiled code can be kept nowhere ({error}); set NUMBA_CACHE_DIR to a folder that "
            "can be written to"
        ) from None
    return folder
