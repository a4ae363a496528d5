"""Which half makes the difference: do encoders lose what decoders need, or do decoders fail?

`python -m studies.frozen` takes encoders of `longer`, trained for as long as they are there, and
encoders with random weights. It holds them still and trains decoders end to end on them, EPOCHS
epochs with a cosine: fresh ones, and the model's own, which go on.

Decoders of recursive training learn from activations, and in use are given recreations. What their
error loses when they go on end to end is what that costs. What it does not lose, against stacked,
is in the encoders. Results: reports/studies/frozen.csv, and the report.

What is asked was fixed in git before any result of decoders that go on: how far does the error fall
for recursive encoders, how far for stacked ones, and which ends lower?
"""

import math
import sys
from functools import partial
from pathlib import Path

import pandas as pd
from torch import nn

from stages.common.entry import entry_point
from stages.common.settings import Training
from stages.data import faces
from stages.model import checkpoint, store
from stages.model.network import device
from stages.model.training import Batches, Diverged, Trainer, held_out_error
from stages.report.studies import DECODERS, short_hash
from studies.longer import ARMS, settings_of
from studies.shared import obtained, side_by_side, write

ENCODERS = ("recursive_cosine", "stacked_cosine")
SEEDS = 2  # of the arms' seeds, the first
EPOCHS = 10  # of the decoders, with a cosine


@entry_point
def main() -> None:
    people = faces.load()
    seeds = ARMS[ENCODERS[0]].seeds[:SEEDS]
    tasks = [partial(errors, "random", seed, None) for seed in seeds]
    for name in ENCODERS:
        settings = settings_of(ARMS[name], ARMS[name].epochs[-1])
        tasks += [
            partial(errors, name, training.seed, folder)
            for training, folder in obtained([settings], seeds, people)
            if not store.divergence(folder)
        ]
    rows = [(short_hash(people.hash), *row) for row in sorted(side_by_side(tasks))]
    write("frozen", pd.DataFrame(rows, columns=["faces", "variant", "seed", *DECODERS]))


def errors(name: str, seed: int, folder: Path | None) -> tuple[str, int, float, float, float]:
    """Name, seed, and the held-out errors with DECODERS; random encoders have a fresh one alone."""
    if folder is None:
        own, fresh, gone_on = math.nan, after_training(seed), math.nan
    else:
        model, _ = checkpoint.load(folder / "averaged.safetensors")
        people = faces.load()
        own = held_out_error(model, Batches(people, device()), people.rows("test"))
        fresh = after_training(seed, encoder=model.encoder)
        gone_on = after_training(seed, encoder=model.encoder, decoder=model.decoder)
    found = f"own {own:.0f}, fresh {fresh:.0f}, gone on {gone_on:.0f}"
    print(f"{name}, seed {seed}: {found}", flush=True)
    return name, seed, own, fresh, gone_on


def after_training(seed: int, **halves: nn.Module) -> float:
    """The held-out error of a decoder trained end to end on an encoder that stands still. Halves
    that are not given have new weights."""
    people, settings = faces.load(), settings_of(ARMS["stacked_cosine"], EPOCHS)
    trainer = Trainer(Training(settings=settings, seed=seed + 1000, faces=people.hash), people)
    for name, half in halves.items():
        trainer.model.get_submodule(name).load_state_dict(half.state_dict())
    trainer.model.encoder.requires_grad_(False)
    group = trainer.optimizer.param_groups[0]
    group["params"] = [one for one in group["params"] if one.requires_grad]
    try:
        while trainer.epoch < settings.epochs:
            trainer.run_epoch()
    except Diverged:
        return math.inf
    return held_out_error(trainer.average.model, trainer.batches, trainer.held_out)


if __name__ == "__main__":
    main(*sys.argv[1:])
