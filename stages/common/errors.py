"""Errors that a user can act on."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

P = ParamSpec("P")


class PipelineError(Exception):
    """What is wrong, with which value, and what to do about it, in one line."""


def exits_cleanly(main: Callable[P, None]) -> Callable[P, None]:
    """Let a stage's `main` end with one line on stderr and exit status 1 on a PipelineError."""

    @wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except PipelineError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)

    return run
