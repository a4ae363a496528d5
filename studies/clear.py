"""How clear a model's pictures are, in the two numbers that a choice of models needs."""

import numpy as np
import torch

from stages.data.faces import to_tensor
from stages.measure import clarity, statistics
from stages.model.network import Autoencoder, device

BATCH = 32


@torch.inference_mode()
def clarity_of(model: Autoencoder, images: np.ndarray) -> dict[str, float]:
    """high_frequency_ratio and grid_ratio of the reconstructions of uint8 (n, 128, 128, 3)."""
    parts: dict[str, list[torch.Tensor]] = {"high_frequency_ratio": [], "grid_ratio": []}
    for start in range(0, len(images), BATCH):
        inputs = to_tensor(images[start : start + BATCH]).to(device())
        outputs = to_tensor(clarity.to_pictures(model(inputs)).cpu().numpy()).to(device())
        for name, found in parts.items():
            found.append(getattr(clarity, name)(outputs, inputs).cpu())
    return {name: statistics.ratio(torch.cat(found))[0] for name, found in parts.items()}
