"""Which decay, and which statistics of the norms, averaged weights should have.

`python -m studies.averaging VARIANT ...` trains each variant once with its first seed on nine
tenths of the training people, averages with several decays at a time, and prints a line of CSV for
each of its last epochs: the error on the other tenth with the weights of the last step and with
each average, its norms' statistics averaged like the weights, and recalibrated: recomputed on 50
training batches by the pass that trained them.
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
from studies.validation import validation

DECAYS = (0.98, 0.99, 0.995, 0.998)
BATCHES = 50
LAST_EPOCHS = 3


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
def main(*variants: str) -> None:
    people = validation(faces.load())
    print("variant,epoch,decay,last_step,averaged_statistics,recalibrated")
    for name in variants:
        variant = read_variant(name)
        training = Training(settings=variant.models()["described"], seed=0, faces="validation")
        trainer = Trainer(training, people)
        averages = trainer.average = Averages(trainer.model)  # type: ignore[assignment]
        while trainer.epoch < trainer.settings.epochs:
            trainer.run_epoch()
            if trainer.epoch <= trainer.settings.epochs - LAST_EPOCHS:
                continue
            last_step = held_out_error(trainer.model, trainer.batches, trainer.held_out)
            for decay, average in averages.each.items():
                model = Autoencoder(trainer.settings)
                for name_, value in state(average.model).items():
                    state(model)[name_].data.copy_(value)
                numbers = [held_out_error(model.eval(), trainer.batches, trainer.held_out)]
                recalibrate(model, trainer)
                numbers.append(held_out_error(model, trainer.batches, trainer.held_out))
                told = ",".join(f"{number:.1f}" for number in (last_step, *numbers))
                print(f"{name},{trainer.epoch},{decay},{told}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
