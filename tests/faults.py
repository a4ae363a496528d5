"""Faults for tests of stages to inject: kills at chosen moments, and disks that are full."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KILLED = """
import hashlib, importlib, json, os, random, signal, sys, time
from pathlib import Path

stage, words, modules, place, whole, kills = json.loads(sys.argv[1])
for module in modules:
    importlib.import_module(module)
main = importlib.import_module(f"stages.{stage}").main
replace, replaced = os.replace, 0

def die_at(number):
    def counted(*paths):
        global replaced
        replaced += 1
        if replaced == number:
            os.killpg(0, signal.SIGKILL)
        replace(*paths)
    return counted

def run(number=0, seconds=None):
    # A fork has what is imported already.
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        os.replace = die_at(number)
        main(*words)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.killpg(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for path in Path(place).rglob("*"):
        if path.is_file() and not any(part.startswith(".partial-") for part in path.parts):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == whole[str(path)], path
    return status

number = 1
while run(number) == -signal.SIGKILL:
    number += 1
begun = time.monotonic()
assert run() == 0
lasts = time.monotonic() - begun
random.seed(0)
ends = [run(seconds=random.uniform(0.01, lasts)) for _ in range(kills)]
assert run() == 0
print(json.dumps([number - 1, ends]), file=sys.stderr)
"""


def environment() -> dict[str, str]:
    """That of a stage which no dvc runs."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return own | {"PYTHONPATH": str(ROOT), "PATH": path}


def tree(folder: Path, place: str) -> dict[str, str]:
    """SHA-256 of every file in `place`, by its path below `folder`."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (folder / place).rglob("*")
        if path.is_file()
    }


def run(folder: Path, stage: str, *words: str, blocks: int | None = None) -> tuple[int, str]:
    """Exit status and errors of a stage in `folder`, where no file may be larger than `blocks` of
    1024 bytes."""
    limit = f"ulimit -f {blocks or 'unlimited'}; exec "
    command = ["bash", "-c", f'{limit} "$@"', "bash", sys.executable, "-m", f"stages.{stage}"]
    done = subprocess.run(
        [*command, *words], cwd=folder, env=environment(), capture_output=True, text=True
    )
    return done.returncode, done.stderr


def kill(
    folder: Path, stage: str, *words: str, place: str, modules: list[str], kills: int = 20
) -> int:
    """Kill a stage before each file that it puts in place and at `kills` random moments.

    Checks that after each kill all files in `place` are whole, and that in the end they are those
    of an undisturbed run. modules: what the stage imports late. Returns how often it was killed.
    """
    assert run(folder, stage, *words)[0] == 0
    whole = tree(folder, place)
    given = json.dumps([stage, words, modules, place, whole, kills])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, given],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert tree(folder, place) == whole
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
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        if isinstance(error, OSError) or "unshare: " in error.stderr or "mount: " in error.stderr:
            pytest.skip(f"no disk of our own to fill: {error}")
        raise AssertionError(error.stderr) from None
    (folder / "elsewhere").replace(folder / place)
    assert "ended with 1\n" in done.stdout
    return done.stderr, folder / "first", folder / "second"
