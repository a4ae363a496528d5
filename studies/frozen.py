"""Which half makes the difference: do encoders lose what decoders need, or do decoders fail?

`python -m studies.frozen` takes encoders of `longer`, trained for as long as they are there. It
holds them still and trains a fresh decoder end to end on each. Decoders of recursive training learn
from activations, and in use are given recreations. Where a fresh decoder has a lower error than the
model's own, that holds the model back. Where fresh decoders end apart, the encoders differ.
Results: reports/studies/frozen.csv, and the report.
"""

import math
import sys
from functools import partial
from pathlib import Path

from stages.common.entry import entry_point
from stages.common.files import atomic
from stages.common.processes import run_each
from stages.common.settings import Training
from stages.data import faces
from stages.model import checkpoint, store
from stages.model.side_by_side import obtain_all, room, share_no_lock
from stages.model.training import Diverged, Trainer, held_out_error
from stages.report.studies import short_hash
from studies.clear import write_table
from studies.longer import ARMS, settings_of

ENCODERS = ("recursive_cosine", "stacked_cosine")
SEEDS = 2  # of the arms' seeds, the first
EPOCHS = 10  # of the fresh decoders, with a cosine
TABLE = Path("reports/studies/frozen.csv")


@entry_point
def main() -> None:
    people = faces.load()
    tasks = []
    for name in ENCODERS:
        arm, seeds = ARMS[name], ARMS[name].seeds[:SEEDS]
        settings = settings_of(arm, arm.epochs[-1])
        planned = [Training(settings=settings, seed=k, faces=people.hash) for k in seeds]
        folders = obtain_all(planned)
        tasks += [
            partial(fresh, name, seed, folder)
            for seed, folder in zip(seeds, folders, strict=True)
            if not store.divergence(folder)
        ]
    killed = "a training process was killed, most likely for lack of memory; run it again"
    rows = sorted(run_each(tasks, min(len(tasks), room()), share_no_lock, killed))
    with atomic(TABLE) as unfinished:
        columns = ("faces", "variant", "seed", "own", "fresh")
        write_table(unfinished, columns, [(short_hash(people.hash), *row) for row in rows])


def fresh(name: str, seed: int, folder: Path) -> tuple[str, int, float, float]:
    """Name, seed, and the held-out errors of averaged weights: with the encoder's own decoder, and
    with a fresh one."""
    people = faces.load()
    settings = settings_of(ARMS["stacked_cosine"], EPOCHS)
    trainer = Trainer(Training(settings=settings, seed=seed + 1000, faces=people.hash), people)
    trained, _ = checkpoint.load(folder / "averaged.safetensors")
    own = held_out_error(trained, trainer.batches, trainer.held_out)
    trainer.model.encoder.load_state_dict(trained.encoder.state_dict())
    trainer.model.encoder.requires_grad_(False)
    group = trainer.optimizer.param_groups[0]
    group["params"] = [one for one in group["params"] if one.requires_grad]
    try:
        while trainer.epoch < settings.epochs:
            trainer.run_epoch()
        error = held_out_error(trainer.average.model, trainer.batches, trainer.held_out)
    except Diverged:
        error = math.inf
    found = name, seed, own, error
    print("{}, seed {}: own decoder {:.0f}, fresh decoder {:.0f}".format(*found), flush=True)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
