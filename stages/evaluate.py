"""A variant's models, measured on held-out and training faces -> reports/ (in git).

`python -m stages.evaluate VARIANT ...` writes reports/records/VARIANT/ and reports/grids/VARIANT/,
see stages/measure/records.py, and reports/metrics/VARIANT.json, a row of `dvc metrics show`; of as
many variants at a time as there are cores. `--all` takes every variant of configs/.
"""

import json
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

from stages.common.entry import entry_point
from stages.common.files import write_text
from stages.common.processes import run_each
from stages.common.settings import Variant, chosen

KILLED = "an evaluation was killed, most likely for want of memory; run it again"


@entry_point
def main(*variants: str) -> None:
    tasks = [partial(_evaluate, *variant) for variant in chosen(variants, "evaluate").items()]
    import torch  # takes seconds: settings are read before

    from stages.model.side_by_side import room

    cores = room()
    workers = min(len(tasks), cores)
    begin = partial(torch.set_num_threads, cores // workers)
    with closing(run_each(tasks, workers, begin, KILLED)) as outputs:
        for output in outputs:
            print(output, flush=True)


def _evaluate(name: str, settings: Variant) -> str:
    """Write the records and metrics of a variant; returns the lines to print."""
    started = time.perf_counter()
    from stages.data import faces
    from stages.measure import records
    from stages.measure.compute import threads
    from stages.measure.evaluation import evaluate
    from stages.measure.headline import headline

    prepared = faces.load()
    with threads() as pool:
        measured, weights = evaluate(pool, name, settings, prepared, Path("models", name))
    records.write_variant(name, settings, prepared.hash, weights, measured)
    row = json.dumps(headline(measured), indent=2, allow_nan=False)
    write_text(Path("reports/metrics", f"{name}.json"), f"{row}\n")
    lines = []
    for record in measured:
        errors = ", ".join(f"{value:.0f}" for value in record.per_seed("error").value)
        lines.append(f"{', '.join(record.model)}: error {errors}")
    diverged = {(r.model.implementation, *item) for r in measured for item in r.diverged.items()}
    for implementation, seed, what in sorted(diverged):
        lines.append(f"{name}, {implementation}, seed {seed} diverged: {what}")
    return "\n".join([*lines, f"{name}: {time.perf_counter() - started:.0f} s"])


if __name__ == "__main__":
    main(*sys.argv[1:])
