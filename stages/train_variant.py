"""Variants -> models/<variant>/<implementation>/seed<k>/: both kinds of weights, and the curve.

`python -m stages.train_variant VARIANT ...` trains what is not kept already, as many trainings at a
time as there are cores; `--all` takes every variant of configs/.
"""

import sys
import time

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.settings import chosen, configured, read_variant
from stages.data import faces
from stages.model.side_by_side import obtain_all
from stages.model.store import put_in_place, trainings


@entry_point
def main(*variants: str) -> None:
    started = time.perf_counter()
    wanted = chosen(variants, "train_variant")
    prepared = faces.load()
    count = len(prepared.rows("train"))
    for name in configured():  # all of them, before any is trained
        if count < (size := read_variant(name).batch_size):
            raise PipelineError(
                f"{name}: {count} faces to train on are fewer than a batch of {size}; lower its "
                "batch_size or use more pictures"
            )
    planned = {name: trainings(variant, prepared.hash) for name, variant in wanted.items()}
    outputs = iter(obtain_all([t for places in planned.values() for t in places.values()]))
    for name, places in planned.items():
        put_in_place(name, places, [next(outputs) for _ in places])
    print(f"{', '.join(wanted)}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
