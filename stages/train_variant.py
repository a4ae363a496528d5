"""Variants -> models/<variant>/<implementation>/seed<k>/: weights of the last step, their average,
and the training curve.

`python -m stages.train_variant VARIANT ...` trains what is not kept already, as many trainings side
by side as there are cores; `--all` takes every variant of configs/.
"""

import shutil
import sys
import time
from pathlib import Path

from stages.common.entry import entry_point
from stages.common.errors import PipelineError
from stages.common.files import atomic_folder
from stages.common.settings import VARIANTS, Training, Variant, read_variant
from stages.data import faces
from stages.model import kept
from stages.model.side_by_side import obtain_all


def trainings(variant: Variant, faces_hash: str) -> dict[Path, Training]:
    """Every training of a variant, by the folder of its outputs below the variant's."""
    return {
        Path(implementation, f"seed{seed}"): Training(
            settings=settings, seed=seed, faces=faces_hash
        )
        for implementation, settings in variant.models().items()
        for seed in variant.seeds_of(implementation)
    }


def check_batches(name: str, variant: Variant, prepared: faces.Faces) -> None:
    """Raise PipelineError where there are fewer faces to train on than a batch has."""
    count = len(prepared.rows("train"))
    if count < variant.batch_size:
        raise PipelineError(
            f"{name}: {count} faces to train on are fewer than a batch of {variant.batch_size}; "
            "lower its batch_size or use more pictures"
        )


def still_wanted(name: str, own: dict[Path, Training], found: list[Path]) -> bool:
    """Whether settings, faces and code of a variant are those that its trainings are of."""
    now = trainings(read_variant(name), faces.load().hash)
    return now == own and [kept.finished(training) for training in now.values()] == found


@entry_point
def main(*variants: str) -> None:
    started = time.perf_counter()
    every = {path.stem: read_variant(path.stem) for path in sorted(VARIANTS.glob("*.yaml"))}
    names = [*every] if variants == ("--all",) else variants
    if not names:
        raise PipelineError("usage: python -m stages.train_variant VARIANT ... | --all")
    prepared = faces.load()
    for name, variant in every.items():  # all of them, before any is trained
        check_batches(name, variant, prepared)
    planned = {name: trainings(read_variant(name), prepared.hash) for name in names}
    outputs = iter(obtain_all([training for own in planned.values() for training in own.values()]))
    for name, own in planned.items():
        found = [next(outputs) for _ in own]
        with atomic_folder(Path("models", name)) as folder:
            for place, output in zip(own, found, strict=True):
                shutil.copytree(output, folder / place)
            if not still_wanted(name, own, found):
                raise PipelineError(
                    f"the settings of {name}, the faces or the code changed while it was trained; "
                    "run `dvc repro` again"
                )
    print(f"{', '.join(names)}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
