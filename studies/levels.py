"""Where is the error made? What each level of longer trainings loses, alone and behind the others.

`python -m studies.levels` looks at the averaged weights of trainings of `longer`, which it trains
where they are not kept, on held-out faces:

- alone: the fraction of a level's input that its decoder does not recreate from the level's own
  activation; of the input's variance.
- behind: the same where the decoder is given what the deeper decoders make of the last activation,
  as in use.
- error: of pictures that go through this level and those before it alone.
- dimensions: the participation ratio of an activation, the square of the sum of its covariance's
  eigenvalues over the sum of their squares: how many directions it spreads over.

Results: reports/studies/levels.csv and .md.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages.common.entry import entry_point
from stages.common.files import atomic_set
from stages.common.settings import Training
from stages.data import faces
from stages.measure.compute import evenly_spaced
from stages.model import checkpoint, store
from stages.model.network import Autoencoder, device
from stages.model.side_by_side import obtain_all
from stages.report.studies import short_hash
from studies.clear import batches, write_table
from studies.longer import ARMS, settings_of

# Arms of `longer` and their epochs.
LOOKED_AT = (
    ("recursive_constant", 10),
    ("recursive_constant", 40),
    ("recursive_cosine", 20),
    ("recursive_cosine", 40),
    ("reach_2_cosine", 20),
    ("reach_3_cosine", 20),
)
IMAGES = 512
MEASURED = ("alone", "behind", "error", "dimensions")
FOLDER = Path("reports/studies")


@entry_point
def main() -> None:
    people = faces.load()
    rows = people.rows("test")
    images = people.images[rows[evenly_spaced(len(rows), IMAGES)]]
    found: list[tuple[object, ...]] = []
    for name, epochs in LOOKED_AT:
        settings = settings_of(ARMS[name], epochs)
        planned = [
            Training(settings=settings, seed=seed, faces=people.hash) for seed in ARMS[name].seeds
        ]
        for training, folder in zip(planned, obtain_all(planned), strict=True):
            if not store.divergence(folder):
                model, _ = checkpoint.load(folder / "averaged.safetensors")
                of = short_hash(people.hash), name, epochs, training.seed
                found += [(*of, *row) for row in losses(model.to(device()), images)]
    columns = ["faces", "variant", "epochs", "seed", "level", *MEASURED]
    frame = pd.DataFrame(found, columns=columns)
    with atomic_set(FOLDER / "levels.csv", FOLDER / "levels.md") as (table, page):
        write_table(table, columns, found)
        page.write_text(told(frame), encoding="utf-8")


@torch.inference_mode()
def losses(model: Autoencoder, images: np.ndarray) -> Iterator[tuple[float, ...]]:
    """Level and MEASURED of each level, for uint8 images (n, s, s, 3)."""
    levels = range(1, model.depth + 1)
    activations = {0: torch.cat([*batches(images)])}
    for k in levels:
        activations[k] = model.encode_level(k, activations[k - 1])
    behind, recreated = {}, model.code(activations[model.depth])
    for k in reversed(levels):
        recreated = model.decode_level(k, recreated)
        behind[k] = lost(recreated, activations[k - 1])
    for k in levels:
        alone = lost(model.decode_level(k, activations[k]), activations[k - 1])
        error = (model.decode(activations[k], k) - activations[0]).square().sum((1, 2, 3)).mean()
        yield k, alone, behind[k], error.item(), dimensions(activations[k])


def lost(recreated: Tensor, activation: Tensor) -> float:
    """Mean squared error over the variance of the channels, over images and positions."""
    centred = activation - activation.mean((0, 2, 3), keepdim=True)
    return float((recreated - activation).square().mean() / centred.square().mean())


def dimensions(activation: Tensor) -> float:
    """The participation ratio of activations (N, C, H, W), of their channels at every position."""
    vectors = activation.movedim(1, -1).flatten(0, 2).double()
    eigenvalues = torch.linalg.eigvalsh(torch.cov(vectors.T))
    return float(eigenvalues.sum().square() / eigenvalues.square().sum())


def told(frame: pd.DataFrame) -> str:
    """The results in Markdown: means over seeds."""
    lines = [
        "# Where is the error made?",
        "",
        "Averaged weights on held-out faces, means over seeds. *Alone*: the part of a level's "
        "input that its decoder does not recreate from the level's own activation, of the "
        "variance. *Behind*: the same where the decoder is given what the deeper decoders make of "
        "the last activation, as in use. *Error*: of pictures that go through this level and those "
        "before it alone. *Dimensions*: how many directions an activation spreads over "
        "(participation ratio). Names of trainings: [longer](longer.md). Every seed: `levels.csv`.",
        "",
        "| training | epochs | level | alone | behind | error | dimensions | n |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (name, epochs, level), own in frame.groupby(["variant", "epochs", "level"], sort=False):
        mean = own[[*MEASURED]].mean()
        lines.append(
            f"| {name} | {epochs} | {level} | {mean.alone:.1%} | {mean.behind:.1%} | "
            f"{mean.error:.0f} | {mean.dimensions:.1f} | {len(own)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
