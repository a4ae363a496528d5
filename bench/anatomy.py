"""Where the time of a training step goes: by level and kind of operation, on one thread.

.venv/bin/python -m bench.anatomy
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from bench.contender import BATCH, CHANNELS, SIZE, TRAININGS
from bench.ours import settings, some_faces
from stages.common import memory
from stages.kernels import convolutions, pointwise
from stages.model import averaging, training

STEPS = 30  # at most
# Kinds of operations, and the kernels (or what makes them) that do them.
MADE = {
    "convolution": ("convolution",),
    "image's gradient": ("input_gradient",),
    "weight's gradient": ("weight_gradient", "outer_weight_gradient"),
}
PLAIN = {
    "weight's gradient": (convolutions, ("channels_last",)),
    "activation": (pointwise, ("activation_gradient",)),
    "error": (pointwise, ("recreation_error", "squared_error")),
}
# How often a level's multiplications are done in a step, for each kind. Recursive training needs no
# gradient of any encoder level's input, stacked training none of the images.
TIMES = {
    "recursive": {"convolution": 2, "image's gradient": 1, "weight's gradient": 2},
    "stacked": {"convolution": 2, "image's gradient": 2, "weight's gradient": 2},
}
Seconds = dict[tuple[int, str], float]


def flops_of_level(level: int) -> int:
    """Floating-point operations of one of its convolutions, for each image."""
    kernel = 5 if level == 1 else 3
    pairs = CHANNELS[level - 1] * CHANNELS[level]
    return 2 * kernel**2 * pairs * (SIZE // 2**level) ** 2


def flops_of(name: str, level: int, kind: str) -> int:
    """Of all operations of a kind at a level in one step, for each image."""
    times = TIMES[name].get(kind, 0)
    unneeded = name == "stacked" and kind == "image's gradient" and level == 1
    return (times - unneeded) * flops_of_level(level)


def flops_per_image() -> dict[str, int]:
    """Floating-point operations of one training step, for each image."""
    levels = range(1, len(CHANNELS))
    return {
        name: sum(flops_of(name, level, kind) for level in levels for kind in TIMES[name])
        for name in TRAININGS
    }


def level_of(kind: str, arrays: tuple[Any, ...]) -> int:
    """The level whose convolution or whose output a kernel's arrays are of."""
    shapes = [x.shape for x in arrays if isinstance(x, np.ndarray)]
    for shape in shapes:
        if len(shape) == 4 and shape[2] == shape[3] and shape[3] in (3, 5):
            return CHANNELS.index(shape[0])
    if len(shapes[0]) == 1:  # flat, all of an image's values
        sizes = [channels * (SIZE // 2**k) ** 2 * BATCH for k, channels in enumerate(CHANNELS)]
        return sizes.index(shapes[0][0]) + 1
    level = CHANNELS.index(shapes[0][0])
    return level if kind == "activation" and level else level + 1


def watched(
    function: Callable[..., Any], kind: str, seconds: Seconds, of_a_level: bool = True
) -> Callable[..., Any]:
    """The function; what its calls take is added to `seconds`, by level (0: of none) and kind."""

    def call(*arguments: Any, **named: Any) -> Any:
        started = time.process_time()
        result = function(*arguments, **named)
        took = time.process_time() - started
        seconds[level_of(kind, arguments) if of_a_level else 0, kind] += took
        return result

    return call


def maker(make: Callable[..., Any], kind: str, seconds: Seconds) -> Callable[..., Any]:
    return lambda *tile: watched(make(*tile), kind, seconds)


@contextmanager
def timed(trainer: training.Trainer, seconds: Seconds) -> Iterator[None]:
    """Within, what the parts of a step take is added to `seconds`."""
    whole = {
        "whole step": (trainer, "take_step"),
        "Adam": (trainer.optimizer, "step"),
        "averaged weights": (averaging.Average, "update"),
        "gathering the batch": (training.Batches, "__call__"),
    }
    with ExitStack() as patches:

        def replace(owner: Any, name: str, wrap: Callable[..., Any], *how: Any) -> None:
            patches.enter_context(patch.object(owner, name, wrap(getattr(owner, name), *how)))

        for kind, names in MADE.items():
            for name in names:
                replace(convolutions, name, maker, kind, seconds)
        for kind, (room, names) in PLAIN.items():
            for name in names:
                replace(room, name, watched, kind, seconds)
        for kind, (owner, name) in whole.items():
            replace(owner, name, watched, kind, seconds, False)
        yield


def anatomy(name: str, faces_path: str) -> dict[str, Any]:
    """CPU seconds of a step: `total`, and `parts`, each with its level (0: none) and kind."""
    faces = some_faces(faces_path, STEPS)
    steps = len(faces.rows("train")) // BATCH
    trainer = training.Trainer(settings(name, 2), faces)
    trainer.run_epoch()  # warms up
    seconds: Seconds = defaultdict(float)
    with timed(trainer, seconds):
        trainer.run_epoch()
    total = seconds.pop((0, "whole step"))
    seconds[0, "the rest: autograd, Python"] = total - sum(seconds.values())
    parts = [
        {"level": level, "kind": kind, "ms": 1e3 * value / steps}
        for (level, kind), value in sorted(seconds.items())
    ]
    return {"total_ms": 1e3 * total / steps, "parts": parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", default="data/faces.npy")
    arguments = parser.parse_args()
    memory.keep_freed()
    torch.set_num_threads(1)
    print(json.dumps({name: anatomy(name, arguments.faces) for name in TRAININGS}))


if __name__ == "__main__":
    main()
