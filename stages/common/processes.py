"""Processes that end together: a stage with the dvc that started it, workers with their stage."""

import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import active_children, get_context, parent_process, resource_tracker
from threading import Thread
from typing import TypeVar

import psutil

from stages.common import memory
from stages.common.errors import PipelineError

POLL = 0.5  # seconds
Result = TypeVar("Result")


def end_with_dvc() -> None:
    """Let this process end when the dvc that runs it as a stage ends, even if that is killed.

    Else it would go on beside the stage of the next `dvc repro`. A stage that was started by hand
    may outlive its shell. Raises PipelineError where dvc has ended already.
    """
    if "DVC_STAGE" not in os.environ:  # dvc sets it for every stage, and not for itself
        return
    dvc = next((p for p in psutil.Process().parents() if not _in_stage(p)), None)
    # When dvc is gone, this is the process that adopts orphans, which is of another group.
    with suppress(ProcessLookupError):
        if dvc and os.getpgid(dvc.pid) == os.getpgrp():
            _end_after(lambda: _wait_for(dvc))
            return
    raise PipelineError("the dvc that started this stage is gone; run `dvc repro` again")


def end_with_parent() -> None:
    """Let this worker process end when its parent does, even if that was killed."""
    if parent := parent_process():  # also knows a parent that ended before this line
        _end_after(parent.join)


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Let Ctrl-C wait until the end of the block. Processes started in it ignore Ctrl-C: their
    parent prints one line and ends them."""
    resource_tracker.ensure_running()  # starting it, as workers do, would let the signal through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_each(
    tasks: Sequence[Callable[[], Result]], workers: int, begin: Callable[[], None], killed: str
) -> Generator[Result, None, None]:
    """What each task returns, as soon as it does, from `workers` processes that `begin` prepares;
    from this process where that is one, as another takes seconds to start.

    Where a task fails or the generator is closed, all processes end. Raises what a task raises, and
    a PipelineError of text `killed` where a process was killed.
    """
    if workers == 1:
        memory.keep_freed()
        begin()
        yield from (task() for task in tasks)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (begin,)) as pool:
        try:
            with interrupts_held_back():
                futures = [pool.submit(task) for task in tasks]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise PipelineError(killed) from None
        except BaseException:
            for process in active_children():
                process.kill()
            raise


def _begin(begin: Callable[[], None]) -> None:
    end_with_parent()
    memory.keep_freed()
    begin()


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
    """Whether a process runs. One that has ended but was not reaped yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _in_stage(process: psutil.Process) -> bool:
    try:
        return "DVC_STAGE" in process.environ()
    except psutil.Error:  # another user's
        return False
