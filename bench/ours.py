"""This project's training, timed: `stages.model.training.train` itself, one thread a seed, as many
seeds side by side as there are threads to use.

    .venv/bin/python -m bench.ours
"""

import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from threading import Barrier

import numpy as np

from bench import contender
from bench.contender import BATCH
from stages.common import memory
from stages.common.settings import ModelSettings
from stages.data.faces import Faces
from stages.model import training

ready: Barrier


def join(barrier: Barrier) -> None:
    global ready
    ready = barrier


def train_seed(name: str, seed: int, faces_path: str, batches: int) -> int:
    """Train one seed for about so many batches; returns the number of images trained on."""
    memory.keep_freed()
    ready.wait()  # so that every process takes one seed
    images = np.load(faces_path, mmap_mode="r")
    epochs = math.ceil(batches * BATCH / (len(images) - 1))
    steps = batches // epochs
    splits = np.array(["test", *["train"] * (steps * BATCH)])
    names = np.arange(len(splits)).astype(str)
    faces = Faces(images[: len(splits)], names, names, splits)
    settings = ModelSettings(
        name=name,
        training=name,
        norm="none",
        activation="selu",
        variational=False,
        wiring="described",
        epochs=epochs,
        batch_size=BATCH,
        lr=0.001,
        seeds=[seed],
    )
    training.train(settings, seed, faces)
    return epochs * steps * BATCH


def main() -> None:
    parser = contender.parser(__doc__.split(":")[0])
    parser.add_argument("--faces", default="data/faces.npy")
    arguments = parser.parse_args()
    context, seeds = get_context("spawn"), range(arguments.threads)
    barrier = context.Barrier(len(seeds))
    with ProcessPoolExecutor(len(seeds), context, join, (barrier,)) as pool:

        def train(name: str, batches: int) -> int:
            jobs = [pool.submit(train_seed, name, k, arguments.faces, batches) for k in seeds]
            return sum(job.result() for job in jobs)

        contender.contend(train)


if __name__ == "__main__":
    main()
