"""settings/own.yaml and a folder or archive of your pictures -> params.yaml and configs/.

Prints how many pictures there are, and how many steps and minutes the trainings will take. Chooses
epochs and batch size by the number of pictures, unless settings/own.yaml sets them.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from stages import configure
from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.settings import Training, read_params
from stages.common.yaml_files import read_yaml
from stages.data.faces import Faces
from stages.data.people import person_of
from stages.data.pictures import tell_skipped
from stages.data.sources.own import own_pictures

SETTINGS = "settings/own.yaml"
STEPS = 2000  # of a training, at least
EPOCHS = 10  # passes through the pictures, at least
LEAST = 20  # pictures


@entry_point
def main(folder: str) -> None:
    path = Path(folder).absolute()
    pictures, skipped = own_pictures.read(path)
    if skipped:
        print(tell_skipped(skipped))
    if len(pictures) < LEAST:
        raise PipelineError(f"{path} has {len(pictures)} pictures; {LEAST} are the least")
    changes: Any = read_yaml(SETTINGS)
    trained = round(len(pictures) * (1 - changes["preprocess"]["held_out"]))
    batch = changes["train"].setdefault("batch_size", 32 if trained >= 128 else 8)
    steps = max(1, trained // batch)
    epochs = changes["train"].setdefault("epochs", max(EPOCHS, -(-STEPS // steps)))
    changes["download"]["pictures"] = str(path)
    changes["variants"].append({"recursive_then_stacked": {"stacked_epochs": epochs // 5}})
    configure.take(changes, SETTINGS)
    configure.main()
    people = len({*map(person_of, pictures)})
    print(
        f"{len(pictures):,} pictures of {people:,} people, {epochs} epochs of {steps} "
        f"steps: all trainings take about {minutes(trained):.1f} minutes"
    )


def minutes(trained: int) -> float:
    """About how long all trainings take on this machine, by the pace of a few steps of each."""
    from stages.model.side_by_side import room  # torch takes seconds: settings are checked before
    from stages.model.training import Trainer

    params, seconds = read_params(), 0.0
    size = params.preprocess.size
    for variant in params.variants.values():
        short = {"epochs": 2, "stacked_epochs": 0}
        settings = variant.models()["described"].model_copy(update=short)
        images = np.zeros((5 * settings.batch_size, size, size, 3), np.uint8)
        splits = np.full(len(images), "train")
        splits[: settings.batch_size] = "test"
        training = Training(settings=settings, seed=0, faces="")
        trainer = Trainer(training, Faces(images, splits, splits, splits))
        trainer.run_epoch()  # compiles
        started = time.perf_counter()
        trainer.run_epoch()
        pace = (time.perf_counter() - started) / trainer.steps
        seconds += len(variant.seeds) * variant.epochs * (trained // settings.batch_size) * pace
    return seconds / room() / 60


if __name__ == "__main__":
    main(*sys.argv[1:])
