"""One variant, all its seeds side by side -> models/<variant>/: weights, and one curve.csv.

seed<k>.safetensors is the model as the paper describes it, published_seed<k>.safetensors the same
with the authors' wiring.
"""

import csv
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

from stages.common import memory
from stages.common.errors import PipelineError, exits_cleanly
from stages.common.settings import ModelSettings, read_models


def train_seed(settings: ModelSettings, seed: int, position: int, folder: Path) -> list[dict]:
    """Train one seed, write its weights into `folder`, return its curve."""
    from stages.data import faces
    from stages.model import network, training

    memory.keep_freed()
    model, curve = training.train(settings, seed, faces.load(), position)
    network.save(model, folder / network.weights_file(settings, seed))
    return [asdict(point) for point in curve]


def end_with_parent() -> None:
    """End this process when the one that started it does, even if that one was killed.

    Left over, it would go on training and write its weights among those of a later run.
    """

    def wait() -> None:
        parent_process().join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


@exits_cleanly
def main(variant: str) -> None:
    models = read_models(f"configs/{variant}.yaml")
    runs = [(settings, seed) for settings in models for seed in settings.seeds]
    started = time.perf_counter()
    target, partial = Path("models", variant), Path("models", f".{variant}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with ProcessPoolExecutor(len(runs), get_context("spawn"), end_with_parent) as pool:
            futures = [
                pool.submit(train_seed, settings, seed, position, partial)
                for position, (settings, seed) in enumerate(runs)
            ]
            rows = [row for future in futures for row in future.result()]
        with open(partial / "curve.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    except BrokenProcessPool:
        raise PipelineError(
            f"{variant}: one of {len(runs)} training processes was killed, most likely for want of "
            "memory; give the variant fewer seeds or published_seeds in params.yaml"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for settings in models:
        last = {"model": settings.name, "epoch": settings.epochs, "loss": "error"}
        final = [row["value"] for row in rows if last.items() <= row.items()]
        print(
            f"{settings.name}: held-out error {', '.join(f'{value:.0f}' for value in final)} "
            f"(seeds {', '.join(map(str, settings.seeds))})"
        )
    print(f"{variant}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1])
