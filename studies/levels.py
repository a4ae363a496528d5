"""Where is the error made? What each level of longer trainings loses, alone and behind the others.

`python -m studies.levels` looks at the averaged weights of trainings of `longer`, and
`python -m studies.levels reach` at those of `reach`, on held-out faces. It trains them where they
are not kept. What it tells of a level:

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

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.data import faces
from stages.model import checkpoint, store
from stages.model.network import Autoencoder, device
from stages.report.studies import short_hash
from studies.longer import ARMS, Arm, settings_of
from studies.reach import EPOCHS, LASTING, LASTING_SEEDS, of_reach
from studies.shared import batches, markdown, obtained, spread, with_others, write

# Arms of each study and their epochs.
LOOKED_AT = {
    "longer": (
        ("recursive_constant", 10),
        ("recursive_constant", 40),
        ("recursive_cosine", 20),
        ("recursive_cosine", 40),
        ("recursive_cosine", 80),
        ("reach_2_cosine", 20),
        ("reach_3_cosine", 20),
    ),
    "reach": (
        *(("reach 1", epochs) for epochs in (*EPOCHS, *LASTING["reach 1"])),
        ("reach 3", LASTING["reach 3"][-1]),
    ),
}
IMAGES = 512
MEASURED = ("alone", "behind", "error", "dimensions")


@entry_point
def main(study: str = "longer") -> None:
    if study not in LOOKED_AT:
        raise PipelineError(f"there is no {study}; there are {', '.join(LOOKED_AT)}")
    people = faces.load()
    images = spread(people, "test", IMAGES)
    lasting = {f"reach {n}": Arm("recursive", of_reach(n), seeds=LASTING_SEEDS) for n in (1, 3)}
    arms = ARMS | lasting
    found: list[tuple[object, ...]] = []
    for name, epochs in LOOKED_AT[study]:
        settings = settings_of(arms[name], epochs)
        for training, folder in obtained([settings], arms[name].seeds, people):
            if not store.divergence(folder):
                model, _ = checkpoint.load(folder / "averaged.safetensors")
                of = short_hash(people.hash), name, epochs, training.seed
                found += [(*of, *row) for row in losses(model.to(device()), images)]
    columns = ["faces", "variant", "epochs", "seed", "level", *MEASURED]
    frame = with_others(pd.DataFrame(found, columns=columns), "levels", ["faces", "variant"])
    write("levels", frame, told(frame))


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
    rows = []
    for key, own in frame.groupby(["variant", "epochs", "level"], sort=False):
        mean = own[[*MEASURED]].mean()
        lost = f"{mean.alone:.1%}", f"{mean.behind:.1%}"
        rows.append((*key, *lost, f"{mean.error:.0f}", f"{mean.dimensions:.1f}", len(own)))
    lines = [
        "# Where is the error made?",
        "",
        "Averaged weights on held-out faces, means over seeds. *Alone*: the part of a level's "
        "input that its decoder does not recreate from the level's own activation, of the "
        "variance. *Behind*: the same where the decoder is given what the deeper decoders make of "
        "the last activation, as in use. *Error*: of pictures that go through this level and those "
        "before it alone. *Dimensions*: how many directions an activation spreads over "
        "(participation ratio). Names of trainings: [longer](longer.md), with blanks "
        "[reach](reach.md), on pictures of 64 pixels. Every seed: `levels.csv`.",
        "",
        *markdown("training | epochs | level | alone | behind | error | dimensions | n", rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
