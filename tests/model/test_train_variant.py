"""The stage that trains: real processes, and real signals that end them."""

import csv
import json
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

import numpy as np
import psutil
import pytest
import torch
import yaml
from filelock import FileLock

from stages.common.settings import Training
from stages.data.faces import Faces
from stages.model import checkpoint, kept
from stages.model.network import DEVICE
from tests.conftest import ended, model_settings

ROOT = Path(__file__).parents[2]
OUTPUTS = {"last_step.safetensors", "averaged.safetensors", "curve.csv", "machine.json"}
LONG = 10**6  # epochs
SECONDS = 300  # nothing takes this long, however busy the machine is


class Stage(subprocess.Popen[str]):
    """`python -m stages.train_variant` in a group of its own, as a terminal starts it."""

    def __init__(self, *words: str, before: tuple[str, ...] = (), **environment: str) -> None:
        command = [*before, sys.executable, "-m", "stages.train_variant", *words]
        own = {k: v for k, v in os.environ.items() if k not in ("DVC_ROOT", "DVC_STAGE")}
        super().__init__(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=own | {"PYTHONPATH": str(ROOT)} | environment,
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
        self.processes = [
            *self.processes[:1],
            *self.processes[0].children(recursive=True),
        ]

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
        self.wait(within)
        output, errors = self.communicate()
        return self.returncode, output, errors


@pytest.fixture
def stage(
    tmp_path: Path, faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Stage]]:
    """Start the stage, in a folder with prepared faces; what is left of it goes in the end."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data/faces.npy", faces.images)
    with open(tmp_path / "data/faces.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "person", "split"))
        table.writerows(zip(faces.paths, faces.people, faces.splits, strict=True))
    begun: list[Stage] = []

    def start(*words: str, **options: Any) -> Stage:
        begun.append(Stage(*words, **options))
        return begun[-1]

    yield start
    for each in begun:
        for process in each.processes:
            if process.is_running():
                process.kill()
        each.communicate()


def configure(name: str, seeds: tuple[int, ...] = (0,), **changes: Any) -> None:
    """Write the settings of a variant, as `configure` does."""
    settings = model_settings(**changes).model_dump(exclude={"implementation"})
    path = Path(f"configs/variants/{name}.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    values = settings | {"seeds": [*seeds], "released_seeds": []}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")


def training(faces: Faces, seed: int = 0, **changes: Any) -> Training:
    return Training(settings=model_settings(**changes), seed=seed, faces=faces.hash)


def begun() -> bool:
    """Whether a training has finished an epoch."""
    return any(Path(".dvc/trainings").glob("*/state.safetensors"))


def tree(folder: str) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def test_seeds_and_names_add_up_and_a_diverged_seed_stands_beside_the_others(
    stage: Callable[..., Stage], faces: Faces
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
        r"stacked, norm none, relu, seed 0: diverged, reconstruction became (nan|inf) in epoch 1",
        told[2],
    )
    one, other, wild = (tree(f"models/{name}") for name in ("one", "other", "wild"))
    assert one == other
    assert {*one} == {f"described/seed0/{name}" for name in OUTPUTS}
    own = {f"described/seed0/{name}" for name in ("diverged.json", "curve.csv", "machine.json")}
    assert {*wild} == own
    assert json.loads(wild["described/seed0/diverged.json"])["epoch"] == 1
    path = Path("models/one/described/seed0/averaged.safetensors")
    checkpoint.load_trained(path, training(faces), "averaged")

    configure("one", seeds=(0, 3))
    status, output, errors = stage("one").ends()
    assert (status, errors) == (0, "")
    assert [line.partition(":")[0] for line in output.splitlines()] == [
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
    finished = kept.obtain(training(faces, seed=1), faces)
    configure("other", seeds=(1,))
    process = stage("one", "other")
    state = kept.finished(training(faces, epochs=LONG)).with_name("state.safetensors")
    process.wait_for(state.exists)
    process.workers()[0].kill()
    status, output, errors = process.ends()
    assert (status, output) == (1, "")
    assert re.fullmatch(
        r"error: one of 1 training processes was killed, most likely for lack of memory; "
        r"`dvc repro` goes on from the last finished epoch of each training, "
        r"RECURSIVE_AUTOENCODER_CORES=N lets it train N at a time\n",
        errors,
    )
    assert finished.exists() and state.exists()
    assert not Path("models").exists()


@pytest.mark.slow
def test_killed_at_twenty_moments_it_ends_with_the_same_bytes(
    stage: Callable[..., Stage], faces: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure("one", seeds=(0, 1), epochs=LONG, norm="shared")
    rng, reached = np.random.default_rng(0), [0]

    def epoch() -> int:
        states = Path(".dvc/trainings").glob("*/state.safetensors")
        return max((kept._epoch(state) for state in states), default=0)

    for _ in range(20):
        process = stage("one")
        process.wait_for(lambda: epoch() > reached[-1])
        time.sleep(rng.uniform(0, 0.3))
        os.killpg(process.pid, signal.SIGKILL)
        process.ends()
        reached.append(epoch())
        assert not Path("models").exists()
    epochs = reached[-1] + 2
    configure("one", seeds=(0, 1), epochs=epochs, norm="shared")
    status, _, errors = stage("one").ends()
    assert (status, errors) == (0, "")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "undisturbed"))
    for seed in (0, 1):
        whole = kept.obtain(training(faces, seed, epochs=epochs, norm="shared"), faces)
        expected = {path.name: path.read_bytes() for path in whole.iterdir()}
        assert tree(f"models/one/described/seed{seed}") == expected


def test_an_interrupt_ends_all_in_two_seconds_with_one_line(stage: Callable[..., Stage]) -> None:
    configure("one", seeds=(0, 1), epochs=LONG)
    process = stage("one")
    process.wait_for(begun)
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


def test_a_stage_ends_with_its_dvc_and_leaves_no_model(
    stage: Callable[..., Stage], tmp_path: Path
) -> None:
    """As dvc runs a stage: through a shell that waits for it."""
    configure("one", epochs=LONG)
    script = tmp_path / "dvc"
    script.write_text(
        "import subprocess, sys\n"
        "subprocess.run(' '.join(sys.argv[1:]) + '; echo ended', shell=True)\n",
        encoding="utf-8",
    )
    dvc = stage("one", before=(sys.executable, str(script)), DVC_STAGE="train-variant@one")
    dvc.wait_for(begun)
    assert len(dvc.processes) >= 4  # dvc, its shell, the stage, its worker
    dvc.kill()
    status, output, errors = dvc.ends(30)
    assert (status, output) == (-9, "ended\n")
    assert "error: what started this process is gone" in errors
    assert "Traceback" not in errors
    assert not Path("models").exists()


LATE = "the settings of one, the faces or the code changed while it was trained", True
EARLY = "the faces changed during the training", False  # the worker had not read them yet


@pytest.mark.parametrize(("changed", "ends"), [("settings", [LATE]), ("faces", [LATE, EARLY])])
def test_what_was_trained_for_other_settings_or_faces_is_not_put_in_place(
    stage: Callable[..., Stage], faces: Faces, changed: str, ends: list[tuple[str, bool]]
) -> None:
    configure("one")
    home = kept.finished(training(faces)).parent
    home.mkdir(parents=True)
    with FileLock(home / "lock"):  # the training waits for whoever has it
        process = stage("one")
        process.wait_for(process.workers)
        if changed == "settings":
            configure("one", lr=0.002)
        else:
            np.save("others.npy", faces.images[::-1])
            os.replace("others.npy", "data/faces.npy")
    status, _, errors = process.ends()
    assert status == 1
    whole = kept.is_whole(kept.finished(training(faces)), training(faces))
    assert (errors, whole) in [(f"error: {told}; run `dvc repro` again\n", k) for told, k in ends]
    assert not tree("models")


@pytest.mark.slow
def test_a_killed_group_goes_on_to_the_same_bytes(
    stage: Callable[..., Stage], faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"epochs": 12, "norm": "batch"}
    configure("one", seeds=(0, 1), **changes)
    process = stage("one")
    process.wait_for(begun)
    os.killpg(process.pid, signal.SIGKILL)
    process.ends()
    assert not Path("models").exists()
    status, _, errors = stage("one").ends()
    assert (status, errors) == (0, "")
    monkeypatch.setenv("DVC_ROOT", "in_one_go")
    for seed in (0, 1):
        expected = kept.obtain(training(faces, seed, **changes), faces)
        assert tree(f"models/one/described/seed{seed}") == tree(str(expected))


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ("gpu", "is 'gpu': it should be auto, cpu or cuda"),
        pytest.param(
            "cuda",
            "is cuda, but PyTorch finds no GPU here; auto takes the CPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_a_device_that_is_not_there_is_told_in_one_line(
    stage: Callable[..., Stage], chosen: str, told: str
) -> None:
    configure("one")
    status, output, errors = stage("one", **{DEVICE: chosen}).ends()
    assert (status, output, errors) == (1, "", f"error: {DEVICE} {told}\n")
    assert not Path("models").exists()


def test_the_device_is_the_machine_s_choice(
    stage: Callable[..., Stage], faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training on the CPU is the same one, whatever chose the CPU."""
    configure("one")
    assert stage("one", **{DEVICE: "cpu"}).ends()[0] == 0
    found = kept.finished(training(faces))
    assert kept.is_whole(found, training(faces))
    monkeypatch.setenv(DEVICE, "cpu")
    machine = json.loads((found / "machine.json").read_text(encoding="utf-8"))
    assert machine == kept.machine()


