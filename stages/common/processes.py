"""Processes that end together: what dvc started does not outlive it, nor workers their stage."""

import os
import signal
import sys
import time
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
            _end_with(process)
            return
    raise PipelineError("the dvc that started this stage is gone; run `dvc repro` again")


def end_with_parent() -> None:
    """Let this worker process end when the one that started it does, even if that was killed."""
    # Ctrl-C is for the parent alone: it tells the user once, and its end is the workers'.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with(psutil.Process(os.getppid()))


def _end_with(process: psutil.Process) -> None:
    def wait() -> None:
        while _alive(process):
            time.sleep(POLL)
        print(f"error: {process.pid}, which started this process, is gone", file=sys.stderr)
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
