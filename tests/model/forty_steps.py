"""Hashes of every model's tensors after some forty steps: `python -m tests.model.forty_steps`.

Prints one line for each model of params.yaml, as described and as released, but for the candidate
and for those that are others with more epochs.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from stages.common.settings import CANDIDATE, Training, read_params
from stages.data.faces import Faces
from stages.model.network import state
from stages.model.training import Trainer

EPOCHS = 10
FACES = 141  # every eleventh is held out: four batches of 32 an epoch


def drawn_faces() -> Faces:
    """Random smooth pictures of 128 x 128 pixels that depend on nothing but numpy's generator."""
    small = np.random.default_rng(1).integers(0, 256, (FACES, 8, 8, 3), np.uint8)
    names = np.array([f"Name_{row}" for row in range(FACES)])
    splits = np.array(["train" if row % 11 else "test" for row in range(FACES)])
    return Faces(small.repeat(16, 1).repeat(16, 2), names, names, splits)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of tensors with their names, shortened."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return whole.hexdigest()[:16]


def main() -> None:
    faces = drawn_faces()
    for name, variant in read_params().variants.items():
        for implementation, settings in variant.models().items():
            if name == CANDIDATE or settings.epochs > EPOCHS:
                continue
            trainer = Trainer(Training(settings=settings, seed=0, faces=faces.hash), faces)
            trainer.average.decay = settings.averaging  # as in a training of more steps
            while trainer.epoch < settings.epochs:
                trainer.run_epoch()
            hashes = digest(state(trainer.model)), digest(state(trainer.average.model))
            print(f"{name} {implementation}: {' '.join(hashes)}", flush=True)


if __name__ == "__main__":
    main()
