"""Faults to inject into a stage: kills at chosen and random moments, limits and full disks."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.common.cores import CORES
from tests.conftest import ROOT, tree

# Every process of a stage reads this file first: each kills all before its DIE_AT-th replacement.
SITECUSTOMIZE = """
import os, signal

def die_at(number, replace=os.replace):
    left = iter(range(1, number))
    def counted(*paths):
        if next(left, None) is None:
            os.killpg(0, signal.SIGKILL)
        replace(*paths)
    os.replace = counted

if "DIE_AT" in os.environ:
    die_at(int(os.environ["DIE_AT"]))
"""
KILLED = """
import hashlib, importlib, json, os, random, shutil, signal, sys, time
from pathlib import Path
from sitecustomize import die_at

stage, words, modules, place, outputs, whole = json.loads(sys.argv[1])
for module in modules:
    importlib.import_module(module)
main = importlib.import_module(f"stages.{stage}").main

def run(number=None, seconds=None):
    # A fork has what is imported already.
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        if number:
            os.environ["DIE_AT"] = str(number)
            die_at(number)
        main(*words)
        os._exit(0)
    os.setpgid(child, child)  # here, too: which of both comes first is open
    if seconds is not None:
        time.sleep(seconds)
        os.killpg(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for path in Path(place).rglob("*"):
        if path.is_file() and not any(part.startswith(".partial-") for part in path.parts):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == whole[str(path)], path
    return status

def clear():
    for path in map(Path, outputs):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

clear()
number = 1
while run(number) == -signal.SIGKILL:
    number += 1
clear()
begun = time.monotonic()
assert run() == 0
lasts = time.monotonic() - begun
random.seed(0)
ends = []
for turn in range(20):
    if turn % 4 == 0:  # the runs between go on from what a kill has left
        clear()
    ends.append(run(seconds=random.uniform(0.01, lasts)))
assert run() == 0
print(json.dumps([number - 1, ends]), file=sys.stderr)
"""


def environment(folder: Path) -> dict[str, str]:
    """That of a stage in `folder` which no dvc runs."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return own | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), "PATH": path}


def hashes(folder: Path, place: str) -> dict[str, str]:
    """SHA-256 of every file in `place`, by its path below `folder`."""
    files = tree(folder / place).items()
    return {f"{place}/{name}": hashlib.sha256(content).hexdigest() for name, content in files}


def run(folder: Path, stage: str, *words: str, blocks: int | None = None) -> tuple[int, str]:
    """Exit status and errors of a stage in `folder`, where no file may be larger than `blocks` of
    1024 bytes."""
    limit = f"ulimit -f {blocks or 'unlimited'}; exec "
    # -B: Python 3.11 would keep the beginning of a compiled file that can grow no further.
    command = ["bash", "-c", f'{limit} "$@"', "bash", sys.executable, "-B", "-m", f"stages.{stage}"]
    done = subprocess.run(
        [*command, *words], cwd=folder, env=environment(folder), capture_output=True, text=True
    )
    return done.returncode, done.stderr


def kill(
    folder: Path, stage: str, *words: str, place: str, outputs: list[str], modules: list[str]
) -> int:
    """Kill a stage before each file that it puts in place and at twenty random moments.

    Checks that after each kill all files in `place` are whole, as they are now, and that they all
    are there in the end. outputs: what the stage makes of nothing. modules: what it imports late.
    Returns how often it was killed.
    """
    whole = hashes(folder, place)
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE, encoding="utf-8")
    given = json.dumps([stage, words, modules, place, outputs, whole])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, given],
        cwd=folder,
        env=environment(folder) | {CORES: "1"},  # else each worker would count its own files
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert hashes(folder, place) == whole
    replaces, ends = json.loads(done.stderr.splitlines()[-1])
    assert set(ends) <= {-9, 0}
    return int(replaces) + ends.count(-9)


def fill(folder: Path, stage: str, *words: str, place: str, free: int) -> tuple[str, Path, Path]:
    """Run a stage where `place` is on a disk with `free` bytes left, and again with space.

    Returns the errors of both, and the folders that have a copy of what `place` then held. Skips
    the test where a user may mount nothing.
    """
    script = f"""
    set -e
    mkdir -p {place} first second
    mv {place} elsewhere && mkdir {place} && mount -t tmpfs -o size=100M none {place}
    cp -r elsewhere/. {place}
    available=$(df --output=avail -B1 {place} | tail -n 1)
    fallocate -l $((available - {free})) {place}/filler
    "$@" || echo "ended with $?"
    rm {place}/filler
    cp -r {place} first/
    "$@"
    cp -r {place} second/
    """
    command = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script, "bash"]
    try:
        done = subprocess.run(
            [*command, sys.executable, "-m", f"stages.{stage}", *words],
            cwd=folder,
            env=environment(folder),
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        if isinstance(error, OSError) or "unshare: " in error.stderr or "mount: " in error.stderr:
            pytest.skip(f"no disk of our own to fill: {error}")
        raise AssertionError(error.stderr) from None
    assert "ended with 1\n" in done.stdout
    return done.stderr, folder / "first", folder / "second"
