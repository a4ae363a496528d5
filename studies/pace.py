"""What an epoch of each training takes of a core, to compare trainings at equal seconds.

`python -m studies.pace` measures every variant and every arm of `longer`, one after another, each
alone: the median of ROUNDS times STEPS steps, in CPU time. It writes reports/studies/pace.csv. Run
nothing beside it.
"""

import gc
import time
from pathlib import Path
from statistics import median

import pandas as pd
import torch

from stages.common.entry import entry_point
from stages.common.files import atomic
from stages.common.settings import ModelSettings, Training, configured, read_variant
from stages.data import faces
from stages.data.faces import Faces
from stages.model.store import machine
from stages.model.training import Trainer
from studies.clear import write_table

STEPS, ROUNDS = 20, 5
TABLE = ("variant", "milliseconds", "batch_size", "epoch_seconds", "processor")


@entry_point
def main() -> None:
    from studies.longer import ARMS, settings_of  # which reads what this writes

    people = faces.load()
    timed = {name: read_variant(name).models()["described"] for name in configured()}
    timed |= {name: settings_of(arm, 10) for name, arm in ARMS.items()}
    processor = "{processor}, {vectors}".format_map(machine())
    rows = []
    for name, settings in timed.items():
        step = seconds_a_step(settings, people)
        steps = len(people.rows("train")) // settings.batch_size
        rows.append((name, 1000 * step, settings.batch_size, steps * step, processor))
        print(f"{name}: {1000 * step:.1f} ms", flush=True)
    with atomic(Path("reports/studies/pace.csv")) as path:
        write_table(path, TABLE, rows)


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
    for _ in range(1 + ROUNDS):
        started = time.process_time()
        for _ in range(STEPS):
            trainer.take_step()
        taken.append((time.process_time() - started) / STEPS)
    return median(taken[1:])  # the first compiles


def read(folder: Path) -> "pd.Series[float]":
    """Seconds of a core that an epoch takes, by variant; empty where nothing was measured."""
    path = folder / "pace.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=[*TABLE])
    return table.set_index("variant")["epoch_seconds"]


if __name__ == "__main__":
    main()
