"""Finished trainings are kept, and begun ones go on: seeds add up, a kill costs an epoch at most.

A training lies in a folder named by the hash of what decides it: its settings, its seed, the faces,
the code of what decides weights, and whether the compiled kernels are on. The folders are beside
DVC's cache, `.dvc/trainings`, also for `dvc exp run --temp` and `--queue`, and can be copied to
another machine. In each:

    identity.json       what it is named by
    epochs<N>/          finished after N epochs: last_step.safetensors, averaged.safetensors,
                        curve.csv and machine.json; or diverged.json in place of the weights
    state.safetensors   all that the next epoch depends on, after the last finished one
"""

import csv
import gc
import hashlib
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open

from stages.common.errors import PipelineError
from stages.common.files import atomic, atomic_folder, number, write_text
from stages.common.settings import WEIGHTS, ModelSettings, Training
from stages.data.faces import Faces
from stages.kernels import operations
from stages.model import checkpoint
from stages.model.network import device, state
from stages.model.training import CurvePoint, Diverged, Trainer

STAGES = Path(__file__).parents[1]
# What decides weights, also what dvc.yaml's train-variant depends on.
CODE = (
    "data/faces.py",
    "kernels/*.py",
    *(f"model/{name}.py" for name in ("averaging", "losses", "network", "released", "replay")),
    "model/training.py",
)
LIBRARIES = ("torch", "numpy", "numba", "llvmlite")


def folder() -> Path:
    """Where trainings are kept: of the repository that dvc runs an experiment of."""
    return Path(os.environ.get("DVC_ROOT", "."), ".dvc", "trainings")


def identity(training: Training) -> dict[str, Any]:
    """What decides the weights of a training, whatever the machine, as JSON holds it.

    The number of epochs is left out where a longer training `goes_on`.
    """
    settings = training.settings.model_dump()
    if goes_on(training.settings):
        del settings["epochs"]
    return {
        "settings": settings,
        "seed": training.seed,
        "faces": training.faces,
        "code": _code(),
        "kernels": operations.kernels_on(),
    }


def goes_on(settings: ModelSettings) -> bool:
    """Whether a training of more epochs begins as one of these does: no schedule counts them."""
    return settings.schedule == "constant" and not settings.stacked_epochs


def _code() -> str:
    """The hash of the code that decides weights, as it lies on disk."""
    code = hashlib.sha256()
    for path in sorted(path for pattern in CODE for path in STAGES.glob(pattern)):
        code.update(f"{path.relative_to(STAGES).as_posix()}\n".encode() + path.read_bytes())
    return code.hexdigest()


LOADED = _code()  # what this process runs, whatever is edited while it does


def machine() -> dict[str, str]:
    """The processor or GPU, and the libraries that compute: what may move a weight's last bits."""
    gpu = torch.cuda.get_device_name() if device().type == "cuda" else ""
    found = {"processor": gpu or _processor(), "vectors": torch.backends.cpu.get_cpu_capability()}
    return found | {library: version(library) for library in LIBRARIES}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def finished(training: Training) -> Path:
    """The folder of this training's outputs, which need not be there yet."""
    text = json.dumps(identity(training), sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    return folder() / name / f"epochs{training.settings.epochs}"


def is_whole(folder: Path, training: Training) -> bool:
    """Whether a folder has all outputs of this training, undamaged."""
    if not all(_has_content(folder / name) for name in ("curve.csv", "machine.json")):
        return False
    if _has_content(folder / "diverged.json"):
        return True
    try:
        for weights in WEIGHTS:
            checkpoint.load_trained(folder / f"{weights}.safetensors", training, weights)
    except PipelineError:
        return False
    return True


def _has_content(path: Path) -> bool:
    """Whether there is more than the name, which may be all that a failing power supply leaves."""
    return path.exists() and path.stat().st_size > 0


def obtain(training: Training, faces: Faces, position: int = 0) -> Path:
    """The folder of the outputs of a training: kept, or trained now from where it was left.

    A finished training is taken whatever machine made it, a begun one is resumed on its own kind
    alone, to the same bytes as an uninterrupted one's. Whoever else trains it is waited for. Raises
    PipelineError for other faces, and where the code is no longer what this process runs.
    """
    if _code() != LOADED:
        raise PipelineError(
            "the code that decides weights was edited after this process had begun; run it again"
        )
    if faces.hash != training.faces:
        raise PipelineError("the faces changed during the training; run `dvc repro` again")
    found = finished(training)
    home = found.parent
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "lock"):
        if is_whole(found, training):
            return found
        write_text(home / "identity.json", json.dumps(identity(training), indent=2) + "\n")
        gc.collect()  # a trainer refers to itself: without this, a process keeps several
        trainer = Trainer(training, faces, position)
        _resume(trainer, home / "state.safetensors")
        diverged: Diverged | None = None
        try:
            while trainer.epoch < training.settings.epochs:
                trainer.run_epoch()
                _keep(trainer, home / "state.safetensors")
        except Diverged as error:
            diverged = error
        with atomic_folder(found) as unfinished:
            _write(trainer, training, diverged, unfinished)
    return found


def _write(trainer: Trainer, training: Training, diverged: Diverged | None, to: Path) -> None:
    with open(to / "curve.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(CurvePoint._fields)
        table.writerows((*point[:3], number(point.value)) for point in trainer.curve)
    write_text(to / "machine.json", json.dumps(machine(), indent=2) + "\n")
    if diverged:
        told = vars(diverged) | {"value": str(diverged.value)}  # JSON knows no nan
        write_text(to / "diverged.json", json.dumps(told, indent=2) + "\n")
        return
    models = (trainer.model, trainer.average.model)
    for weights, model in zip(WEIGHTS, models, strict=True):
        checkpoint.save(state(model), to / f"{weights}.safetensors", training, weights)


def _keep(trainer: Trainer, path: Path) -> None:
    """Write the state of a training, unless one that has come further on this machine is there."""
    tensors, values = trainer.state()
    if _epoch(path) >= trainer.epoch:
        return
    metadata = {"state": json.dumps(values), "machine": json.dumps(machine())}
    with atomic(path) as unfinished:
        checkpoint.write(tensors, unfinished, metadata)


def _resume(trainer: Trainer, path: Path) -> None:
    """Bring a fresh trainer to the state at `path`, where that is of use to it."""
    if not 0 < _epoch(path) <= trainer.settings.epochs:
        return
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        trainer.restore(tensors, json.loads(file.metadata()["state"]))


def _epoch(path: Path) -> int:
    """The epochs behind a state; 0 where there is none that this kind of machine can go on from."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        ours = json.loads(metadata["machine"]) == machine()
        return int(json.loads(metadata["state"])["epoch"]) if ours else 0
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return 0
