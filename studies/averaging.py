"""Which decay, and which statistics of the norms, averaged weights should have.

`python -m studies.averaging SEED VARIANT ...` trains each variant on nine tenths of the training
people, averages with several decays at a time, and prints lines of CSV for the last epochs: on the
other tenth the error and the clarity of the last step's weights and of each average, its norms'
statistics averaged like the weights, or recalibrated: recomputed on 50 training batches by the
pass that trained them.
"""

import sys

import torch

from stages.common.entry import entry_point
from stages.common.settings import Training, read_variant
from stages.data import faces
from stages.model.averaging import Average
from stages.model.losses import losses
from stages.model.network import Autoencoder, Norm, state
from stages.model.training import Trainer, held_out_error
from studies.clear import clarity_of
from studies.validation import validation

DECAYS = (0.98, 0.99, 0.995, 0.998)
BATCHES = 50
LAST_EPOCHS = 2
PICTURES = 256  # behind the clarity


class Averages:
    """One average a decay, updated together."""

    def __init__(self, source: Autoencoder) -> None:
        self.each = {decay: Average(source, decay) for decay in DECAYS}
        self.model = self.each[DECAYS[0]].model

    def update(self) -> None:
        for average in self.each.values():
            average.update()


@torch.no_grad()
def recalibrate(model: Autoencoder, trainer: Trainer) -> None:
    """Set the statistics of every norm to their means over training batches."""
    norms = [module for module in model.modules() if isinstance(module, Norm)]
    model.train()
    for number in range(BATCHES):
        for norm in norms:
            norm.MOMENTUM = 1 / (number + 1)
        start = number * trainer.settings.batch_size
        rows = trainer.rows[start : start + trainer.settings.batch_size]
        losses(model, trainer.batches(torch.from_numpy(rows)))
    model.eval()


@entry_point
def main(seed: str, *variants: str) -> None:
    people = validation(faces.load())
    images = people.images[people.rows("test")[:PICTURES]]
    print("variant,seed,epoch,weights,statistics,error,high_frequency_ratio,grid_ratio")

    def tell(weights: float | str, statistics: str, model: Autoencoder) -> None:
        error = held_out_error(model, trainer.batches, trainer.held_out)
        numbers = (error, *clarity_of(model, images).values())
        values = (name, seed, trainer.epoch, weights, statistics, *(f"{x:.4g}" for x in numbers))
        print(*values, sep=",", flush=True)

    for name in variants:
        variant = read_variant(name)
        training = Training(
            settings=variant.models()["described"], seed=int(seed), faces="validation"
        )
        trainer = Trainer(training, people)
        averages = trainer.average = Averages(trainer.model)  # type: ignore[assignment]
        while trainer.epoch < trainer.settings.epochs:
            trainer.run_epoch()
            if trainer.epoch <= trainer.settings.epochs - LAST_EPOCHS:
                continue
            tell("last step", "running", trainer.model.eval())
            for decay, average in averages.each.items():
                model = Autoencoder(trainer.settings)
                for name_, value in state(average.model).items():
                    state(model)[name_].data.copy_(value)
                tell(decay, "averaged", model.eval())
                if trainer.settings.norm != "none":
                    recalibrate(model, trainer)
                    tell(decay, "recalibrated", model)


if __name__ == "__main__":
    main(*sys.argv[1:])
