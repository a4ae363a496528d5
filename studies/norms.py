"""What do the running statistics of norms cost?

`python -m studies.norms [VARIANT ...]` measures trained models with norms twice on the held-out
faces: as everywhere, normalised by the running statistics, and by those of each batch, as in
training. Results go to reports/studies/norms.csv and .md.
"""

import csv
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
import torch

from stages.common import memory
from stages.common.entry import entry_point
from stages.common.files import atomic_set, number
from stages.common.settings import (
    CONFIGS,
    WEIGHTS,
    DownloadSettings,
    read_config,
    read_variant,
)
from stages.data import faces
from stages.data.faces import to_tensor
from stages.model import checkpoint
from stages.model.network import Autoencoder, device

DEFAULT = (
    "recursive_bn", "stacked_bn", "recursive_shared_bn", "stacked_shared_bn",
    "recursive_shared_bn_relu", "stacked_shared_bn_relu",
)  # fmt: skip
FOLDER = Path("reports/studies")


@dataclass(frozen=True)
class Row:
    """The held-out error of one model with running statistics, and with those of each batch."""

    dataset: str
    variant: str
    seed: int
    weights: str
    running: float
    of_batch: float


@entry_point
def main(*variants: str) -> None:
    memory.keep_freed()
    people = faces.load()
    dataset = read_config(DownloadSettings, CONFIGS / "download.yaml").dataset
    # Pictures of a person follow one another, and would fill a batch.
    held_out = people.images[np.random.default_rng(0).permutation(people.rows("test"))]
    rows = []
    for name in variants or DEFAULT:
        variant = read_variant(name)
        for seed in variant.seeds:
            for weights in WEIGHTS:
                path = Path("models", name, "described", f"seed{seed}", f"{weights}.safetensors")
                if (path.parent / "diverged.json").exists():
                    continue
                model = checkpoint.load(path)[0].to(device())
                found = [
                    error(model.train(of_batch), held_out, variant.batch_size)
                    for of_batch in (False, True)
                ]
                rows.append(Row(dataset, name, seed, weights, *found))
                print(f"{name}, seed {seed}, {weights}: {' '.join(map(number, found))}", flush=True)
    with atomic_set(*(FOLDER / f"norms.{ending}" for ending in ("csv", "md"))) as (table, page):
        with open(table, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(field.name for field in fields(Row))
            for row in rows:
                writer.writerow(number(v) if isinstance(v, float) else v for v in astuple(row))
        page.write_text(told(rows), encoding="utf-8")


@torch.no_grad()
def error(model: Autoencoder, images: np.ndarray, batch: int) -> float:
    """Mean squared error summed over an image, uint8 (n, 128, 128, 3); the last part is dropped."""
    errors = []
    for start in range(0, len(images) - batch + 1, batch):
        inputs = to_tensor(images[start : start + batch]).to(device())
        errors.append((model(inputs) - inputs).square().sum((1, 2, 3)).mean().item())
    return float(np.mean(errors))


def told(rows: Sequence[Row]) -> str:
    """The results in Markdown: means over the seeds of a variant."""
    lines = [
        "# Running statistics and those of the batch",
        "",
        "Held-out error of models with norms, mean ± standard deviation over seeds: normalised "
        "by the running statistics, as everywhere, and by those of each batch of held-out faces, "
        "as in training. Every seed: `norms.csv`.",
        "",
        "| variant | weights | seeds | running | of the batch |",
        "| --- | --- | --- | --- | --- |",
    ]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.variant, row.weights), []).append(row)
    for (variant, weights), own in groups.items():
        columns = ([row.running for row in own], [row.of_batch for row in own])
        cells = [f"{np.mean(values):.0f}" for values in columns]
        if len(own) > 1:
            spreads = [np.std(values, ddof=1) for values in columns]
            cells = [f"{cell} ± {spread:.0f}" for cell, spread in zip(cells, spreads, strict=True)]
        lines.append(f"| {variant} | {weights} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
