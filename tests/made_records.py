"""Small made-up records of models, in memory and on disk, for tests of what reads them."""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product, starmap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from stages.common.settings import IMPLEMENTATIONS, WEIGHTS, Variant
from stages.measure.records import (
    CURVE,
    FACES,
    MEASURED,
    Model,
    Record,
    Records,
    References,
    write_references,
    write_variant,
)

IMAGES = 60  # held out
SPLITS = {"train": 9600, "test": IMAGES}
DATASET = "lfw-deepfunneled"
KEPT: dict[str, Record] = {}  # what was made: many tests ask for the same


@dataclass
class Made:
    """What a model is to have measured. error: held-out error of each seed, inf where it diverged;
    of averaged weights, and of the last step where last_step_error does not tell."""

    error: Iterable[float] = (250.0, 251.0, 252.0)
    last_step_error: Iterable[float] | None = None
    high_frequency_ratio: float = 0.2
    grid_ratio: float = 1.0
    contrast_ratio: float = 1.0
    ssim: float = 0.7
    faces_found: float = 0.9
    samples_found: float = 0.5
    settings: dict[str, Any] = field(default_factory=dict)  # where the name does not tell them

    def errors(self, weights: str) -> list[float]:
        told = self.last_step_error if weights == "last_step" else None
        return list(self.error if told is None else told)


def around(error: float, spread: float = 0.002, seeds: int = 3) -> list[float]:
    """Errors of `seeds` seeds, `spread` (relative) apart, with `error` in their middle."""
    return [error * (1 + spread * (k - (seeds - 1) / 2)) for k in range(seeds)]


def as_in_the_paper(seeds: int = 3) -> dict[str, Made]:
    """Models of which all nine claims hold."""
    stacked = partial(around, spread=0.001, seeds=seeds)
    recursive = partial(around, spread=0.02, seeds=seeds)
    return {
        "stacked": Made(stacked(258)),
        "recursive": Made(recursive(239), high_frequency_ratio=0.4, grid_ratio=1.5),
        "stacked_bn": Made(stacked(467)),
        "recursive_bn": Made(recursive(7831), contrast_ratio=0.3),
        "stacked_shared_bn": Made(stacked(643)),
        "recursive_shared_bn": Made(recursive(455), high_frequency_ratio=0.4, grid_ratio=1.1),
        "stacked_shared_bn_relu": Made(stacked(643)),
        "recursive_shared_bn_relu": Made(recursive(2020), grid_ratio=4.0),
        "stacked_vae": Made(stacked(421), high_frequency_ratio=0.1, samples_found=0.9),
        "recursive_vae": Made(recursive(3979), samples_found=0.0),
    }


def make(
    described: Mapping[str, Made],
    released: Mapping[str, Made] | None = None,
    dataset: str = DATASET,
) -> Records:
    """Records of these models; those `released` are also among the described, by name."""
    found: dict[Model, Record] = {}
    missing: dict[Model, str] = {}
    for model in sorted(starmap(Model, product(described, IMPLEMENTATIONS, WEIGHTS))):
        made = {"described": described, "released": released or {}}[model.implementation]
        if model.variant not in made:
            missing[model] = "not trained (no released_seeds)"
            continue
        settings = _settings(model.variant, described, released)
        key = repr((model, settings, made[model.variant]))
        if key not in KEPT:
            KEPT[key] = _record(model, settings, made[model.variant])
        found[model] = KEPT[key]
    return Records(found, missing, _references(), "faces", dataset, dict(SPLITS))


def averaged(models: Mapping[str, Made]) -> dict[str, Record]:
    """Those as described, with averaged weights, by name."""
    found = make(models).found
    return {name: found[Model(name, "described", "averaged")] for name in sorted(models)}


def with_mean_picture(records: Records, error: float) -> Records:
    """The same, and the held-out error of the mean training picture."""
    measures = records.references.measures.copy()
    measures.loc[("mean", "error"), :] = [error, 1.0, IMAGES]
    return replace(records, references=replace(records.references, measures=measures))


def write(
    root: Path, described: Mapping[str, Made], released: Mapping[str, Made] | None = None
) -> Path:
    """The same as everything that `plot` reads, under `root`; returns `root`."""
    (root / "configs/variants").mkdir(parents=True)
    (root / "configs/download.yaml").write_text(f"dataset: {DATASET}\n", encoding="utf-8")
    records = make(described, released)
    write_references(records.references, DATASET, "faces", SPLITS, root)
    for name in described:
        settings = _settings(name, described, released)
        config = root / f"configs/variants/{name}.yaml"
        config.write_text(yaml.safe_dump(settings.model_dump()), encoding="utf-8")
        own = [record for model, record in records.found.items() if model.variant == name]
        write_variant(name, settings, "faces", {}, own, root)
    return root


