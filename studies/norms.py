"""What do the running statistics of norms cost?

`python -m studies.norms` measures trained models with norms three times on the held-out faces:
normalised by the running statistics, as everywhere; by those of each batch, as in training; and by
population statistics, the means over batches of training faces, of each half of a level apart.
Results go to reports/studies/norms.csv, and stand beside claim 9 in the report.
"""

import sys
from functools import partial

import numpy as np
import pandas as pd
import torch

from stages.common import memory
from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.files import number
from stages.common.settings import WEIGHTS, read_variant
from stages.data import faces
from stages.data.faces import Faces, to_tensor
from stages.model import checkpoint, store
from stages.model.averaging import Average
from stages.model.network import Autoencoder, device
from stages.model.training import RECALIBRATING
from stages.report.studies import KINDS, short_hash
from studies.shared import batches, spread, write

MODELS = (
    "recursive_bn", "stacked_bn", "recursive_shared_bn", "stacked_shared_bn",
    "recursive_shared_bn_relu", "stacked_shared_bn_relu",
)  # fmt: skip


@entry_point
def main() -> None:
    memory.keep_freed()
    people = faces.load()
    # Pictures of a person follow one another, and would fill a batch.
    held_out = people.images[np.random.default_rng(0).permutation(people.rows("test"))]
    rows = []
    for name in MODELS:
        variant = read_variant(name)
        if len(held_out) < variant.batch_size:
            raise PipelineError(
                f"{len(held_out)} held-out faces are no batch of {variant.batch_size}; "
                "set preprocess.held_out higher, or batch_size lower"
            )
        for folder, training in store.trained(name, people.hash):
            for weights in WEIGHTS:
                path = folder / f"{weights}.safetensors"
                model = checkpoint.load_trained(path, training, weights).to(device())
                found = [
                    number(error(way(model), held_out, variant.batch_size))
                    for way in (Autoencoder.eval, Autoencoder.train, partial(calibrated, people))
                ]
                rows.append((short_hash(people.hash), name, training.seed, weights, *found))
                print(f"{name}, seed {training.seed}, {weights}: {' '.join(found)}", flush=True)
    write("norms", pd.DataFrame(rows, columns=["faces", "variant", "seed", "weights", *KINDS]))


def calibrated(people: Faces, model: Autoencoder) -> Autoencoder:
    """The same weights, in evaluation mode, with means over batches of training faces on their way
    through the whole model. A shared norm gets those of each half, as tied."""
    changed = {"norm": "tied"} if model.settings.norm == "shared" else {}
    apart = Autoencoder(model.settings.model_copy(update=changed))
    apart.load_state_dict(model.state_dict())
    size = model.settings.batch_size
    count = min(RECALIBRATING, len(people.rows("train")) // size) * size
    images = to_tensor(spread(people, "train", count))
    average = Average(apart.to(device()), 0.0)
    average.recalibrate(images.to(device()).split(size), stacked=True)
    return average.model


@torch.no_grad()
def error(model: Autoencoder, images: np.ndarray, batch: int) -> float:
    """Mean squared error summed over an image, uint8 (n, 128, 128, 3); the last part is dropped."""
    whole = batches(images[: len(images) // batch * batch], batch)
    return float(np.mean([(model(x) - x).square().sum((1, 2, 3)).mean().item() for x in whole]))


if __name__ == "__main__":
    main(*sys.argv[1:])
