"""Where compiled code is kept: also with a read-only source folder and no home."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PART = """
from stages.kernels.jit import inlined

@inlined
def times(x):
    return {} * x
"""
WHOLE = """
from stages.kernels.jit import compiled
from stages.kernels.part import times

@compiled
def multiplied(x):
    return times(x)
"""
# What is loaded before the input is that of now; what is compiled after it may not be.
CODE = """
from stages.kernels.whole import multiplied
print("loaded", flush=True)
input()
print(multiplied(21), len(multiplied.stats.cache_hits))
"""


class Project:
    """A checkout with one kernel, that has a function of another file compiled into it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.kernels = folder, folder / "stages/kernels"
        self.environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
        self.kernels.mkdir(parents=True)
        shutil.copytree(ROOT / "stages/common", folder / "stages/common")
        for name in ("__init__.py", "kernels/jit.py"):
            shutil.copy(ROOT / "stages" / name, folder / "stages" / name)
        (self.kernels / "whole.py").write_text(WHOLE, encoding="utf-8")
        self.edit(2)

    def edit(self, factor: int) -> None:
        (self.kernels / "part.py").write_text(PART.format(factor), encoding="utf-8")

    def keep_nothing_beside(self) -> None:
        """A file where __pycache__ would go, so that not even root can make it."""
        (self.kernels / "__pycache__").write_text("", encoding="utf-8")

    def load(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE],
            cwd=self.folder,
            env=self.environment | {"PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout and process.stdout.readline() == "loaded\n"
        return process

    def run(self) -> list[str]:
        return answer(self.load())


def answer(process: subprocess.Popen[str]) -> list[str]:
    """21 times the factor, and how often compiled code was found."""
    output, _ = process.communicate("\n")
    assert process.returncode == 0
    return output.split()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.mark.parametrize("kept", ["beside", "NUMBA_CACHE_DIR", "TMPDIR"])
def test_an_edit_of_one_file_has_the_kernels_of_all_compiled_again(
    project: Project, tmp_path: Path, kept: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    if kept != "beside":
        project.environment[kept] = str(elsewhere)
        elsewhere.mkdir()
    if kept == "TMPDIR":
        project.keep_nothing_beside()
    assert [project.run(), project.run()] == [["42", "0"], ["42", "1"]]
    project.edit(3)
    assert project.run() == ["63", "0"]
    place = project.kernels / "__pycache__" if kept == "beside" else elsewhere
    assert len([*place.rglob("*.nbc")]) == len([*tmp_path.rglob("*.nbc")]) == 2


@pytest.mark.parametrize("first", ["former", "present"])
def test_a_process_that_began_before_an_edit_and_those_after_it_share_nothing(
    project: Project, first: str
) -> None:
    former = project.load()
    project.edit(3)
    present = project.load()
    found = {}
    for process in (former, present) if first == "former" else (present, former):
        found[process] = answer(process)
    assert (found[former], found[present]) == (["42", "0"], ["63", "0"])
    assert project.run() == ["63", "1"]


def test_a_checkout_keeps_nothing_in_that_of_the_process_that_starts_it(
    project: Project, tmp_path: Path
) -> None:
    kept = tmp_path / "other/stages/kernels/__pycache__" / ("f" * 64)
    project.environment["NUMBA_CACHE_DIR"] = str(kept)
    assert project.run() == ["42", "0"]
    assert not kept.exists() and [*project.kernels.rglob("*.nbc")]


def test_a_folder_that_another_user_can_write_to_keeps_nothing(
    project: Project, tmp_path: Path
) -> None:
    """And where there is no other, one line says so when a kernel is called."""
    project.keep_nothing_beside()
    temporary = tmp_path / "temporary"
    taken = temporary / f"recursive-autoencoder-kernels-{os.getuid()}"
    taken.mkdir(parents=True)
    taken.chmod(0o777)
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache", "TMPDIR": str(temporary)}
    project.environment |= nowhere
    process = project.load()
    _, told = process.communicate("\n")
    assert process.returncode == 1 and not [*taken.iterdir()]
    assert "PipelineError: compiled code can be kept nowhere; set NUMBA_CACHE_DIR" in told
