"""What several test files need."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from numba.core.caching import UserProvidedCacheLocator

from stages.common.cores import CORES
from stages.common.processes import alive
from stages.common.settings import ModelSettings
from stages.data.faces import Faces
from stages.model.network import DEVICE, Autoencoder

# Where a shell started the tests in the background, they and all that they start would not hear
# of Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.pop("DASK_SCHEDULER_ADDRESS", None)  # it would train elsewhere
os.environ[DEVICE] = "cpu"  # which alone repeats every byte
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each process would compile all that it imports
for inherited in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS"):
    os.environ.pop(inherited, None)  # a make that a test starts would say which folder it leaves


ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: later each would run on one core while the others are idle."""
    longest = ["test_pipeline", "test_same_weights", "test_kills", "test_commands", "test_bench"]
    longest += ["test_vectors", "test_sizes"]
    rank = {name: place for place, name in enumerate(longest)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def python(*words: str, cwd: Path = ROOT, **environment: str) -> str:
    """What a Python prints that is started with these words and has the project's code."""
    settings = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    command, pipe = [sys.executable, *words], subprocess.PIPE
    return subprocess.run(command, cwd=cwd, env=settings, stdout=pipe, text=True, check=True).stdout


def tree(folder: str | Path) -> dict[str, bytes]:
    """The content of every file in a folder, by its path below it."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def take_compiled_kernels(source: Path, folder: Path) -> None:
    """Give a copy of the project what numba has compiled in another, which takes it 15 s."""
    kept = Path("stages/kernels/__pycache__", Path(os.environ["NUMBA_CACHE_DIR"]).name)
    place = UserProvidedCacheLocator.get_suitable_cache_subpath(f"{folder}/stages/kernels/jit.py")
    for compiled in (source / kept).glob("kernels_*"):
        unfinished = shutil.ignore_patterns("*.tmp.*")
        shutil.copytree(compiled, folder / kept / place, ignore=unfinished, dirs_exist_ok=True)


def flip(path: Path) -> None:
    """Change a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 128
    path.write_bytes(content)


def ended(processes: Sequence[psutil.Process], within: float) -> bool:
    """Whether all have ended within these seconds, whoever is to reap them and when."""
    end = time.monotonic() + within
    while any(map(alive, processes)):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def model_settings(**changes: object) -> ModelSettings:
    """The settings of a plain recursive model, but for `changes`."""
    values: dict[str, object] = {
        "training": "recursive",
        "norm": "none",
        "activation": "selu",
        "variational": False,
        "implementation": "described",
        "epochs": 1,
        "batch_size": 16,
        "lr": 0.001,
    }
    return ModelSettings.model_validate(values | changes)


def small(**changes: object) -> ModelSettings:
    """Those of a model of 32 pixels."""
    return model_settings(**{"size": 32} | changes)


def made_model(seed: int = 0, **changes: object) -> Autoencoder:
    """One of 32 pixels, with fresh weights."""
    torch.manual_seed(seed)
    return Autoencoder(small(**changes))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of this process run in it, one after another."""
    monkeypatch.setenv(CORES, "1")


@pytest.fixture
def images() -> torch.Tensor:
    """Random images (16,3,32,32) in [0,1]: as many as the compiled kernels take at a time."""
    return torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def faces() -> Faces:
    """48 pictures of 32 pixels in random smooth colours, every sixth held out."""
    return made_faces(48, 32)


def made_faces(count: int, size: int = 128) -> Faces:
    """Pictures of random smooth colours, every sixth held out."""
    small = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), np.uint8)
    splits = np.array(["test" if row % 6 == 0 else "train" for row in range(count)])
    names = np.array([f"Name_{row}" for row in range(count)])
    return Faces(small.repeat(size // 4, 1).repeat(size // 4, 2), names, names, splits)
