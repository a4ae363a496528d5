"""Variants -> models/<variant>/<implementation>/seed<k>/: weights of the last step, their average,
and the training curve.

`python -m stages.train_variant VARIANT ...` trains what is not kept already, as many trainings side
by side as there are cores; `--all` takes every variant of configs/.
"""

import sys
import time

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.settings import VARIANTS, read_variant
from stages.data import faces
from stages.model.side_by_side import obtain_all
from stages.model.variants import check_batches, put_in_place, trainings


@entry_point
def main(*variants: str) -> None:
    started = time.perf_counter()
    every = sorted(path.stem for path in VARIANTS.glob("*.yaml"))
    names = every if variants == ("--all",) else variants
    if not names:
        raise PipelineError("usage: python -m stages.train_variant VARIANT ... | --all")
    prepared = faces.load()
    check_batches(every, prepared)  # all of them, before any is trained
    planned = {name: trainings(read_variant(name), prepared.hash) for name in names}
    outputs = iter(obtain_all([training for own in planned.values() for training in own.values()]))
    for name, own in planned.items():
        put_in_place(name, own, [next(outputs) for _ in own])
    print(f"{', '.join(names)}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
