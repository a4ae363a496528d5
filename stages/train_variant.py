"""Variants -> models/<variant>/<implementation>/seed<k>/: weights of the last step, their average,
and the training curve.

`python -m stages.train_variant VARIANT ...` trains what is not kept already, as many trainings side
by side as there are cores; `--all` takes every variant of configs/.
"""

import sys
import time
from collections.abc import Iterable

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.settings import VARIANTS, read_variant
from stages.data import faces
from stages.model.side_by_side import obtain_all
from stages.model.store import put_in_place, trainings


@entry_point
def main(*variants: str) -> None:
    started = time.perf_counter()
    every = sorted(path.stem for path in VARIANTS.glob("*.yaml"))
    names = every if variants == ("--all",) else variants
    if not names:
        raise PipelineError("usage: python -m stages.train_variant VARIANT ... | --all")
    prepared = faces.load()
    _check_batches(every, len(prepared.rows("train")))  # all of them, before any is trained
    planned = {name: trainings(read_variant(name), prepared.hash) for name in names}
    outputs = iter(obtain_all([training for own in planned.values() for training in own.values()]))
    for name, own in planned.items():
        put_in_place(name, own, [next(outputs) for _ in own])
    print(f"{', '.join(names)}: {time.perf_counter() - started:.0f} s")


def _check_batches(variants: Iterable[str], count: int) -> None:
    for name in variants:
        size = read_variant(name).batch_size
        if count < size:
            raise PipelineError(
                f"{name}: {count} faces to train on are fewer than a batch of {size}; lower its "
                "batch_size or use more pictures"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
