"""What came before: greedy layerwise training and denoising levels, beside recursive training.

`python -m studies.ancestors [KIND ...]` trains both kinds, or those named, on the seeds and for the
epochs of `recursive_cosine` in `longer`, and puts their rows in the tables of `longer`.

- greedy (Bengio et al. 2007, "Greedy Layer-Wise Training of Deep Networks"): one level after
  another, each with as many updates as in recursive training and a cosine of its own. A level that
  is done stands still, with its averaged weights.
- denoising (Vincent et al. 2010, "Stacked Denoising Autoencoders"): each level recreates its input
  from a copy with Gaussian noise, of `NOISE` times the standard deviation of the batch. All levels
  learn in one step, as in recursive training, and the next level takes the activation without
  noise.

`python -m studies.ancestors noise` tries NOISES on validation people, one seed, TRIED epochs, and
prints the errors: NOISE is the best of those above 0.

What is asked was fixed in git before any result: the ratio of averaged errors of each over
recursive_cosine, 20 epochs, paired by seed. Of denoising two of the three seeds were trained, for
lack of time; that was decided before any of them was.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.processes import run_each
from stages.common.settings import Training, read_variant
from stages.data import faces
from stages.data.faces import Faces
from stages.model.network import Autoencoder, device
from stages.model.side_by_side import room, share_no_lock
from stages.model.store import machine
from stages.model.training import Batches, Diverged, Trainer, held_out_error
from stages.report.studies import short_hash
from studies import longer
from studies.longer import ARMS, ERROR, TABLE
from studies.validation import validation

EPOCHS = 20
NOISE = 0.3
NOISES = (0.0, 0.1, 0.3, 0.6)
TRIED = 10  # epochs, of one seed that nothing is judged by
TRIED_SEED = 100
KILLED = "a training process was killed, most likely for lack of memory; run it again"


class OwnLosses(Trainer):
    """A training whose losses the caller gives, in parts of which each is used before the next is
    computed; by the faces (N,3,size,size) of a batch."""

    losses: Callable[[Tensor], Iterator[dict[str, Tensor]]]

    def _step(self) -> None:
        self.optimizer.zero_grad()
        found: dict[str, Tensor] = {}
        for part in self.losses(self.batches(self.batch)):
            torch.autograd.backward(list(part.values()))
            found |= {name: loss.detach() for name, loss in part.items()}
        found["total"] = torch.stack([*found.values()]).sum()
        self._check(found["total"].item(), found)
        self.optimizer.step()
        self.average.update()
        for name, value in found.items():
            self.sums[name] += value


def greedy(training: Training, people: Faces) -> Autoencoder:
    """A model trained one level after another, averaged weights. Raises Diverged."""
    done = Autoencoder(training.settings)
    for k in range(1, done.depth + 1):
        trainer = OwnLosses(training, people)
        trainer.losses = partial(only_level, trainer.model, k)
        trainer.held_out = trainer.held_out[:64]  # the error of the whole means nothing yet
        trainer.model.encoder[: k - 1].load_state_dict(done.encoder[: k - 1].state_dict())
        while trainer.epoch < training.settings.epochs:
            trainer.run_epoch()
        for half, averaged in zip(
            (done.encoder, done.decoder),
            (trainer.average.model.encoder, trainer.average.model.decoder),
            strict=True,
        ):
            half[k - 1].load_state_dict(averaged[k - 1].state_dict())
    return done.eval()


def only_level(model: Autoencoder, k: int, images: Tensor) -> Iterator[dict[str, Tensor]]:
    with torch.no_grad():
        x = model.encode(images, k - 1)
    yield {f"level_{k}": model.level(k, x, x)[1]}


def denoising(training: Training, people: Faces, noise: float = NOISE) -> Autoencoder:
    """A model whose levels recreate their input from a noisy copy, averaged weights. Raises
    Diverged."""
    trainer = OwnLosses(training, people)
    trainer.losses = partial(denoised, trainer.model, noise)
    while trainer.epoch < training.settings.epochs:
        trainer.run_epoch()
    return trainer.average.model


def denoised(model: Autoencoder, noise: float, images: Tensor) -> Iterator[dict[str, Tensor]]:
    x = images
    for k in range(1, model.depth + 1):
        with torch.no_grad():
            noisy = x + noise * x.std() * torch.randn_like(x)
            h = model.encode_level(k, x)
        yield {f"level_{k}": model.level(k, noisy, x)[1]}
        x = h


KINDS = {"greedy": greedy, "denoising": denoising}
SEEDS = {"greedy": 3, "denoising": 2}  # of those of recursive_cosine, the first


@entry_point
def main(*kinds: str) -> None:
    people = faces.load()
    if kinds == ("noise",):
        tries = [partial(tried, noise) for noise in NOISES]
        for line in run_each(tries, min(len(tries), room()), share_no_lock, KILLED):
            print(line, flush=True)
        return
    if unknown := {*kinds} - {*KINDS}:
        raise PipelineError(f"there is no {min(unknown)}; there are {', '.join(KINDS)}, noise")
    seeds = ARMS["recursive_cosine"].seeds
    tasks = [
        partial(measured, kind, seed) for kind in kinds or KINDS for seed in seeds[: SEEDS[kind]]
    ]
    found = run_each(tasks, min(len(tasks), room()), share_no_lock, KILLED)
    rows = sorted((short_hash(people.hash), *row) for part in found for row in part)
    longer.write(pd.DataFrame(rows, columns=[*TABLE]))


def measured(kind: str, seed: int) -> list[tuple[object, ...]]:
    """Arm, seed, epoch, measure, value and processor of one training."""
    people = faces.load()
    settings = longer.settings_of(ARMS["recursive_cosine"], EPOCHS)
    training = Training(settings=settings, seed=seed, faces=people.hash)
    try:
        model = KINDS[kind](training, people)
        points = [(EPOCHS, ERROR, error_of(model, people))]
        points += [(EPOCHS, *item) for item in longer.clear(model, people).items()]
    except Diverged:
        points = [(EPOCHS, ERROR, float("inf"))]
    print(f"{kind}, seed {seed}: held-out error {points[0][2]:.0f}", flush=True)
    processor = "{processor}, {vectors}".format_map(machine())
    return [(f"{kind}_cosine", seed, *point, processor) for point in points]


def tried(noise: float) -> str:
    people = validation(faces.load())
    settings = read_variant("recursive").models()["described"]
    settings = longer.stretched(settings.model_copy(update={"schedule": "cosine"}), TRIED)
    training = Training(settings=settings, seed=TRIED_SEED, faces=people.hash)
    model = denoising(training, people, noise)
    return f"noise {noise}: error {error_of(model, people):.2f} on validation people"


def error_of(model: Autoencoder, people: Faces) -> float:
    return held_out_error(model, Batches(people, device()), people.rows("test"))


if __name__ == "__main__":
    main(*sys.argv[1:])