@pytest.mark.slow
def test_where_a_file_can_grow_no_further_one_line_says_so(
    stage: Callable[..., Stage], faces: Faces
) -> None:
    """As on a full disk, but that the limit is of the processes."""
    configure("one")
    limit = ("bash", "-c", 'ulimit -f 1000; exec "$@"', "bash")
    status, output, errors = stage("one", before=limit).ends()
    assert (status, output) == (1, "")
    assert "File too large" in errors and errors.count("\n") == 1
    assert not Path("models").exists()
    assert {*tree(".dvc/trainings")} == {
        f"{kept.finished(training(faces)).parent.name}/{name}" for name in ("identity.json", "lock")
    }
    assert stage("one").ends()[0] == 0


# An optimiser whose memory cannot be had, in every process: what a GPU does when it is full.
FULL_GPU = """
import torch

def full(*_, **__):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

torch.optim.Adam.__init__ = full
"""


def test_a_full_gpu_is_told_with_what_to_lower(stage: Callable[..., Stage], tmp_path: Path) -> None:
    configure("one")
    (tmp_path / "sitecustomize.py").write_text(FULL_GPU, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    status, output, errors = stage("one", PYTHONPATH=path).ends()
    assert (status, output) == (1, "")
    assert errors == (
        "error: the GPU's memory does not hold a training with batches of 16; lower "
        f"train.batch_size, or set {DEVICE}=cpu\n"
    )
    assert not Path("models").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "usage: python -m stages.train_variant VARIANT ... | --all"),
        (("two",), "configs/variants/two.yaml, which `dvc repro configure` writes, does not exist"),
        (("../one",), "'../one' is no variant's name"),
        (("one",), "big: 40 faces to train on are fewer than a batch of 64; lower its batch_size"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_told_before_anything_is(
    stage: Callable[..., Stage],
    words: tuple[str, ...],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from stages import train_variant

    configure("one")
    if words == ("one",):
        configure("big", batch_size=64)
    with pytest.raises(SystemExit) as caught:
        train_variant.main(*words)
    assert caught.value.code == 1
    errors = capsys.readouterr().err
    assert errors.startswith(f"error: {told}") and errors.count("\n") == 1
    assert not Path(".dvc").exists() and not Path("models").exists()
