"""All models of a variant, read from where they were trained, measured, and put in records."""

import hashlib
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import pandas as pd

from stages.common.settings import WEIGHTS, Variant
from stages.data.faces import SIZE, Faces
from stages.measure.compute import Measured, measure, measured_faces
from stages.measure.records import CURVE, FREQUENCIES, MEASURED, Model, Record
from stages.model import checkpoint, store
from stages.model.network import device


def evaluate(
    pool: Executor, name: str, variant: Variant, faces: Faces, folder: Path
) -> tuple[list[Record], dict[str, str]]:
    """All models of a variant, trained in `folder`, and the SHA-256 of each file of weights.

    Raises PipelineError where a file there is missing, damaged or of another training.
    """
    test, train = measured_faces(faces)
    records: list[Record] = []
    hashes: dict[str, str] = {}
    trainings = store.trainings(variant, faces.hash)
    for implementation, settings in variant.models().items():
        own = {folder / place: t for place, t in trainings.items() if t.settings == settings}
        diverged = {t.seed: what for place, t in own.items() if (what := store.divergence(place))}
        points = [(t.seed, *point) for place, t in own.items() for point in store.read_curve(place)]
        curve = pd.DataFrame(points, columns=[*CURVE]).astype(CURVE)
        machines = sorted({_machine(place) for place in own})
        for weights in WEIGHTS:
            found: dict[int, Measured] = {}
            for place, training in own.items():
                if training.seed in diverged:
                    continue
                path = place / f"{weights}.safetensors"
                model = checkpoint.load_trained(path, training, weights).to(device())
                hashes[path.relative_to(folder).as_posix()] = _sha256(path)
                found[training.seed] = measure(pool, model, test, train)
            key = Model(name, implementation, weights)
            images = len(test), len(train)
            records.append(_record(key, variant, diverged, curve, machines, found, images))
    return records, hashes


def _record(
    model: Model,
    variant: Variant,
    diverged: dict[int, str],
    curve: pd.DataFrame,
    machines: list[str],
    found: dict[int, Measured],
    images: tuple[int, int],
) -> Record:
    """Seeds put together; images: how many were measured, held-out and of training."""
    test, train = images
    seeds = variant.seeds_of(model.implementation)
    rows = [(*row[:2], seed, *row[2:]) for seed, one in found.items() for row in one.rows]
    for split, count in (("test", test), ("train", train)):
        rows += [(split, "error", seed, float("inf"), float("nan"), count) for seed in diverged]
    table = pd.DataFrame(rows, columns=MEASURED).set_index(["split", "measure", "seed"])
    none = np.empty((0, SIZE, SIZE, 3), np.uint8)
    first = next(iter(found.values()), None)
    lost = np.full(test, np.inf)
    return Record(
        model=model,
        settings=variant.models()[model.implementation],
        seeds=seeds,
        diverged=diverged,
        measures=table.sort_index(),
        curve=curve,
        test_error=np.stack([found[s].test_error if s in found else lost for s in seeds]),
        spectrum=np.array([one.spectrum for one in found.values()] or np.empty((0, FREQUENCIES))),
        machines=machines,
        reconstructions=first.pictures[: model.faces] if first else none,
        samples=first.samples[: model.faces] if first else none,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _machine(folder: Path) -> str:
    """The processor and the libraries that a training ran with, in words."""
    found = store.read_machine(folder)
    hardware = f"{found.pop('processor')} ({found.pop('vectors')})"
    return ", ".join([hardware, *(f"{name} {version}" for name, version in found.items())])
