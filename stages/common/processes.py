"""Processes that end together: what dvc started does not outlive it, nor workers their stage."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import parent_process, resource_tracker
from threading import Thread

import psutil

from stages.common.errors import PipelineError

POLL = 0.5  # seconds


def end_with_dvc() -> None:
    """Let this process end when the dvc that runs it as a stage is gone, even if it was killed.

    Left over, a stage would go on beside that of the next `dvc repro`. One that was started by
    hand may outlive its shell. Raises PipelineError where that dvc is gone already.
    """
    if "DVC_STAGE" not in os.environ:  # dvc tells it to every stage
        return
    for process in psutil.Process().parents():
        if any(os.path.basename(word) == "dvc" for word in _command(process)):
            _end_after(partial(_wait_for, process))
            return
    raise PipelineError("the dvc that started this stage is gone; run `dvc repro` again")


def end_with_parent() -> None:
    """Let this worker process end when the one that started it does, even if that was killed."""
    if parent := parent_process():  # it knows a parent that was gone before this line, too
        _end_after(parent.join)


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Let Ctrl-C wait until the end of the block. Processes started in it never hear of it.

    It is for their parent alone, which tells the user once, and ends them.
    """
    resource_tracker.ensure_running()  # to start it, as workers do, would let the signal through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_after(wait: Callable[[], None]) -> None:
    def end() -> None:
        wait()
        print("error: what started this process is gone", file=sys.stderr)
        os._exit(1)

    Thread(target=end, daemon=True).start()


def _wait_for(process: psutil.Process) -> None:
    while alive(process):
        time.sleep(POLL)


def alive(process: psutil.Process) -> bool:
    """Whether it runs: one that has ended and that nobody has reaped yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
