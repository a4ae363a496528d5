"""What the contenders of the benchmark share: a command line, and how they are asked to train."""

import argparse
import sys
from collections.abc import Callable

BATCH = 32
SIZE = 128  # pixels a side
CHANNELS = (3, 6, 12, 24, 48, 96, 192, 384)  # of the image, and of each encoder level's output
TRAININGS = ("recursive", "stacked")
# Trains so many batches and returns how many images that were.
Train = Callable[[str, int], int]


def parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def contend(train: Train) -> None:
    """Warm `train` up and say "ready"; then do what the lines of stdin ask for.

    Every line is "<training> <batches>" and answered, once that has been trained, with the number
    of images: bench/run.py holds the watch and alternates contenders.
    """
    for training in TRAININGS:
        train(training, 3)
    print("ready", flush=True)
    for line in sys.stdin:
        training, batches = line.split()
        print(train(training, int(batches)), flush=True)
