"""The models of a variant -> their records."""

from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import pandas as pd

from stages.common.settings import WEIGHTS, Variant
from stages.data.faces import Faces
from stages.measure import sealed
from stages.measure.compute import Measured, diverged_measures, measure, measured_faces
from stages.measure.records import CURVE, MEASURED, Model, Record
from stages.model import checkpoint, store
from stages.model.network import device


def evaluate(
    pool: Executor, name: str, variant: Variant, faces: Faces, folder: Path
) -> tuple[list[Record], dict[str, str]]:
    """All models of a variant, trained in `folder`, and the SHA-256 of each file of weights. Raises
    PipelineError where a file there is missing, damaged or of another training."""
    test, train = measured_faces(faces)
    records: list[Record] = []
    hashes: dict[str, str] = {}
    trainings = store.trainings(variant, faces.hash)
    for implementation, settings in variant.models().items():
        places = {folder / place: t for place, t in trainings.items() if t.settings == settings}
        diverged = {t.seed: how for p, t in places.items() if (how := store.divergence(p))}
        points = [(t.seed, *point) for p, t in places.items() for point in store.read_curve(p)]
        curve = pd.DataFrame(points, columns=[*CURVE]).astype(CURVE)
        machines = sorted({_machine(place) for place in places})
        for weights in WEIGHTS:
            measured: dict[int, Measured] = {}
            for place, training in places.items():
                if training.seed in diverged:
                    measured[training.seed] = diverged_measures(test, train)
                    continue
                path = place / f"{weights}.safetensors"
                network = checkpoint.load_trained(path, training, weights).to(device())
                hashes[path.relative_to(folder).as_posix()] = sealed.sha256(path.read_bytes())
                measured[training.seed] = measure(pool, network, test, train)
            model, every = Model(name, implementation, weights), [*measured.values()]
            first = next((m for seed, m in measured.items() if seed not in diverged), every[0])
            records.append(
                Record(
                    model=model,
                    settings=settings,
                    seeds=[*measured],
                    diverged=diverged,
                    measures=_table(measured),
                    curve=curve,
                    test_error=np.stack([seed.test_error for seed in every]),
                    spectrum=np.concatenate([seed.spectrum for seed in every]),
                    machines=machines,
                    reconstructions=first.pictures[: model.faces],
                    samples=first.samples[: model.faces],
                )
            )
    return records, hashes


def _table(measured: dict[int, Measured]) -> pd.DataFrame:
    rows = [(*row[:2], seed, *row[2:]) for seed, model in measured.items() for row in model.rows]
    return pd.DataFrame(rows, columns=[*MEASURED]).set_index([*MEASURED][:3]).sort_index()


def _machine(folder: Path) -> str:
    """The processor and the libraries that a training ran with, in words."""
    machine = store.read_machine(folder)
    hardware = f"{machine.pop('processor')} ({machine.pop('vectors')})"
    return ", ".join([hardware, *(f"{name} {version}" for name, version in machine.items())])
