"""Several trainings at a time: a process for each, or on the workers of a Dask scheduler."""

import gc
import os
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from itertools import cycle
from pathlib import Path
from threading import RLock

import torch
from tqdm import tqdm

from stages.common.cores import CORES, cores
from stages.common.errors import PipelineError
from stages.common.processes import run_each
from stages.common.settings import WEIGHTS, Training
from stages.data import faces
from stages.data.faces import Faces
from stages.model import store
from stages.model.network import DEVICE, device, state
from stages.model.training import Diverged, Trainer

LOADED = store.code()  # what this process runs, whatever is edited while it does
EDITED = "the code that decides weights was edited after this process had begun; run it again"
GPU_MEMORY = 2 * 2**30  # bytes that a training may take there beside all faces


def obtain_all(trainings: Sequence[Training]) -> list[Path]:
    """The folder of each training's outputs. What is not kept is trained now.

    As many at a time as there are cores, or as a GPU's memory carries; through a Dask scheduler
    where DASK_SCHEDULER_ADDRESS names one. Prints each result when it is there. Raises
    PipelineError where a process was killed; the next time each goes on from its last epoch.
    """
    outputs = [store.finished(training) for training in trainings]
    missing = {
        folder: training
        for folder, training in zip(outputs, trainings, strict=True)
        if not store.is_whole(folder, training)
    }
    if not missing:
        return outputs
    if address := os.environ.get("DASK_SCHEDULER_ADDRESS"):
        from stages.model import on_dask  # Dask need not be installed

        trained = on_dask.obtain_each(missing, address)
    else:
        workers = min(len(missing), room())
        tasks = [
            partial(_obtain, *task, LOADED) for task in zip(missing.values(), cycle(range(workers)))
        ]
        killed = (
            f"one of {workers} training processes was killed, most likely for lack of memory; "
            f"`dvc repro` goes on from the last finished epoch of each training, {CORES}=N lets it "
            "train N at a time"
        )
        trained = run_each(tasks, workers, share_no_lock, killed)
    with closing(trained) as folders:
        for folder in folders:
            print(_result(missing[folder], folder), flush=True)
    return outputs


def room() -> int:
    """How many trainings this machine carries at a time: by its cores or its GPU's free memory."""
    if device().type == "cpu":
        return cores()
    free, _ = torch.cuda.mem_get_info()
    return max(1, min(cores(), free // (GPU_MEMORY + faces.load().images.nbytes)))


def share_no_lock() -> None:
    """What a process of `run_each` does first, where trainings show their progress."""
    tqdm.set_lock(RLock())  # of the default lock, Python would say that a killed worker leaked it


def _obtain(training: Training, position: int, code: str) -> Path:
    if code != LOADED:  # another branch was checked out before this worker had loaded it
        raise PipelineError(EDITED)
    try:
        return obtain(training, faces.load(), position)
    except torch.cuda.OutOfMemoryError:
        raise PipelineError(
            f"the GPU's memory does not hold a training with batches of "
            f"{training.settings.batch_size}; lower train.batch_size, or set {DEVICE}=cpu"
        ) from None


def obtain(training: Training, faces: Faces, position: int = 0) -> Path:
    """The folder of a training's outputs. What is not kept is trained, from the last state on.

    A finished training may come from any machine. A begun training goes on only on the same kind
    of machine, to the same bytes as without the interruption. Waits while another process trains
    it. Raises PipelineError for other faces, and where the code on disk is not what runs here.
    """
    if store.code() != LOADED:
        raise PipelineError(EDITED)
    if faces.hash != training.faces:
        raise PipelineError("the faces changed during the training; run `dvc repro` again")
    with store.locked(training) as folder:
        if store.is_whole(folder, training):
            return folder
        gc.collect()  # a trainer refers to itself: without this, a process keeps several
        trainer = Trainer(training, faces, position)
        parameters = trainer.optimizer.param_groups[0]["params"]
        begun = store.read_state(folder, training, trainer.state(), parameters)
        reached = begun[1]["epoch"] if begun else 0
        if begun and reached <= training.settings.epochs:
            trainer.restore(*begun)
        diverged = ""
        try:
            while trainer.epoch < training.settings.epochs:
                trainer.run_epoch()
                if trainer.epoch > reached:
                    store.write_state(folder, training, trainer.state())
        except Diverged as error:
            diverged = str(error)
        models = dict(zip(WEIGHTS, map(state, (trainer.model, trainer.average.model)), strict=True))
        if not all(value.isfinite().all() for model in models.values() for value in model.values()):
            diverged = diverged or f"a weight became no number in epoch {trainer.epoch}"
        store.write(folder, training, trainer.curve, models, diverged)
    return folder


def _result(training: Training, folder: Path) -> str:
    """A line about a finished training."""
    settings = training.settings
    name = f"{settings.training}, norm {settings.norm}, {settings.activation}"
    name += ", variational" * settings.variational
    name += ", as released" * (settings.implementation == "released")
    if diverged := store.divergence(folder):
        return f"{name}, seed {training.seed}: diverged, {diverged}"
    *_, (*_, error), (*_, averaged) = store.read_curve(folder)
    errors = f"held-out error {error:.0f}, averaged weights {averaged:.0f}"
    return f"{name}, seed {training.seed}: {errors}"
