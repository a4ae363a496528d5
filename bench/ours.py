"""This project's training, timed: `stages.model.training.Trainer` itself, one thread a seed, as
many seeds side by side as there are threads to use.

    .venv/bin/python -m bench.ours [--formulation plain | compiled]
"""

import argparse
import math
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from threading import Barrier

import numpy as np
import torch

from bench import contender
from bench.contender import BATCH
from stages.common import memory
from stages.common.settings import ModelSettings, Training
from stages.data.faces import Faces
from stages.kernels.operations import SWITCH
from stages.model import losses, training

FORMULATIONS = ("kernels", "plain", "compiled")
ready: Barrier


def join(barrier: Barrier, formulation: str) -> None:
    global ready
    ready = barrier
    memory.keep_freed()
    if formulation == "compiled":
        losses.from_level = torch.compile(losses.from_level)


def settings(name: str, epochs: int) -> Training:
    own = ModelSettings(training=name, epochs=epochs, batch_size=BATCH, lr=0.001)
    return Training(settings=own, seed=0, faces="")


def some_faces(path: str, batches: int) -> Faces:
    """So many batches to train on, and one face that is held out."""
    images = np.load(path, mmap_mode="r")[: 1 + batches * BATCH]
    splits = np.array(["test", *["train"] * (len(images) - 1)])
    names = np.arange(len(splits)).astype(str)
    return Faces(images, names, names, splits)


def train_seed(name: str, seed: int, faces_path: str, batches: int) -> int:
    """Train one seed for about so many batches; returns the number of images trained on."""
    ready.wait()  # so that every process takes one seed
    epochs = math.ceil(batches * BATCH / (len(np.load(faces_path, mmap_mode="r")) - 1))
    steps = batches // epochs
    planned = settings(name, epochs).model_copy(update={"seed": seed})
    trainer = training.Trainer(planned, some_faces(faces_path, steps))
    for _ in range(epochs):
        trainer.run_epoch()
    return epochs * steps * BATCH


def main() -> None:
    parser: argparse.ArgumentParser = contender.parser(__doc__.split(":")[0])
    parser.add_argument("--faces", default="data/faces.npy")
    parser.add_argument("--formulation", choices=FORMULATIONS, default="kernels")
    arguments = parser.parse_args()
    if arguments.formulation != "kernels":
        os.environ[SWITCH] = "0"
    context, seeds = get_context("spawn"), range(arguments.threads)
    prepared = context.Barrier(len(seeds)), arguments.formulation
    with ProcessPoolExecutor(len(seeds), context, join, prepared) as pool:

        def train(name: str, batches: int) -> int:
            jobs = [pool.submit(train_seed, name, k, arguments.faces, batches) for k in seeds]
            return sum(job.result() for job in jobs)

        contender.contend(train)


if __name__ == "__main__":
    main()
