"""The few numbers of a variant that `dvc metrics show` prints, with the same keys for all."""

import math
from collections.abc import Sequence

from stages.common.files import number
from stages.measure.records import Record

DIVERGED = "diverged"


def headline(records: Sequence[Record]) -> dict[str, float | str | None]:
    """Means over the seeds of a variant's models, and standard deviations over seeds (`sd`).

    Models are as described, `released` as released; weights are averaged, `last` those of the last
    step. A value is None where it is unknown, as the deviation of one seed, and "diverged" where a
    seed diverged. No key is `error` alone: dvc takes that for a failure to load the file.
    """
    models = {record.model[1:]: record for record in records}
    averaged, last = models["described", "averaged"], models["described", "last_step"]
    released = models.get(("released", "last_step"))
    return {
        "averaged_error": _mean(averaged),
        "averaged_sd": _deviation(averaged),
        "last_error": _mean(last),
        "last_sd": _deviation(last),
        "ssim": _mean(averaged, "ssim"),
        "high_frequency": _mean(averaged, "high_frequency_ratio"),
        "n": len(averaged.seeds),
        "released_error": _mean(released) if released else None,
    }


def _mean(record: Record, measure: str = "error") -> float | str | None:
    return _rounded(record, record.mean(measure))


def _deviation(record: Record) -> float | str | None:
    values = record.per_seed("error").value
    return _rounded(record, float(values.std())) if len(values) > 1 else None


def _rounded(record: Record, value: float) -> float | str | None:
    if record.diverged:
        return DIVERGED
    return float(number(value)) if math.isfinite(value) else None
