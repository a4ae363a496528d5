"""The stage that trains: real processes, and real signals that end them."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import psutil
import pytest
import torch
import yaml

from stages import train_variant
from stages.data.faces import Faces
from stages.model import checkpoint, side_by_side, store
from stages.model.network import DEVICE
from stages.model.side_by_side import obtain
from tests import faults
from tests.conftest import ROOT, ended, small, tree
from tests.model.test_on_dask import write
from tests.model.test_store import training

OUTPUTS = {"last_step.safetensors", "averaged.safetensors", "curve.csv", "machine.json"}
LONG = 10**6  # epochs
SECONDS = 300  # nothing takes this long, however busy the machine is


class Stage(subprocess.Popen[str]):
    """`python -m stages.train_variant` in a group of its own, as a terminal starts it."""

    def __init__(self, *words: str) -> None:
        super().__init__(
            [sys.executable, "-m", "stages.train_variant", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=faults.environment(ROOT),
            start_new_session=True,
        )
        self.processes = [psutil.Process(self.pid)]

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Until the condition holds, while the stage runs."""
        end = time.monotonic() + SECONDS
        while not condition():
            assert self.poll() is None, self.communicate()
            assert time.monotonic() < end
            time.sleep(0.02)
        self.processes[1:] = self.processes[0].children(recursive=True)

    def workers(self) -> list[psutil.Process]:
        """The processes that train, among whatever short-lived ones it has started."""
        found = []
        for child in self.processes[0].children():
            with suppress(psutil.NoSuchProcess):  # it has ended in between
                if "spawn_main" in str(child.cmdline()):
                    found.append(child)
        return found

    def ends(self, within: float = SECONDS) -> tuple[int, str, str]:
        """Its exit status, output and errors, once it and all that it started have ended."""
        assert ended(self.processes[1:], within)
        output, errors = self.communicate(timeout=within)
        return self.returncode, output, errors


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, faces: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    """The present folder has prepared faces."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    write(faces, tmp_path / "data")


@pytest.fixture
def stage() -> Iterator[Callable[..., Stage]]:
    """Start the stage; what is left of it goes in the end."""
    begun: list[Stage] = []

    def start(*words: str) -> Stage:
        begun.append(Stage(*words))
        return begun[-1]

    yield start
    for each in begun:
        for process in each.processes:
            if process.is_running():
                process.kill()
        each.communicate()


def configure(name: str, seeds: tuple[int, ...] = (0,), **changes: Any) -> None:
    """Write the settings of a variant, as `configure` does."""
    settings = small(**changes).model_dump(exclude={"implementation"})
    path = Path(f"configs/variants/{name}.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    values = settings | {"seeds": [*seeds], "released_seeds": []}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")


def test_seeds_and_names_add_up_and_a_diverged_seed_stands_beside_the_others(
    stage: Callable[..., Stage],
    in_process: None,
    faces: Faces,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("one")
    configure("other")  # the same under another name
    configure("wild", training="stacked", activation="relu", lr=1e20)
    status, output, errors = stage("--all").ends()
    assert (status, errors) == (0, "")
    told = sorted(output.splitlines())
    assert len(told) == 3
    assert told[0].startswith("one, other, wild: ")
    assert re.fullmatch(
        r"recursive, norm none, selu, seed 0: held-out error \d+, averaged weights \d+", told[1]
    )
    assert re.fullmatch(
        r"stacked, norm none, relu, seed 0: diverged, reconstruction became (nan|inf) in "
        r"epoch 1 \(the last finite total: 0\.\d+\)",
        told[2],
    )
    one, other, wild = (tree(f"models/{name}") for name in ("one", "other", "wild"))
    assert one == other
    assert {*one} == {f"described/seed0/{name}" for name in OUTPUTS}
    own = {f"described/seed0/{name}" for name in ("diverged.txt", "curve.csv", "machine.json")}
    assert {*wild} == own
    folder = Path("models/one/described/seed0")
    checkpoint.load_trained(folder / "averaged.safetensors", training(faces), "averaged")
    assert store.read_machine(folder) == store.machine()

    configure("one", seeds=(0, 3))
    train_variant.main("one")
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        *("recursive, norm none, selu, seed 3", "one"),
    ]
    more = tree("models/one")
    assert {key: more[key] for key in one} == one
    assert {*more} - {*one} == {f"described/seed3/{name}" for name in OUTPUTS}
    assert not [path for path in Path().rglob(".partial-*")]


def test_a_killed_worker_is_told_in_one_line_and_finished_trainings_stay(
    stage: Callable[..., Stage], faces: Faces
) -> None:
    configure("one", epochs=LONG)
    finished = obtain(training(faces, seed=1), faces)
    configure("other", seeds=(1, 2, 3), epochs=LONG)
    process = stage("one", "other")
    state = store.finished(training(faces, epochs=LONG)).with_name("state.safetensors")
    process.wait_for(state.exists)
    process.workers()[0].kill()
    status, output, errors = process.ends()
    assert (status, output) == (1, "")
    assert re.fullmatch(
        r"error: one of 2 training processes was killed, most likely for lack of memory; "
        r"`dvc repro` goes on from the last finished epoch of each training, "
        r"RECURSIVE_AUTOENCODER_CORES=N lets it train N at a time\n",
        errors,
    )
    assert finished.exists() and state.exists()
    assert not Path("models").exists()


def test_an_interrupt_ends_all_in_two_seconds_with_one_line(stage: Callable[..., Stage]) -> None:
    configure("one", seeds=(0, 1), epochs=LONG)
    process = stage("one")
    process.wait_for(lambda: [*Path(".dvc/trainings").glob("*/state.safetensors")])
    os.killpg(process.pid, signal.SIGINT)
    started = time.monotonic()
    status, output, errors = process.ends()
    assert time.monotonic() - started < 2 * max(1.0, psutil.getloadavg()[0])
    assert (status, output) == (130, "")
    assert errors == "error: interrupted; `dvc repro` goes on from here\n"
    assert not Path("models").exists()


@pytest.mark.slow
def test_an_interrupt_before_it_begins_is_one_line_too(stage: Callable[..., Stage]) -> None:
    configure("one", epochs=LONG)
    process = stage("one")
    maps = Path(f"/proc/{process.pid}/maps")
    process.wait_for(lambda: "libtorch" in maps.read_text(encoding="utf-8"))
    os.killpg(process.pid, signal.SIGINT)
    status, output, errors = process.ends()
    assert status in (130, -signal.SIGINT) and not output
    assert errors == "error: interrupted; `dvc repro` goes on from here\n"


LATE = "the settings of one, the faces or the code changed while it was trained"
EARLY = "the faces changed during the training"  # they had not been read yet


@pytest.mark.parametrize(
    ("changed", "told"), [("settings", LATE), ("faces", LATE), ("faces", EARLY)]
)
def test_what_was_trained_for_other_settings_or_faces_is_not_put_in_place(
    faces: Faces,
    changed: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("one")

    def run(tasks: list[Callable[[], Path]], *_: object) -> Iterator[Path]:
        found = [task() for task in tasks if told == LATE]
        if changed == "settings":
            configure("one", lr=0.002)
        else:
            np.save("others.npy", faces.images[::-1])
            os.replace("others.npy", "data/faces.npy")
        yield from found or [task() for task in tasks]

    monkeypatch.setattr(side_by_side, "run_each", run)
    assert_one_line(f"{told}; run `dvc repro` again\n", "one", capsys)
    assert store.is_whole(store.finished(training(faces)), training(faces)) is (told == LATE)


@pytest.mark.parametrize(
    ("words", "chosen", "told"),
    [
        ("", "cpu", "usage: python -m stages.train_variant VARIANT ... | --all"),
        ("two", "cpu", "configs/variants/two.yaml, which `dvc repro configure` writes, does not"),
        ("../one", "cpu", "'../one' is no variant's name"),
        ("one big", "cpu", "big: 40 faces to train on are fewer than a batch of 64; lower its b"),
        ("one", "gpu", f"{DEVICE} is 'gpu': it should be auto, cpu or cuda"),
        ("one", "cuda", f"{DEVICE} is cuda, but PyTorch finds no GPU here; auto takes the"),
    ],
)
def test_what_cannot_be_trained_is_told_before_anything_is(
    words: str,
    chosen: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("one")
    if "big" in words:
        configure("big", batch_size=64)
    monkeypatch.setenv(DEVICE, chosen)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert_one_line(told, words, capsys)
    assert not Path(".dvc").exists()


def assert_one_line(told: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The stage, in this process, ends with this error and leaves no model."""
    with pytest.raises(SystemExit) as caught:
        train_variant.main(*words.split())
    assert caught.value.code == 1
    errors = capsys.readouterr().err
    assert errors.startswith(f"error: {told}") and errors.count("\n") == 1
    assert not tree("models")


def test_a_full_gpu_is_told_with_what_to_lower(
    in_process: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("one")
    full = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
    monkeypatch.setattr(torch.optim.Adam, "__init__", Mock(side_effect=full))
    told = "the GPU's memory does not hold a training with batches of 16; lower train.batch_size, "
    assert_one_line(f"{told}or set {DEVICE}=cpu\n", "one", capsys)
