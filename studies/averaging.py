"""Which decay, and which statistics of the norms, averaged weights should have.

`python -m studies.averaging SEED VARIANT ...` trains each variant on nine tenths of the training
people, averages with several decays at a time, and prints lines of CSV for the last epochs: on the
other tenth the error and the clarity of the last step's weights and of each average, its norms'
statistics averaged like the weights, or recomputed as `Average.recalibrate` does.
"""

import sys

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stages.common.entry import entry_point
from stages.common.settings import Training, read_variant
from stages.data import faces
from stages.model.averaging import Average
from stages.model.network import Autoencoder
from stages.model.training import Trainer, held_out_error
from studies.shared import measured
from studies.validation import validation

DECAYS = (0.98, 0.99, 0.995, 0.998)
LAST_EPOCHS = 2
PICTURES = 256  # behind the clarity


class Averages(Average):
    """The project's own average, and beside it torch's, one a decay, of statistics, too."""

    def __init__(self, source: Autoencoder, decay: float) -> None:
        super().__init__(source, decay)
        self.source = source
        self.each = {}
        for each in DECAYS:
            average = get_ema_multi_avg_fn(each)
            self.each[each] = AveragedModel(source, multi_avg_fn=average, use_buffers=True)

    def update(self) -> None:
        super().update()
        for averaged in self.each.values():
            averaged.update_parameters(self.source)


@entry_point
def main(seed: str, *variants: str) -> None:
    people = validation(faces.load())
    images = people.images[people.rows("test")[:PICTURES]]
    print("variant,seed,epoch,weights,statistics,error,high_frequency_ratio,grid_ratio")

    def tell(weights: float | str, statistics: str, model: Autoencoder) -> None:
        error = held_out_error(model, trainer.batches, trainer.held_out)
        numbers = (error, *measured(model, images).values())
        values = (name, seed, trainer.epoch, weights, statistics, *(f"{x:.4g}" for x in numbers))
        print(*values, sep=",", flush=True)

    for name in variants:
        variant = read_variant(name)
        training = Training(
            settings=variant.models()["described"], seed=int(seed), faces="validation"
        )
        trainer = Trainer(training, people)
        averages = trainer.average = Averages(trainer.model, trainer.settings.averaging)
        while trainer.epoch < trainer.settings.epochs:
            trainer.run_epoch()
            if trainer.epoch <= trainer.settings.epochs - LAST_EPOCHS:
                continue
            tell("last step", "running", trainer.model.eval())
            for decay, averaged in averages.each.items():
                assert isinstance(averaged.module, Autoencoder)
                copy = Average(averaged.module, decay)
                tell(decay, "averaged", copy.model)
                copy.recalibrate(trainer.recalibrating(), bool(trainer.stacked))
                tell(decay, "recalibrated", copy.model)


if __name__ == "__main__":
    main(*sys.argv[1:])
