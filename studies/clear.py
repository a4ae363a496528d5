"""How clear pictures are, in two numbers, and how tables of studies are written."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages.data.faces import to_tensor
from stages.measure import clarity, statistics
from stages.model.network import Autoencoder, device

BATCH = 32


def batches(images: np.ndarray) -> Iterator[Tensor]:
    """uint8 (n, size, size, 3) -> float tensors of up to BATCH images on the device."""
    for start in range(0, len(images), BATCH):
        yield to_tensor(images[start : start + BATCH]).to(device())


def clearness(pictures: Iterable[Tensor], images: Iterable[Tensor]) -> dict[str, float]:
    """high_frequency_ratio and grid_ratio of batches of pictures, compared with those of images."""
    parts: dict[str, list[Tensor]] = {"high_frequency_ratio": [], "grid_ratio": []}
    for after, before in zip(pictures, images, strict=True):
        powers = [clarity.power_of(clarity.spectrum(batch)) for batch in (after, before)]
        for name, values in parts.items():
            values.append(getattr(clarity, name)(*powers).cpu())
    return {name: statistics.ratio(torch.cat(values))[0] for name, values in parts.items()}


@torch.inference_mode()
def clarity_of(model: Autoencoder, images: np.ndarray) -> dict[str, float]:
    """The clearness of a model's reconstructions of uint8 (n, size, size, 3)."""
    inputs = [*batches(images)]
    pictures = (clarity.to_pictures(model(batch)).cpu().numpy() for batch in inputs)
    return clearness((to_tensor(picture).to(device()) for picture in pictures), inputs)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A CSV file, floats with six digits."""
    frame = pd.DataFrame(rows, columns=[*columns])
    frame.to_csv(path, index=False, lineterminator="\n", float_format="%.6g")
