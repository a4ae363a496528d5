"""All models of a variant, read from where they were trained, measured, and put in records."""

import hashlib
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import pandas as pd

from stages.common.settings import WEIGHTS, Variant
from stages.data.faces import Faces
from stages.measure.compute import Measured, diverged_measures, measure, measured_faces
from stages.measure.records import CURVE, MEASURED, Model, Record
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
            measured: dict[int, Measured] = {}
            for place, training in own.items():
                if training.seed in diverged:
                    measured[training.seed] = diverged_measures(test, train)
                    continue
                path = place / f"{weights}.safetensors"
                model = checkpoint.load_trained(path, training, weights).to(device())
                hashes[path.relative_to(folder).as_posix()] = _sha256(path)
                measured[training.seed] = measure(pool, model, test, train)
            key = Model(name, implementation, weights)
            shown = [one for seed, one in measured.items() if seed not in diverged]
            first = (shown or [*measured.values()])[0]
            records.append(
                Record(
                    model=key,
                    settings=settings,
                    seeds=[*measured],
                    diverged=diverged,
                    measures=_table(measured),
                    curve=curve,
                    test_error=np.stack([one.test_error for one in measured.values()]),
                    spectrum=np.concatenate([one.spectrum for one in measured.values()]),
                    machines=machines,
                    reconstructions=first.pictures[: key.faces],
                    samples=first.samples[: key.faces],
                )
            )
    return records, hashes


def _table(measured: dict[int, Measured]) -> pd.DataFrame:
    rows = [(*row[:2], seed, *row[2:]) for seed, one in measured.items() for row in one.rows]
    return pd.DataFrame(rows, columns=[*MEASURED]).set_index([*MEASURED][:3]).sort_index()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _machine(folder: Path) -> str:
    """The processor and the libraries that a training ran with, in words."""
    found = store.read_machine(folder)
    hardware = f"{found.pop('processor')} ({found.pop('vectors')})"
    return ", ".join([hardware, *(f"{name} {version}" for name, version in found.items())])
