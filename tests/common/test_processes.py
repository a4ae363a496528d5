"""What dvc started ends with it, workers end with their stage, and nothing else does."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from stages.common.processes import interrupts_held_back
from tests.conftest import ROOT, ended

STAGE = """
import sys
from stages.common.processes import end_with_dvc
end_with_dvc()
print("running", flush=True)
sys.stdin.read()
"""
# It runs a stage as dvc does: through a shell, with its name in the environment.
DVC = """
import os, subprocess, sys
command = f'"{sys.executable}" -c "$STAGE"; echo ended'
subprocess.run(command, shell=True, env=os.environ | {"DVC_STAGE": "train-variant@stacked"})
"""
# Its stage begins when it has ended, which closes the pipe.
GONE = """
import os, subprocess, sys
command = f'read _; "{sys.executable}" -c "$STAGE"'
environment = os.environ | {"DVC_STAGE": "train-variant@stacked"}
subprocess.Popen(command, shell=True, env=environment, stdin=os.pipe()[0])
"""


def environment() -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if key != "DVC_STAGE"}
    return own | {"PYTHONPATH": str(ROOT), "STAGE": STAGE}


@contextmanager
def started(command: list[str], session: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A process whose standard input ends with the block, and with it what reads from it."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    how = {"text": True, "env": environment(), "start_new_session": session}
    with subprocess.Popen(command, **pipes, **how) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_stage_ends_when_its_dvc_is_killed_however_that_is_called(kind: signal.Signals) -> None:
    """As `dvc repro`, by a Python program, or by one that it is a part of."""
    with started([sys.executable, "-c", DVC]) as dvc:
        assert line(dvc) == "running\n"
        below = psutil.Process(dvc.pid).children(recursive=True)
        assert len(below) == 2
        dvc.send_signal(kind)
        assert ended(below, 30)  # the input is open still
        assert dvc.stderr and "what started this process is gone" in dvc.stderr.read()


def test_a_stage_whose_dvc_was_gone_before_it_looked_does_not_begin() -> None:
    with started([sys.executable, "-c", GONE], session=True) as dvc:
        _, said = dvc.communicate()
    assert "the dvc that started this stage is gone; run `dvc repro` again" in said


def test_a_stage_started_by_hand_outlives_its_shell() -> None:
    command = f'"{sys.executable}" -c "$STAGE" <&3 & wait'
    with started(["sh", "-c", f"exec 3<&0; {command}"]) as shell:
        assert line(shell) == "running\n"
        (stage,) = psutil.Process(shell.pid).children()
        shell.kill()
        shell.wait()
        assert not ended([stage], 1.5)  # three looks at what started it
        assert shell.stdin
        shell.stdin.close()
        assert ended([stage], 30)


WORKERS = """
import os, sys, time
from multiprocessing import get_context
from stages.common.processes import end_with_parent, interrupts_held_back

def work():
    os.write(1, b"begun\\n")  # in one piece, beside the other worker's
    while sys.argv[1:] and not os.path.exists(sys.argv[1]):  # imports, say
        time.sleep(0.01)
    end_with_parent()
    os.write(1, b"working\\n")
    time.sleep(1000)

if __name__ == "__main__":
    context = get_context("spawn")
    with interrupts_held_back():
        for _ in range(2):
            context.Process(target=work).start()
    try:
        time.sleep(1000)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        os._exit(130)
"""


@pytest.mark.parametrize("early", [False, True], ids=["working", "before they work"])
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent_and_not_before(
    kind: signal.Signals, early: bool, tmp_path: Path
) -> None:
    """Those that are `early` begin their work when the file `go` is there."""
    script, go = tmp_path / "workers.py", tmp_path / "go"
    script.write_text(WORKERS, encoding="utf-8")
    words = [sys.executable, str(script), *([str(go)] if early else [])]
    with started(words, session=True) as parent:
        expected = ["begun"] * 2 + ["working"] * (0 if early else 2)
        assert sorted(line(parent).strip() for _ in expected) == expected
        below = psutil.Process(parent.pid).children(recursive=True)
        if kind == signal.SIGKILL:
            parent.kill()
        else:  # as Ctrl-C does
            os.killpg(parent.pid, signal.SIGINT)
            assert line(parent) == "interrupted\n"
        parent.wait()
        go.touch()
        assert ended(below, 30)
        assert parent.stderr and "Traceback" not in parent.stderr.read()


def test_an_interrupt_held_back_comes_at_the_end() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt):
        with interrupts_held_back():
            signal.raise_signal(signal.SIGINT)
            done.append("whole")
        done.append("never")
    assert done == ["whole"]
