"""What each training takes: seconds of a core an epoch, and memory between forward and backward.

`python -m studies.pace` measures every variant and every training of `longer`, one after another,
each alone: the fastest of ROUNDS times STEPS steps, in CPU time, as whatever disturbs a step makes
it slower. It writes reports/studies/pace.csv. Run nothing beside it.
"""

import gc
import os
import sys
import time
from unittest.mock import patch

import pandas as pd
import torch

from stages.common.entry import entry_point
from stages.common.settings import ModelSettings, Training, configured, read_variant
from stages.data import faces
from stages.data.faces import Faces
from stages.kernels.operations import SWITCH
from stages.model.losses import parts
from stages.model.network import Autoencoder
from stages.model.store import machine
from stages.model.training import Trainer
from stages.report.studies import SAME
from studies.shared import write

STEPS, ROUNDS = 20, 5
IMAGES = 16
SIZES = (64, 128, 256)  # pixels a side, of pictures behind the memory
MEMORY = tuple(f"mib_{size}" for size in SIZES)  # of an image
TABLE = ("variant", "milliseconds", "batch_size", "epoch_seconds", *MEMORY, "processor")


@entry_point
def main() -> None:
    from studies.longer import ARMS, settings_of  # which reads what this writes

    people = faces.load()
    timed = {name: read_variant(name).models()["described"] for name in configured()}
    timed |= {name: settings_of(arm, 10) for name, arm in ARMS.items() if name not in SAME}
    processor = "{processor}, {vectors}".format_map(machine())
    rows = []
    for name, settings in timed.items():
        step = seconds_a_step(settings, people)
        steps = len(people.rows("train")) // settings.batch_size
        held = [mebibytes(settings.model_copy(update={"size": size})) for size in SIZES]
        rows.append((name, 1000 * step, settings.batch_size, steps * step, *held, processor))
        print(f"{name}: {1000 * step:.1f} ms", flush=True)
    write("pace", pd.DataFrame(rows, columns=[*TABLE]))


def seconds_a_step(settings: ModelSettings, people: Faces) -> float:
    """CPU time of a training step of one thread, on average over the epochs."""
    part = settings.stacked_epochs / settings.epochs
    kinds = [(stacked, share) for stacked, share in ((False, 1 - part), (True, part)) if share]
    return sum(share * _timed(settings, people, stacked) for stacked, share in kinds)


def _timed(settings: ModelSettings, people: Faces, stacked: bool) -> float:
    gc.collect()  # the trainer before, which refers to itself
    trainer = Trainer(Training(settings=settings, seed=0, faces=people.hash), people)
    trainer.model.train()
    trainer.stacked = stacked
    trainer.batch.copy_(torch.from_numpy(trainer.rows[: settings.batch_size]))
    taken = []
    for _ in range(1 + ROUNDS):  # the first compiles
        started = time.process_time()
        for _ in range(STEPS):
            trainer.take_step()
        taken.append((time.process_time() - started) / STEPS)
    return min(taken)


def mebibytes(settings: ModelSettings) -> float:
    """What a training step keeps of an image between forward and backward.

    What counts are the tensors, but no weights, that autograd saves in the plain formulation, and
    the most of them at a time: a recursive step drops those of a level before the next level.
    """
    model = Autoencoder(settings).train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    images = torch.rand(IMAGES, 3, model.size, model.size)
    kept, most = dict[int, torch.UntypedStorage](), 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    plain = patch.dict(os.environ, {SWITCH: "0"})
    with plain, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        for stacked in {False, settings.stacked_epochs > 0}:
            for _ in parts(model, images, stacked):
                most = max(most, sum(storage.nbytes() for storage in kept.values()))
                kept.clear()
    return most / IMAGES / 2**20


if __name__ == "__main__":
    main(*sys.argv[1:])
