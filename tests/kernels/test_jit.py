"""Where compiled code is kept: also with a read-only source folder and no home."""

import os
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
