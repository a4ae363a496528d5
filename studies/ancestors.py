"""What came before: greedy layerwise training and denoising levels, beside recursive training.

`python -m studies.ancestors [greedy | noise]` trains both, or the one named.

- greedy (Bengio et al. 2007, "Greedy Layer-Wise Training of Deep Networks"): one level after
  another, each with as many updates as in recursive training and a cosine of its own. A level that
  is done stands still, with its averaged weights. On the seeds and for the epochs of
  `recursive_cosine` in `longer`, in whose tables the results are. What is asked was fixed in git
  before any result: the ratio of averaged errors over recursive_cosine, 20 epochs.
- noise (Vincent et al. 2010, "Stacked Denoising Autoencoders"): each level recreates its input from
  a copy with Gaussian noise, of so many standard deviations of the batch. All levels learn in one
  step, as in recursive training, and the next level takes the activation without noise. The amount
  was to be chosen on validation people, one seed, TRIED epochs: there every amount was worse than
  none. Results: reports/studies/noise.csv.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from unittest.mock import patch

import pandas as pd
import torch
from torch import Tensor

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.settings import Training
from stages.data import faces
from stages.data.faces import Faces
from stages.model.network import Autoencoder, device
from stages.model.store import machine
from stages.model.training import Batches, Diverged, Trainer, held_out_error
from stages.report.studies import short_hash
from studies import longer
from studies.longer import ARMS, ERROR, TABLE
from studies.shared import side_by_side, write
from studies.validation import validation

EPOCHS = 20
NOISES = (0.0, 0.1, 0.3, 0.6)
TRIED = 10  # epochs, of one seed that nothing else is judged by
TRIED_SEED = 100


def trained(
    trainer: Trainer, losses: Callable[[Autoencoder, Tensor], Iterator[dict[str, Tensor]]]
) -> Autoencoder:
    """The averaged weights of a training with other losses, of the model and the faces of a batch
    (N,3,size,size), in parts of which each is used before the next is computed. Raises Diverged."""

    def parts(model: Autoencoder, images: Tensor, stacked: bool) -> Iterator[dict[str, Tensor]]:
        return losses(model, images)

    with patch("stages.model.training.parts", parts):
        while trainer.epoch < trainer.settings.epochs:
            trainer.run_epoch()
    return trainer.average.model


def greedy(training: Training, people: Faces) -> Autoencoder:
    """A model trained one level after another, averaged weights. Raises Diverged."""
    done = Autoencoder(training.settings)
    for k in range(1, done.depth + 1):
        trainer = Trainer(training, people)
        trainer.held_out = trainer.held_out[:64]  # the error of the whole means nothing yet
        trainer.model.encoder[: k - 1].load_state_dict(done.encoder[: k - 1].state_dict())
        averaged = trained(trainer, partial(only_level, k))
        done.encoder[k - 1].load_state_dict(averaged.encoder[k - 1].state_dict())
        done.decoder[k - 1].load_state_dict(averaged.decoder[k - 1].state_dict())
    return done.eval()


def only_level(k: int, model: Autoencoder, images: Tensor) -> Iterator[dict[str, Tensor]]:
    with torch.no_grad():
        x = model.encode(images, k - 1)
    yield {f"level_{k}": model.level(k, x, x)[1]}


def denoising(training: Training, people: Faces, noise: float) -> Autoencoder:
    """A model whose levels denoise their input, averaged weights. Raises Diverged."""
    return trained(Trainer(training, people), partial(denoised, noise))


def denoised(noise: float, model: Autoencoder, images: Tensor) -> Iterator[dict[str, Tensor]]:
    x = images
    for k in range(1, model.depth + 1):
        with torch.no_grad():
            noisy = x + noise * x.std() * torch.randn_like(x)
            h = model.encode_level(k, x)
        yield {f"level_{k}": model.level(k, noisy, x)[1]}
        x = h


@entry_point
def main(kind: str = "") -> None:
    if kind not in ("", "greedy", "noise"):
        raise PipelineError(f"there is no {kind}; there are greedy and noise")
    of = short_hash(faces.load().hash)
    if kind != "noise":
        tasks = [partial(measured, seed) for seed in ARMS["recursive_cosine"].seeds]
        rows = sorted((of, *row) for part in side_by_side(tasks) for row in part)
        longer.write(pd.DataFrame(rows, columns=[*TABLE]))
    if kind != "greedy":
        tries = sorted(side_by_side([partial(tried, noise) for noise in NOISES]))
        rows = [(of, *row) for row in tries]
        write("noise", pd.DataFrame(rows, columns=["faces", "variant", "error"]))


def measured(seed: int) -> list[tuple[object, ...]]:
    """Arm, seed, epoch, measure, value and processor of one greedy training."""
    people = faces.load()
    settings = longer.settings_of(ARMS["recursive_cosine"], EPOCHS)
    try:
        model = greedy(Training(settings=settings, seed=seed, faces=people.hash), people)
        found = {ERROR: error_of(model, people)} | longer.clear(model, people)
    except Diverged:
        found = {ERROR: float("inf")}
    print(f"greedy, seed {seed}: held-out error {found[ERROR]:.0f}", flush=True)
    processor = "{processor}, {vectors}".format_map(machine())
    return [("greedy_cosine", seed, EPOCHS, *item, processor) for item in found.items()]


def tried(noise: float) -> tuple[float, float]:
    """The noise, and the error on validation people."""
    people = validation(faces.load())
    settings = longer.settings_of(ARMS["recursive_cosine"], TRIED)
    training = Training(settings=settings, seed=TRIED_SEED, faces=people.hash)
    error = error_of(denoising(training, people, noise), people)
    print(f"noise {noise}: error {error:.2f} on validation people", flush=True)
    return noise, error


def error_of(model: Autoencoder, people: Faces) -> float:
    return held_out_error(model, Batches(people, device()), people.rows("test"))


if __name__ == "__main__":
    main(*sys.argv[1:])
