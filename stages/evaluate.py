"""One variant's models, measured on held-out and training faces -> reports/ (in git).

`python -m stages.evaluate VARIANT` writes reports/records/VARIANT/ and reports/grids/VARIANT/, see
stages/measure/records.py, and reports/metrics/VARIANT.json, a row of `dvc metrics show`.
"""

import json
import sys
import time
from pathlib import Path

from stages.common import memory
from stages.common.entry import entry_point
from stages.common.files import write_text
from stages.common.settings import read_variant


@entry_point
def main(variant: str) -> None:
    started = time.perf_counter()
    settings = read_variant(variant)
    # Torch takes seconds: a wrong name or setting is told before.
    from stages.data import faces
    from stages.measure import records
    from stages.measure.compute import threads
    from stages.measure.evaluation import evaluate
    from stages.measure.headline import headline

    memory.keep_freed()
    prepared = faces.load()
    with threads() as pool:
        found, weights = evaluate(pool, variant, settings, prepared, Path("models", variant))
    records.write_variant(variant, settings, prepared.hash, weights, found)
    row = json.dumps(headline(found), indent=2, allow_nan=False)
    write_text(Path("reports/metrics", f"{variant}.json"), f"{row}\n")
    for record in found:
        _, implementation, kind = record.model
        errors = ", ".join(f"{value:.0f}" for value in record.per_seed("error").value)
        print(f"{variant}, {implementation}, {kind}: error {errors}")
    lost = {(r.model.implementation, *item) for r in found for item in r.diverged.items()}
    for implementation, seed, what in sorted(lost):
        print(f"{variant}, {implementation}, seed {seed} diverged: {what}")
    print(f"{variant}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
