"""How a stage begins and ends: its arguments, its errors in one line, its life tied to dvc's."""

import ast
import atexit
import gc
import inspect
import sys
from collections.abc import Callable
from functools import wraps
from typing import TextIO

from stages import INTERRUPTED
from stages.common.errors import PipelineError
from stages.common.processes import end_with_dvc


def entry_point(main: Callable[..., None]) -> Callable[..., None]:
    """Let `main`, which takes the command line's words, start and end as a stage does.

    `--help` prints the module's docstring, words that do not fit `main` its usage. A PipelineError
    or an error of the operating system (a full disk, a file that may not be written) is one line on
    stderr and exit status 1, Ctrl-C one line and exit status 130.
    """

    @wraps(main)
    def run(*words: str) -> None:
        for stream in (sys.stdout, sys.stderr):
            _never_fails(stream)
        module = sys.modules[main.__module__]
        if {"-h", "--help"} & {*words}:
            # Not __doc__, which `python -OO` leaves out.
            print(ast.get_docstring(ast.parse(inspect.getsource(module))) or "")
            return
        _spare_collections()
        try:
            _check(main, words)
            end_with_dvc()
            main(*words)
        except PipelineError as error:
            _end(str(error), 1)
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            _end(f"{error.strerror or error}{where}; mend that and run it again", 1)
        except KeyboardInterrupt:
            _end(INTERRUPTED, 130)

    return run


def _check(main: Callable[..., None], words: tuple[str, ...]) -> None:
    parameters = inspect.signature(main)
    try:
        parameters.bind(*words)
    except TypeError:
        name = main.__module__ if main.__module__ != "__main__" else _module_name(main)
        usage = " ".join(name.upper() for name in parameters.parameters)
        raise PipelineError(f"usage: python -m {name} {usage}".rstrip()) from None


def _module_name(main: Callable[..., None]) -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else main.__module__


def _end(message: str, status: int) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.stderr.flush()
    sys.exit(status)


def _never_fails(stream: TextIO) -> None:
    """Print what a terminal's encoding lacks as question marks."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")


def _spare_collections() -> None:
    """A stage imports hundreds of thousands of objects that stay: to look for garbage among them,
    again and again and once more at the end, takes a sixth of the time that it needs to start and
    end."""
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
