"""Several trainings at a time: a process each, or on the workers of a Dask scheduler."""

import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import RLock

import torch
from tqdm import tqdm

from stages.common import memory
from stages.common.errors import PipelineError
from stages.common.processes import end_with_parent
from stages.common.settings import Training
from stages.common.workers import run_each
from stages.data import faces
from stages.model import kept
from stages.model.network import DEVICE, device

GPU_MEMORY = 2 * 2**30  # bytes that a training may take there beside all faces


def obtain_all(trainings: Sequence[Training]) -> list[Path]:
    """The folder of each training's outputs: what is kept already, and the rest trained now.

    As many at a time as there are cores, or as a GPU's memory carries; through a Dask scheduler
    where DASK_SCHEDULER_ADDRESS names one. What became of each is printed as soon as it is known.
    Raises PipelineError where a process was killed: the trainings that ended are kept, and the
    others go on from their last epoch the next time.
    """
    found = [kept.finished(training) for training in trainings]
    missing = {
        folder: training
        for folder, training in zip(found, trainings, strict=True)
        if not kept.is_whole(folder, training)
    }
    if missing:
        with closing(_each(missing)) as folders:
            for folder in folders:
                print(_told(missing[folder], folder), flush=True)
    return found


def _each(missing: Mapping[Path, Training]) -> Generator[Path, None, None]:
    """Train what is missing; yields every folder as soon as it is there."""
    if address := os.environ.get("DASK_SCHEDULER_ADDRESS"):
        from stages.model import on_dask  # Dask need not be installed

        yield from on_dask.obtain_each(missing, address)
        return
    workers = min(len(missing), room())
    tasks = [
        partial(_obtain, training, number % workers)
        for number, training in enumerate(missing.values())
    ]
    killed = (
        f"one of {workers} training processes was killed, most likely for want of memory; "
        "`dvc repro` goes on from the last finished epoch of each training"
    )
    yield from run_each(tasks, workers, _begin, killed)


def room() -> int:
    """How many trainings this machine carries at a time: by its cores or its GPU's free memory."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if device().type == "cpu":
        return cores
    free, _ = torch.cuda.mem_get_info()
    return max(1, min(cores, free // (GPU_MEMORY + faces.load().images.nbytes)))


def _begin() -> None:
    end_with_parent()
    memory.keep_freed()
    tqdm.set_lock(RLock())  # its own is the system's, and a killed worker's is told as leaked


def _obtain(training: Training, position: int) -> Path:
    try:
        return kept.obtain(training, faces.load(), position)
    except torch.cuda.OutOfMemoryError:
        raise PipelineError(
            f"the GPU's memory does not hold a training with batches of "
            f"{training.settings.batch_size}; lower train.batch_size, or set {DEVICE}=cpu"
        ) from None


def _told(training: Training, folder: Path) -> str:
    settings = training.settings
    name = f"{settings.training}, norm {settings.norm}, {settings.activation}"
    name += ", variational" if settings.variational else ""
    name += ", as released" if settings.implementation == "released" else ""
    name += f", seed {training.seed}: "
    if (folder / "diverged.json").exists():
        told = json.loads((folder / "diverged.json").read_text(encoding="utf-8"))
        return f"{name}diverged, {told['loss']} became {told['value']} in epoch {told['epoch']}"
    *_, error, averaged = (folder / "curve.csv").read_text(encoding="utf-8").splitlines()
    last, mean = (float(line.split(",")[-1]) for line in (error, averaged))
    return f"{name}held-out error {last:.0f}, averaged weights {mean:.0f}"
