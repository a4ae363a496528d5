"""Several tasks at a time, a process each."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from typing import TypeVar

from stages.common import memory
from stages.common.errors import PipelineError
from stages.common.processes import end_with_parent, interrupts_held_back

Result = TypeVar("Result")


def run_each(
    tasks: Sequence[Callable[[], Result]], workers: int, begin: Callable[[], None], killed: str
) -> Generator[Result, None, None]:
    """What each task returns, as soon as it does, from `workers` processes that `begin` prepares.

    Where a task fails or the generator is closed, all processes end. Raises what a task raises, and
    a PipelineError that says `killed` where a process was.
    """
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
