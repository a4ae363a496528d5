"""Small made-up evaluations, written as the earlier stages would, for tests of what follows."""

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from stages.common.settings import VariantSettings

PARAMS = Path(__file__).parents[1] / "params.yaml"
IMAGES = 60  # held out
PICTURES = 4
TRAINING_IMAGES = 9600


@dataclass
class Made:
    """What a model is to have measured. error: held-out error of each seed."""

    error: Iterable[float] = (250.0, 251.0, 252.0)
    high_frequency_ratio: float = 0.2
    grid_ratio: float = 1.0
    contrast_ratio: float = 1.0
    ssim: float = 0.7
    samples_found: float = 0.5
    settings: dict = field(default_factory=dict)  # where the name does not tell them


def around(error: float, spread: float = 0.002, seeds: int = 3) -> list[float]:
    """Errors of `seeds` seeds, `spread` (relative) apart, with `error` in their middle."""
    return [error * (1 + spread * (k - (seeds - 1) / 2)) for k in range(seeds)]


def as_in_the_paper(seeds: int = 3) -> dict[str, Made]:
    """Evaluations of which all nine claims hold."""

    def stacked(error: float, **measures: float) -> Made:
        return Made(around(error, 0.001, seeds), **measures)

    def recursive(error: float, **measures: float) -> Made:
        return Made(around(error, 0.02, seeds), **measures)

    return {
        "stacked": stacked(258),
        "recursive": recursive(239, high_frequency_ratio=0.4, grid_ratio=1.5),
        "stacked_bn": stacked(467),
        "recursive_bn": recursive(7831, contrast_ratio=0.3),
        "stacked_shared_bn": stacked(643),
        "recursive_shared_bn": recursive(455, high_frequency_ratio=0.4, grid_ratio=1.1),
        "stacked_shared_bn_relu": stacked(643),
        "recursive_shared_bn_relu": recursive(2020, grid_ratio=4.0),
        "stacked_vae": stacked(421, high_frequency_ratio=0.1, samples_found=0.9),
        "recursive_vae": recursive(3979, samples_found=0.0),
    }


def published(models: dict[str, Made]) -> dict[str, Made]:
    return {f"published_{name}": made for name, made in models.items()}


def write(root: Path, models: dict[str, Made], dataset: str = "lfw-deepfunneled") -> Path:
    """Everything `plot` reads, for these models, under `root`; returns `root`."""
    for folder in ("configs", "reports/metrics", "reports/evaluations", "data/evaluations"):
        (root / folder).mkdir(parents=True)
    params = yaml.safe_load(PARAMS.read_text())
    params["download"]["dataset"] = dataset
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    splits = ["test"] * IMAGES + ["train"] * TRAINING_IMAGES
    pd.DataFrame({"split": splits}).to_csv(root / "data/faces.csv", index=False)
    for name in {name.removeprefix("published_"): None for name in models}:
        assert name in models, f"{name} is to have the published wiring alone"
        _write_variant(root, name, models[name], models.get(f"published_{name}"))
    return root


def faces(count: int) -> np.ndarray:
    """The pictures that stand for inputs: uint8 (count, 128, 128, 3), each of its own colours."""
    rng = np.random.default_rng(count)
    coarse = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


def _write_variant(root: Path, name: str, made: Made, published: Made | None) -> None:
    settings = {
        "name": name,
        "training": "stacked" if name.startswith("stacked") else "recursive",
        "norm": "shared" if "shared" in name else "batch" if "_bn" in name else "none",
        "activation": "relu" if name.endswith("relu") else "selu",
        "variational": name.endswith("vae"),
        "epochs": 2,
        "batch_size": 32,
        "lr": 0.001,
        "seeds": list(range(len(list(made.error)))),
        "published_seeds": list(range(len(list(published.error)))) if published else [],
    } | made.settings
    models = VariantSettings.model_validate(settings).models()
    config = yaml.safe_dump([model.model_dump() for model in models])
    (root / f"configs/{name}.yaml").write_text(config)
    folder = root / "data" / "evaluations" / name
    folder.mkdir(parents=True)
    rows, curve, headline = _model(folder, name, made, settings["variational"])
    others = dict.fromkeys(("test_error", "test_error_sd", "train_error", "n"))
    if published:
        found = _model(folder, f"published_{name}", published, settings["variational"])
        rows, curve = rows + found[0], curve + found[1]
        others = {key: found[2][key] for key in others}
    headline |= {f"published_{key}": value for key, value in others.items()}
    (root / f"reports/metrics/{name}.json").write_text(json.dumps(headline))
    columns = ["model", "seed", "split", "measure", "value", "standard_error", "n"]
    pd.DataFrame(rows, columns=columns).to_csv(root / f"reports/evaluations/{name}.csv")
    columns = ["model", "seed", "epoch", "split", "loss", "value"]
    pd.DataFrame(curve, columns=columns).to_csv(folder / "curve.csv", index=False)


def _model(
    folder: Path, name: str, made: Made, variational: bool
) -> tuple[list[tuple], list[tuple], dict[str, float | None]]:
    """One model's rows, curve and headline; its arrays are written into `folder`."""
    errors = list(made.error)
    # The same pictures are hard for every model, and each variant has its own luck with a picture.
    rng = np.random.default_rng(zlib.crc32(folder.name.encode()))
    hardness = np.random.default_rng(0).uniform(0.5, 2, IMAGES)
    test_error = hardness * rng.normal(1, 0.01, (len(errors), IMAGES))
    test_error *= np.array(errors)[:, None] / test_error.mean(1, keepdims=True)

    rows, curve = [], []
    for seed, error in enumerate(errors):
        measures = {
            "error": (error, error / 20),
            "high_frequency_ratio": (made.high_frequency_ratio, made.high_frequency_ratio / 500),
            "grid_ratio": (made.grid_ratio, made.grid_ratio / 500),
            "contrast_ratio": (made.contrast_ratio, made.contrast_ratio / 500),
            "ssim": (made.ssim, 0.001),
            "input_faces_found": (0.98, 0.01),
        }
        measures |= {f"depth_error_{k}": (error * k / 7, 1.0) for k in range(1, 8)}
        rows += [(name, seed, "test", key, *value, IMAGES) for key, value in measures.items()]
        rows.append((name, seed, "train", "error", error * 0.99, 1.0, 1000))
        if variational:
            rate = made.samples_found
            deviation = (rate * (1 - rate) / 500) ** 0.5
            rows.append((name, seed, "samples", "faces_found", rate, deviation, 500))
        for epoch in (1, 2):
            curve.append((name, seed, epoch, "train", "total", error / epoch))
            curve.append((name, seed, epoch, "test", "error", error * (3 - epoch)))
            curve += [(name, seed, epoch, "train", f"level_{k}", k / epoch) for k in range(1, 8)]

    np.savez(
        folder / f"{name}.npz",
        test_error=test_error.astype(np.float32),
        inputs=faces(PICTURES),
        reconstructions=255 - faces(PICTURES),
        samples=faces(PICTURES if variational else 0),
        spectrum=np.ones((len(errors), 65)),
        input_spectrum=np.ones(65),
    )
    spread = float(np.std(errors, ddof=1)) if len(errors) > 1 else None
    headline = {
        "test_error": float(np.mean(errors)),
        "test_error_sd": spread,
        "test_error_se": float(np.mean(errors)) / 20,
        "mse": float(np.mean(errors)) / 49152,
        "psnr": 23.0,
        "ssim": made.ssim,
        "train_error": float(np.mean(errors)) * 0.99,
        "train_error_sd": spread,
        "n": len(errors),
    }
    return rows, curve, headline