def faces(count: int) -> np.ndarray:
    """The pictures that stand for inputs: uint8 (count, 128, 128, 3), each of its own colours."""
    coarse = np.random.default_rng(0).integers(0, 256, (FACES, 8, 8, 3), np.uint8)
    return coarse[:count].repeat(16, axis=1).repeat(16, axis=2)


def _settings(
    name: str, described: Mapping[str, Made], released: Mapping[str, Made] | None
) -> Variant:
    def seeds(models: Mapping[str, Made]) -> list[int]:
        return [*range(len(models[name].errors("averaged")))] if name in models else []

    values = {
        "training": "stacked" if name.startswith("stacked") else "recursive",
        "norm": "shared" if "shared" in name else "batch" if "_bn" in name else "none",
        "activation": "relu" if name.endswith("relu") else "selu",
        "variational": name.endswith("vae"),
        "epochs": 2,
        "batch_size": 32,
        "lr": 0.001,
        "seeds": seeds(described),
        "released_seeds": seeds(released or {}),
    }
    return Variant.model_validate(values | described[name].settings)


def _record(model: Model, variant: Variant, made: Made) -> Record:
    settings = variant.models()[model.implementation]
    seeds = variant.seeds_of(model.implementation)
    errors = np.array(made.errors(model.weights))
    converged = np.isfinite(errors)
    # The same pictures are hard for every model, and each variant has its own luck with a picture.
    rng = np.random.default_rng(zlib.crc32(model.variant.encode()))
    hardness = np.random.default_rng(0).uniform(0.5, 2, IMAGES)
    test_error = hardness * rng.normal(1, 0.01, (len(seeds), IMAGES))
    test_error *= errors[:, None] / test_error.mean(1, keepdims=True)

    rows, curve = [], []
    both = (made.errors(weights) for weights in ("averaged", "last_step"))
    for seed, own, averaged, last in zip(seeds, errors, *both, strict=True):
        rows += _measured(seed, float(own), made, settings.variational)
        for epoch in (1, 2) if np.isfinite(averaged) else ():
            stacked = epoch > 2 - settings.stacked_epochs
            losses = ["reconstruction"] if stacked else [f"level_{k}" for k in range(1, 8)]
            curve += [(seed, epoch, "train", loss, k / epoch) for k, loss in enumerate(losses, 1)]
            curve.append((seed, epoch, "train", "total", 28 / epoch))
            curve.append((seed, epoch, "test", "error", last * (3 - epoch)))
            curve.append((seed, epoch, "test", "averaged_error", averaged * (3 - epoch)))
    shown = model.faces if converged.any() else 0
    diverged = [seed for seed, fine in zip(seeds, converged, strict=True) if not fine]
    return Record(
        model=model,
        settings=settings,
        seeds=seeds,
        diverged=dict.fromkeys(diverged, "total became nan in epoch 1"),
        measures=pd.DataFrame(rows, columns=[*MEASURED])
        .set_index(["split", "measure", "seed"])
        .sort_index(),
        curve=pd.DataFrame(curve, columns=[*CURVE]).astype(CURVE),
        test_error=test_error.astype(np.float16).astype(float),
        spectrum=np.ones((int(converged.sum()), 65), np.float32),
        machines=["some processor (AVX2), torch 2.0.0"],
        reconstructions=255 - faces(shown),
        samples=faces(shown if settings.variational else 0),
    )


def _measured(
    seed: int, error: float, made: Made, variational: bool
) -> list[tuple[str, str, int, float, float, int]]:
    if not np.isfinite(error):
        return [
            ("test", "error", seed, error, float("nan"), IMAGES),
            ("train", "error", seed, error, float("nan"), 1000),
        ]
    ratios = {
        "high_frequency_ratio": made.high_frequency_ratio,
        "sharpness": min(made.high_frequency_ratio, 1 / made.high_frequency_ratio),
        "grid_ratio": made.grid_ratio,
        "contrast_ratio": made.contrast_ratio,
    }
    measures = {name: (value, value / 500) for name, value in ratios.items()}
    measures |= {f"depth_error_{k}": (error * k / 7, 1.0) for k in range(1, 8)}
    measures["error"] = error, error / 20
    measures |= {"ssim": (made.ssim, 0.001), "faces_found": (made.faces_found, 0.01)}
    rows = [("test", name, seed, *value, IMAGES) for name, value in measures.items()]
    rows.append(("train", "error", seed, error * 0.99, 1.0, 1000))
    if variational:
        rate = made.samples_found
        rows.append(("samples", "faces_found", seed, rate, (rate * (1 - rate) / 250) ** 0.5, 250))
    return rows


def _references() -> References:
    rows = [("input", "faces_found", 0.98, 0.01, IMAGES), ("noise", "faces_found", 0.0, 0.0, 100)]
    measures = pd.DataFrame(rows, columns=["of", "measure", "value", "standard_error", "n"])
    return References(
        inputs=faces(FACES),
        input_spectrum=np.ones(65, np.float32),
        measures=measures.set_index(["of", "measure"]),
    )
