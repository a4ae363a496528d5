"""How a stage begins and ends: its usage, its errors in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

STAGE = '''"""What the stage does."""

import sys

from stages.common.entry import entry_point
from stages.common.errors import PipelineError


@entry_point
def main(kind: str) -> None:
    if kind == "wrong":
        raise PipelineError("the setting is 3;\\n  lower it")
    if kind == "full":
        open("/dev/full", "wb", buffering=0).write(b"1")
    if kind == "missing":
        open("no/such/file", encoding="utf-8")
    if kind == "interrupted":
        raise KeyboardInterrupt
    print("gr\\u00f6\\u00dfer")


if __name__ == "__main__":
    main(*sys.argv[1:])
'''


def run(folder: Path, *words: str, **environment: str) -> tuple[int, str, str]:
    (folder / "made.py").write_text(STAGE, encoding="utf-8")
    own = {key: value for key, value in os.environ.items() if key != "DVC_STAGE"}
    path = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "made", *words],
        capture_output=True,
        env=own | {"PYTHONPATH": path} | environment,
        cwd=folder,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ("-h", 0, "What the stage does."),
        ("wrong --help", 0, "What the stage does."),
        ("", 1, "usage: python -m made KIND"),
        ("one two", 1, "usage: python -m made KIND"),
        ("wrong", 1, "the setting is 3; lower it"),
        ("full", 1, "No space left on device; mend that and run it again"),
        ("missing", 1, "No such file or directory: no/such/file; mend that and run it again"),
        ("interrupted", 130, "interrupted; `dvc repro` goes on from here"),
    ],
)
def test_a_stage_ends_with_a_line(tmp_path: Path, words: str, status: int, told: str) -> None:
    output, errors = ("", f"error: {told}\n") if status else (f"{told}\n", "")
    assert run(tmp_path, *words.split()) == (status, output, errors)


def test_what_is_printed_never_fails(tmp_path: Path) -> None:
    for encoding, printed in (("ascii", "gr??er\n"), ("utf-8", "größer\n")):
        assert run(tmp_path, "fine", PYTHONIOENCODING=encoding) == (0, printed, "")


def test_help_is_there_without_docstrings(tmp_path: Path) -> None:
    assert run(tmp_path, "--help", PYTHONOPTIMIZE="2") == (0, "What the stage does.\n", "")
