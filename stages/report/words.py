"""Sentences and cells that the page and the terminal share."""

from collections.abc import Sequence

import pandas as pd

from stages.measure.records import Record, Records
from stages.report.models import models, valid

MOMENTUM = 0.99  # what a norm's running statistic keeps of itself at every training step
UNCONVERGED = 0.01  # of its initial value still in a running statistic


def mean_sd(record: Record | None, measure: str = "error", split: str = "test") -> str:
    """A mean over seeds ± their standard deviation (n); "(n/all)" where some diverged."""
    if record is None:
        return "-"
    values = valid(record, measure, split).value
    n = f"{len(values)}/{len(record.seeds)}" if record.diverged else f"{len(values)}"
    if not len(values):
        return f"diverged ({n})" if record.diverged else "-"
    spread = f" ± {values.std():.0f}" if len(values) > 1 else ""
    return f"{values.mean():.0f}{spread} ({n})"


def plain(value: float | None) -> str:
    return "-" if value is None or pd.isna(value) else f"{value:.0f}"


def provenance(records: Records) -> str:
    """The data, the training and the measurement, in a few sentences."""
    found = list(records.found.values())
    test, sample = (
        int(max(record.per_seed("error", split).n.max() for record in found))
        for split in ("test", "train")
    )
    settings = [record.settings for record in found]
    count = f"{records.images['train']:,} " if records.images else ""
    steps = f" ({_span(_steps(records))} training steps)" if _steps(records) else ""
    text = (
        f"Dataset {records.dataset}: {count}training images; {test:,} held-out images of other "
        f"people. {_span([s.epochs for s in settings])} epochs{steps}, batches of "
        f"{_span([s.batch_size for s in settings])}, learning rate "
        f"{_span([s.lr for s in settings])}, {_span([len(r.seeds) for r in found])} seed(s) a "
        "model (n). Errors are measured on the held-out images unless they say training, which is "
        f"a sample of {sample:,} training images."
    )
    if models(records, "released", "last_step"):
        text += " As released, a model is trained on all images, held-out ones too."
    machines = sorted({machine for record in found for machine in record.machines})
    text += f" Trained with {'; '.join(machines)}."
    return text


def caveats(records: Records) -> list[str]:
    """What forbids taking the verdicts as an answer to the paper."""
    told = []
    if not records.dataset.startswith("lfw"):
        told.append(
            f"These are {records.dataset} pictures, not the paper's: the verdicts below are about "
            "them."
        )
    steps = _steps(records, normed=True)
    if steps and MOMENTUM ** min(steps) > UNCONVERGED:
        told.append(
            f"Models with norms have not converged: after {min(steps)} training steps a norm's "
            f"running statistics still keep {MOMENTUM ** min(steps):.0%} of their start."
        )
    return told


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _steps(records: Records, normed: bool = False) -> list[int]:
    """Training steps of each model as described, or of those with norms; none where unknown."""
    return [
        record.settings.epochs * (records.images["train"] // record.settings.batch_size)
        for record in models(records, "described", "last_step")
        if records.images and (not normed or record.settings.norm != "none")
    ]
