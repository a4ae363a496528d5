"""How clear pictures are, in numbers, and how tables of studies are written."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages.data.faces import to_tensor
from stages.measure import clarity, compute, statistics
from stages.measure.measures import MEASURES
from stages.model.network import Autoencoder, device

BATCH = 32
CLARITY = ("high_frequency_ratio", "grid_ratio")


def batches(images: np.ndarray) -> Iterator[Tensor]:
    """uint8 (n, size, size, 3) -> float tensors of up to BATCH images on the device."""
    for start in range(0, len(images), BATCH):
        yield to_tensor(images[start : start + BATCH]).to(device())


def clearness(pictures: Iterable[Tensor], images: Iterable[Tensor]) -> dict[str, float]:
    """high_frequency_ratio and grid_ratio of batches of pictures, compared with those of images."""
    parts: dict[str, list[Tensor]] = {name: [] for name in CLARITY}
    for after, before in zip(pictures, images, strict=True):
        powers = [clarity.power_of(clarity.spectrum(batch)) for batch in (after, before)]
        for name, values in parts.items():
            values.append(getattr(clarity, name)(*powers).cpu())
    return {name: statistics.ratio(torch.cat(values))[0] for name, values in parts.items()}


def clarity_of(
    model: Autoencoder, images: np.ndarray, measures: Iterable[str] = CLARITY
) -> dict[str, float]:
    """Measures, by name, of a model's reconstructions of uint8 (n, size, size, 3)."""
    chosen = [MEASURES[name] for name in measures]
    with compute.threads() as pool:
        values = compute.in_batches(pool, partial(compute.look, model, chosen), images)
    return {one.name: one.statistic(values[one.name])[0] for one in chosen}


def with_others(measured: pd.DataFrame, path: Path, key: Sequence[str]) -> pd.DataFrame:
    """These rows, after those of the table at `path` that have another key."""
    if not path.exists():
        return measured
    before, key = pd.read_csv(path, dtype={"faces": str}), [*key]
    again = pd.MultiIndex.from_frame(before[key]).isin(pd.MultiIndex.from_frame(measured[key]))
    return pd.concat([before[~again], measured])


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A CSV file, floats with six digits."""
    frame = pd.DataFrame(rows, columns=[*columns])
    frame.to_csv(path, index=False, lineterminator="\n", float_format="%.6g")
