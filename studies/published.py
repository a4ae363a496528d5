"""What moves the errors of models as released towards those that the paper published?

`python -m studies.published [VARIANT ...]` trains models as released, and again with one plausible
further difference between the authors' run and ours at a time (`DIFFERENCES`). Errors are the
paper's: of the last step, on training images. Results go to reports/studies/published.csv and .md;
what they have of other variants stays.
"""

import gc
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd
from torch import Tensor

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.files import number
from stages.common.settings import ModelSettings, Training, read_variant
from stages.data import faces
from stages.kernels import operations
from stages.measure.compute import TRAINING_SAMPLE, evenly_spaced
from stages.model import network
from stages.model.released import accidents
from stages.model.training import Batches, Diverged, Trainer, held_out_error
from stages.report.catalogue import PAPER
from stages.report.studies import AS_RELEASED, short_hash
from studies.shared import FOLDER, markdown, side_by_side, write

# Nothing that is known explains the paper's numbers of these.
DEFAULT = ("recursive_bn", "stacked_bn", "stacked_shared_bn")
SEED = 0
LONGER = 20  # epochs, twice the authors'
SHOWN = (1, 2, 5, 10, LONGER)
TABLE = ("faces", "variant", "difference", "epoch", "error")


Patch = AbstractContextManager[object]


def half_precision() -> Patch:
    """Pictures rounded to 16 bits."""
    exact = Batches.__call__

    def rounded(batches: Batches, rows: Tensor) -> Tensor:
        return exact(batches, rows).half().float()

    return patch.object(Batches, "__call__", rounded)


def unbiased_variance() -> Patch:
    """Running variances of n values over n - 1, as TensorFlow's fused batch norm keeps them."""
    biased = operations.batch_norm

    def unbiased(
        x: Tensor, weight: Tensor, bias: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        out, mean, variance = biased(x, weight, bias, epsilon)
        count = x.numel() / x.shape[1]
        return out, mean, variance * count / (count - 1)

    return patch.object(operations, "batch_norm", unbiased)


def trained_encoder() -> Patch:
    """A stacked model that was copied before its encoder was frozen."""

    def unfrozen(settings: ModelSettings) -> object:
        return replace(accidents(settings), frozen_encoder=False)

    return patch.object(network, "accidents", unfrozen)


def shuffled() -> Patch:
    """A new order in every epoch."""
    in_file_order = Trainer.run_epoch

    def in_new_order(trainer: Trainer) -> None:
        trainer.in_file_order = False
        in_file_order(trainer)

    return patch.object(Trainer, "run_epoch", in_new_order)


class Difference(NamedTuple):
    """One difference between two ways to train. around: holds while a model is made and trained.
    settings: other than those as released. of: the only training that it is asked of."""

    around: Callable[[], Patch] = nullcontext
    settings: Mapping[str, object] = MappingProxyType({})
    of: str = ""


DIFFERENCES = {
    AS_RELEASED: Difference(settings={"epochs": LONGER}),
    "pictures in half precision": Difference(around=half_precision),
    "unbiased running variance": Difference(around=unbiased_variance),
    "shuffled every epoch": Difference(around=shuffled),
    "encoder not frozen": Difference(around=trained_encoder, of="stacked"),
    "levels step one after another": Difference(settings={"separate_steps": True}, of="recursive"),
}


@entry_point
def main(*variants: str) -> None:
    if other := sorted({*variants} - {*PAPER}):
        raise PipelineError(f"the paper has no number for {', '.join(other)}")
    settings = {name: read_variant(name) for name in variants or DEFAULT}
    of = short_hash(faces.load().hash)
    earlier = _read_table(of)  # a damaged one is told before hours of training
    jobs = [
        (name, change)
        for name, variant in settings.items()
        for change, difference in DIFFERENCES.items()
        if difference.of in ("", variant.training)
    ]
    trained = dict(side_by_side([partial(errors, *job) for job in jobs]))
    found = {job: trained[job] for job in jobs}
    found |= {key: values for key, values in earlier.items() if key[0] not in settings}
    found = dict(sorted(found.items(), key=lambda item: [*PAPER].index(item[0][0])))
    rows = [
        (of, *key, epoch, value)
        for key, values in found.items()
        for epoch, value in enumerate(values, start=1)
    ]
    write("published", pd.DataFrame(rows, columns=[*TABLE]), told(found))


def errors(name: str, change: str) -> tuple[tuple[str, str], list[float]]:
    """Both names, and the error on training images after each epoch with that difference."""
    difference, people = DIFFERENCES[change], faces.load()
    common = read_variant(name).model_dump(exclude={"seeds", "released_seeds"})
    changes = {"implementation": "released", **difference.settings}
    settings = ModelSettings.model_validate(common | changes)
    gc.collect()  # the trainer before, which refers to itself
    with difference.around():
        trainer = Trainer(Training(settings=settings, seed=SEED, faces=people.hash), people)
        sample = trainer.rows[evenly_spaced(len(trainer.rows), TRAINING_SAMPLE)]
        found: list[float] = []
        while trainer.epoch < settings.epochs:
            try:
                trainer.run_epoch()
            except Diverged as diverged:
                print(f"{name}, {change}: {diverged}")
                break
            found.append(held_out_error(trainer.model, trainer.batches, sample))
    print(f"{name}, {change}: {', '.join(map(number, found))}", flush=True)
    return (name, change), found


Found = dict[tuple[str, str], list[float]]


def _read_table(of: str) -> Found:
    """What an earlier run on the same faces has found."""
    path = FOLDER / "published.csv"
    if not path.exists():
        return {}
    try:
        table = pd.read_csv(path, dtype={"faces": str, "error": float})
        own = table[(table["faces"] == of) & table["variant"].isin(PAPER)]
        groups = own.groupby(["variant", "difference"], sort=False)["error"]
        return {(str(name), str(how)): [*errors] for (name, how), errors in groups}
    except (KeyError, TypeError, ValueError):
        raise PipelineError(f"{path} cannot be read; delete it, or bring it back") from None


def told(found: Found) -> str:
    """The results in Markdown."""
    rows = []
    for (name, difference), values in found.items():
        cells = [f"{values[epoch - 1]:.0f}" if epoch <= len(values) else "" for epoch in SHOWN]
        rows.append((PAPER[name].label, difference, *cells, PAPER[name].printed))
    lines = [
        "# The published numbers",
        "",
        "Models as released, and with one further difference at a time; one seed each, error on "
        f"{TRAINING_SAMPLE:,} training images with the weights of the last step, after so many "
        "epochs (the authors took 10). A second seed may differ by as much as two rows do.",
        "",
        *markdown(f"model | difference | {' | '.join(map(str, SHOWN))} | paper", rows),
        "",
    ]
    misses = [  # by which factor, as a logarithm, each error misses the nearer of the paper's two
        (min(abs(np.log(value / error)) for error in PAPER[name].errors), name, how, epoch, value)
        for (name, how), values in found.items()
        for epoch, value in enumerate(values, start=1)
    ]
    for name in dict.fromkeys(name for _, name, *_ in misses):
        _, _, how, epoch, value = min(miss for miss in misses if miss[1] == name)
        lines.append(
            f"- {PAPER[name].label}: nearest to the paper comes “{how}” after {epoch} epochs, "
            f"{value:.0f}."
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
