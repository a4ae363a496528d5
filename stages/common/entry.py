"""How a stage begins and ends: its arguments, its errors in one line, its life tied to dvc's."""

import ast
import atexit
import gc
import inspect
import io
import sys
from collections.abc import Callable
from functools import wraps

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
            if isinstance(stream, io.TextIOWrapper):  # what its encoding lacks becomes "?"
                stream.reconfigure(errors="replace")
        module = sys.modules[main.__module__]
        if {"-h", "--help"} & {*words}:
            # Not __doc__, which `python -OO` leaves out.
            print(ast.get_docstring(ast.parse(inspect.getsource(module))) or "")
            return
        # A last look for garbage among all that was imported would take a quarter of the processor
        # time of a start and end (1.7 s of 2.3 are left, n = 6).
        atexit.register(gc.freeze)
        status, parameters = 1, inspect.signature(main)
        try:
            try:
                parameters.bind(*words)
            except TypeError:
                name = module.__spec__.name if module.__spec__ else main.__module__
                usage = [f"usage: python -m {name}", *map(str.upper, parameters.parameters)]
                raise PipelineError(" ".join(usage)) from None
            end_with_dvc()
            return main(*words)
        except PipelineError as error:
            message = str(error)
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            message = f"{error.strerror or error}{where}; mend that and run it again"
        except KeyboardInterrupt:
            status, message = 130, INTERRUPTED
        print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
        sys.exit(status)

    return run
