"""Trainings on the machines of a Dask cluster, to the same bytes as on this one.

    dask scheduler                                              # on one machine
    PYTHONPATH=. dask worker SCHEDULER --nworkers -1 --nthreads 1 --memory-limit 0   # on each
    DASK_SCHEDULER_ADDRESS=SCHEDULER python -m stages.train_variant --all

Workers start in a checkout of the same code; a worker with other code refuses. Each gets the faces
once and holds them in memory (0.7 GB, beside about 1 GB for a training), and keeps its trainings.
"""

from collections.abc import Generator, Mapping
from concurrent.futures import CancelledError, Future, as_completed
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from stages.common.errors import PipelineError
from stages.common.settings import Training
from stages.data import faces
from stages.data.faces import Faces
from stages.model import side_by_side, store

try:
    from distributed import Client
except ImportError:
    raise PipelineError(
        "DASK_SCHEDULER_ADDRESS is set and Dask is not installed; `pip install distributed`, or "
        "unset it to train on this machine"
    ) from None

PATIENCE = 30  # seconds until a scheduler answers, and until a worker is there
# A worker's death cancels all trainings where it alone still had the faces: of copies that no
# training waits for, the scheduler keeps one.
ROUNDS = 3
one_at_a_time = Lock()  # torch's random state is the whole process's


def obtain_each(missing: Mapping[Path, Training], address: str) -> Generator[Path, None, None]:
    """Put the outputs of every training into its folder; yield each folder when it is there.

    A training whose worker dies goes to another, up to three times. Raises PipelineError where no
    scheduler or worker answers and, after all others are there, where trainings have failed.
    """
    failed: list[str] = []
    left = dict(missing)
    for _ in range(ROUNDS):
        lost: dict[Path, Training] = {}
        with _connected(address) as client:
            # Scattered data goes through a worker once. As a plain array it is sent without a copy.
            people = faces.load()
            sent = replace(people, images=np.asarray(people.images))
            [scattered] = client.scatter([sent], broadcast=True, hash=False)
            submit = client.get_executor(pure=False).submit
            futures: dict[Future[dict[str, bytes]], Path] = {
                submit(_train, training, scattered, store.identity(training)): folder
                for folder, training in left.items()
            }
            for future in as_completed(futures):
                folder = futures[future]
                try:
                    _put(folder, left[folder], future.result())
                except CancelledError:
                    lost[folder] = left[folder]
                except Exception as error:
                    failed.append(f"seed {left[folder].seed}: {type(error).__name__} {error}")
                else:
                    yield folder
        left = lost
        if not left:
            break
    failed += [f"seed {training.seed}: its workers died" for training in left.values()]
    if failed:
        raise PipelineError(
            f"{len(failed)} of {len(missing)} trainings failed on the workers of {address}, first "
            f"{failed[0]}; the others are kept, run the same again for these"
        )


def _connected(address: str) -> Client:
    try:
        client = Client(address, timeout=PATIENCE)
        client.wait_for_workers(1, timeout=PATIENCE)
        return client
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"no Dask scheduler with a worker answers at {address} ({error}); start them or unset "
            "DASK_SCHEDULER_ADDRESS"
        ) from None


def _train(training: Training, people: Faces, identity: dict[str, Any]) -> dict[str, bytes]:
    """On a worker: the files of a finished training's folder, by name."""
    if store.identity(training) != identity:
        raise PipelineError("this worker has other code or kernels than what sent the training")
    people.images.setflags(write=False)
    with one_at_a_time:
        outputs = side_by_side.obtain(training, people)
    return {path.name: path.read_bytes() for path in outputs.iterdir()}


def _put(folder: Path, training: Training, files: Mapping[str, bytes]) -> None:
    with store.locked(training):
        if store.is_whole(folder, training):  # the worker has the same folder
            return
        with store.unfinished(folder, training) as to:
            for name, content in files.items():
                (to / name).write_bytes(content)
