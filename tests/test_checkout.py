"""What make does, and what a clone holds, whatever the environment and git's configuration are."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
WHO = ("-c", "user.name=user", "-c", "user.email=user@localhost", "-c", "commit.gpgsign=false")
HOSTILE = """
[core]
    hooksPath = {0}
    excludesFile = {0}/ignored
    attributesFile = {0}/attributes
[commit]
    gpgsign = true
[gpg]
    program = false
[filter "none"]
    clean = false
    required = true
[init]
    templateDir = {0}
    defaultObjectFormat = sha256
    defaultRefFormat = reftable
"""


def run(folder: Path, *command: str, **changes: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT | changes, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A commit, an edit that is not committed, and a file that git does not know."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("dvc.lock", "params.yaml"):
        (folder / name).write_text("committed", encoding="utf-8")
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "add", "--all")
    run(folder, "git", *WHO, "commit", "--quiet", "--message=of the user")
    (folder / "params.yaml").write_text("edited", encoding="utf-8")
    (folder / "notes").write_text("untracked", encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", ["environment", "hook", "hook of a worktree", "configuration"])
def test_the_demo_touches_its_own_folder_alone(kind: str, project: Path, tmp_path: Path) -> None:
    folder, changes, elsewhere = project, dict[str, str](), tmp_path / "elsewhere"
    (elsewhere / "demo").mkdir(parents=True)
    if kind == "environment":
        changes = {"CDPATH": str(elsewhere), "GIT_DEFAULT_HASH": "sha256"}
        changes |= {"TAR_OPTIONS": "--exclude=dvc.lock"}
    if kind == "hook":
        changes = {"GIT_DIR": str(project / ".git"), "GIT_INDEX_FILE": ".git/index"}
    if kind == "hook of a worktree":
        folder = tmp_path / "worktree"
        run(project, "git", "worktree", "add", "--quiet", str(folder))
        changes = {"GIT_DIR": run(folder, "git", "rev-parse", "--absolute-git-dir").strip()}
    if kind == "configuration":
        for hook in ("pre-commit", "hooks/pre-commit"):
            (elsewhere / hook).parent.mkdir(exist_ok=True)
            (elsewhere / hook).write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
            (elsewhere / hook).chmod(0o755)
        (elsewhere / "info").mkdir()
        for name in ("ignored", "info/exclude"):
            (elsewhere / name).write_text("*.lock\n", encoding="utf-8")
        (elsewhere / "attributes").write_text("* filter=none\n", encoding="utf-8")
        changes = {"GIT_CONFIG_GLOBAL": str(tmp_path / "hostile")}
        (tmp_path / "hostile").write_text(HOSTILE.format(elsewhere), encoding="utf-8")

    def state() -> list[object]:
        repository = [(project / ".git" / name).read_text("utf-8") for name in ("HEAD", "config")]
        asked = (["log", "--all"], ["status", "--short"], ["ls-files", "--stage"])
        theirs = sorted(str(path) for path in elsewhere.rglob("*"))
        return [repository, theirs, *(run(project, "git", *words) for words in asked)]

    (folder / "demo").mkdir()
    (folder / ".gitignore").write_text("demo\n", encoding="utf-8")
    before = state()
    run(folder, "make", "demo/.git", **changes)
    assert state() == before
    demo = folder / "demo"
    asked = run(demo, "git", "rev-parse", "--show-toplevel", "--show-object-format")
    assert asked.split() == [str(demo), "sha1"]
    present = {path.name for path in folder.iterdir()} - {".git", "demo"}
    assert {*run(demo, "git", "ls-files").split()} == present
    assert "dvc.lock" in present
    assert run(demo, "git", "status", "--short") == ""


def test_make_hides_from_python_pip_and_dvc_what_would_break_them(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").touch()
    (tmp_path / "python").write_text("#!/bin/sh\nenv > seen\n", encoding="utf-8")
    (tmp_path / "python").chmod(0o755)
    given = {"PYTHONSAFEPATH": "1", "PIP_USER": "1", "PIP_TARGET": "elsewhere", "DVC_ROOT": "/"}
    with pytest.raises(AssertionError, match="pip"):  # this python makes no .venv
        run(tmp_path, "make", "PYTHON=./python", ".venv/.ready", **given)
    seen = (tmp_path / "seen").read_text(encoding="utf-8").splitlines()
    assert [line for line in seen if line.startswith((*given,))] == ["PIP_USER=0"]


@pytest.mark.parametrize(
    ("value", "word", "told"),
    [("1", "stages.plot", True), ("", "stages.plot", False), ("1", "/my/stages/a.py", False)],
)
def test_a_stage_started_without_make_says_why_python_does_not_find_it(
    tmp_path: Path, value: str, word: str, told: bool
) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    (line,) = re.findall("^SAFE_PATH := (.*)$", makefile, re.M)
    (tmp_path / "safe_path.pth").write_text(line, encoding="utf-8")
    read = "import site, sys; site.addsitedir(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-S", "-c", read, str(tmp_path), word],
        env=os.environ | {"PYTHONSAFEPATH": value},
        stderr=subprocess.PIPE,
        text=True,
    )
    line = "error: PYTHONSAFEPATH keeps Python from finding stages; unset it\n"
    assert (done.returncode, done.stderr) == ((1, line) if told else (0, ""))


def test_a_clone_has_the_bytes_of_git_whatever_lines_end_with(tmp_path: Path) -> None:
    """Python's, YAML's and CSV files with other bytes have other hashes."""
    settings = ("-c", "core.autocrlf=true", "-c", "core.eol=crlf")
    run(ROOT, "git", *settings, "clone", "--quiet", str(ROOT), str(tmp_path / "clone"))
    listed = run(tmp_path / "clone", "git", "ls-tree", "-r", "HEAD").splitlines()
    entries = (line.split("\t") for line in listed if not line.startswith("120000"))  # links
    committed = {path: entry.split()[2] for entry, path in entries}
    command = ("git", "hash-object", "--no-filters", "--", *committed)
    assert run(tmp_path / "clone", *command).split() == [*committed.values()]
