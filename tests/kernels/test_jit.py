"""Where compiled code is kept: also with a read-only source folder and no home."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.common.errors import PipelineError
from stages.kernels import jit

SOURCE = """
from stages.kernels.jit import compiled

@compiled
def double(x):
    return 2 * x

print(double(21))
"""


def run(folder: Path, temporary: Path) -> subprocess.CompletedProcess[str]:
    """Run SOURCE from a folder that cannot be written to, without a home."""
    file = folder / "module.py"
    file.write_text(SOURCE, encoding="utf-8")
    # A file where __pycache__ would go, so that not even root can make it.
    (folder / "__pycache__").write_text("", encoding="utf-8")
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/dev/null",
        "XDG_CACHE_HOME": "/dev/null/cache",
        "TMPDIR": str(temporary),
    }
    command = [sys.executable, str(file)]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kept", ["beside", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "TMPDIR"])
def test_an_edit_of_one_file_has_the_kernels_of_all_compiled_again(
    tmp_path: Path, kept: str
) -> None:
    """As kernels have functions of other files compiled into them, which numba does not see."""
    for name in ("stages/__init__.py", "stages/common", "stages/kernels/jit.py"):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target)
        else:
            shutil.copy(ROOT / name, target)
    kernels = tmp_path / "stages/kernels"
    part = "from stages.kernels.jit import inlined\n\n@inlined\ndef twice(x):\n    return {} * x\n"
    whole = """
from stages.kernels.jit import compiled
from stages.kernels.part import twice

@compiled
def double(x):
    return twice(x)
"""
    (kernels / "part.py").write_text(part.format(2), encoding="utf-8")
    (kernels / "whole.py").write_text(whole, encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    if kept != "beside":
        environment[kept] = str(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").mkdir()
    if kept in ("XDG_CACHE_HOME", "TMPDIR"):  # where the source's folder cannot be written to
        (kernels / "__pycache__").write_text("", encoding="utf-8")
    if kept == "TMPDIR":  # nor the user's
        environment["XDG_CACHE_HOME"] = "/dev/null"
    code = "from stages.kernels.whole import double as f; print(f(21), len(f.stats.cache_hits))"

    def doubled() -> list[str]:
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout.split()

    assert [doubled(), doubled()] == [["42", "0"], ["42", "1"]]
    (kernels / "part.py").write_text(part.format(3), encoding="utf-8")
    assert [doubled(), doubled()] == [["63", "0"], ["63", "1"]]
    assert any((tmp_path / "elsewhere").rglob("*.nbc")) == (kept != "beside")


def test_a_temporary_folder_of_the_user_alone_keeps_it(tmp_path: Path) -> None:
    source, temporary = tmp_path / "source", tmp_path / "temporary"
    source.mkdir()
    temporary.mkdir()
    done = run(source, temporary)
    assert (done.stdout.strip(), done.returncode) == ("42", 0), done.stderr
    (kept,) = temporary.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o700
    assert list(kept.rglob("*.nbc"))


def test_one_line_names_the_variable_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = tmp_path / "file"
    nowhere.write_text("", encoding="utf-8")
    monkeypatch.setattr(jit.tempfile, "gettempdir", lambda: str(nowhere))
    with pytest.raises(PipelineError, match="NUMBA_CACHE_DIR"):
        jit.temporary_folder()
