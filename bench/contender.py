"""What the contenders of the benchmark share: a command line, and how they are asked to train."""

import argparse
import json
import sys
import time
from collections.abc import Callable

import psutil

BATCH = 32
TRAININGS = ("recursive", "stacked")
# Trains so many batches and returns how many images that were.
Train = Callable[[str, int], int]


def parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, default=20, help="batches a measurement")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each training")
    parser.add_argument("--serve", action="store_true", help="train what is asked for on stdin")
    return parser


def contend(train: Train, arguments: argparse.Namespace) -> None:
    """Warm `train` up, then measure it; print start-up time (s) and images per second as JSON.

    With --serve instead answer every line "<training> <batches>" on stdin, once that has been
    trained, with the number of images: bench/run.py holds the watch and alternates contenders.
    """
    for training in TRAININGS:
        train(training, 3)
    startup = time.time() - psutil.Process().create_time()
    if arguments.serve:
        print(json.dumps({"startup_s": startup}), flush=True)
        for line in sys.stdin:
            training, batches = line.split()
            print(train(training, int(batches)), flush=True)
        return
    paces: dict[str, list[float]] = {training: [] for training in TRAININGS}
    for _ in range(arguments.repeats):
        for training in TRAININGS:
            started = time.perf_counter()
            images = train(training, arguments.batches)
            paces[training].append(images / (time.perf_counter() - started))
    memory = psutil.Process().memory_info()
    peak = getattr(memory, "peak_wset", None) or memory.rss
    print(json.dumps(paces | {"startup_s": startup, "memory_mb": peak / 2**20}))
