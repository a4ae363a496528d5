"""Which trainings a variant is made of, and where their outputs go."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from stages.common.errors import PipelineError
from stages.common.files import atomic_folder
from stages.common.settings import Training, Variant, read_variant
from stages.data import faces
from stages.model import kept

MODELS = Path("models")


def trainings(variant: Variant, faces_hash: str) -> dict[Path, Training]:
    """Every training of a variant, by the folder of its outputs below the variant's."""
    return {
        Path(implementation, f"seed{seed}"): Training(
            settings=settings, seed=seed, faces=faces_hash
        )
        for implementation, settings in variant.models().items()
        for seed in variant.seeds_of(implementation)
    }


def check_batches(variants: Iterable[str], prepared: faces.Faces) -> None:
    """Raise PipelineError for a variant that has fewer faces to train on than a batch has."""
    count = len(prepared.rows("train"))
    for name in variants:
        size = read_variant(name).batch_size
        if count < size:
            raise PipelineError(
                f"{name}: {count} faces to train on are fewer than a batch of {size}; lower its "
                "batch_size or use more pictures"
            )


def put_in_place(name: str, own: dict[Path, Training], found: list[Path]) -> None:
    """Make models/<variant> of the outputs of its trainings, in their order.

    Raises PipelineError where settings, faces or code are no longer those of the trainings, and
    then leaves what was there.
    """
    with atomic_folder(MODELS / name) as folder:
        for place, output in zip(own, found, strict=True):
            shutil.copytree(output, folder / place)
        now = trainings(read_variant(name), faces.load().hash)
        if now != own or [kept.finished(training) for training in now.values()] != found:
            raise PipelineError(
                f"the settings of {name}, the faces or the code changed while it was trained; run "
                "`dvc repro` again"
            )
