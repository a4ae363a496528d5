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
USAGE = "error: usage: python -m made KIND\n"


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
    ("words", "expected"),
    [
        (("-h",), (0, "What the stage does.\n", "")),
        (("wrong", "--help"), (0, "What the stage does.\n", "")),
        ((), (1, "", USAGE)),
        (("one", "two"), (1, "", USAGE)),
        (("wrong",), (1, "", "error: the setting is 3; lower it\n")),
        (
            ("full",),
            (1, "", "error: No space left on device; mend that and run it again\n"),
        ),
        (
            ("missing",),
            (
                1,
                "",
                "error: No such file or directory: no/such/file; mend that and run it again\n",
            ),
        ),
        (("interrupted",), (130, "", "error: interrupted; `dvc repro` goes on from here\n")),
    ],
    ids=str,
)
def test_a_stage_ends_with_a_line(
    tmp_path: Path, words: tuple[str, ...], expected: tuple[int, str, str]
) -> None:
    assert run(tmp_path, *words) == expected


def test_what_is_printed_never_fails(tmp_path: Path) -> None:
    expected = (0, "gr??er\n", "")
    assert run(tmp_path, "fine", PYTHONIOENCODING="ascii") == expected
    status, output, errors = run(tmp_path, "fine", PYTHONIOENCODING="utf-8")
    assert (status, output, errors) == (0, "größer\n", "")


def test_help_is_there_without_docstrings(tmp_path: Path) -> None:
    assert run(tmp_path, "--help", PYTHONOPTIMIZE="2") == (0, "What the stage does.\n", "")
