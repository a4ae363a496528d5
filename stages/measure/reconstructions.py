"""A few pictures reconstructed by a trained model, and new ones drawn by it."""

import json
from pathlib import Path

import numpy as np
import torch

from stages.common.errors import PipelineError
from stages.data.faces import to_tensor
from stages.measure import clarity, fidelity
from stages.model.network import Autoencoder

MOST = 1000
METRICS = Path("reports/metrics")


@torch.inference_mode()
def reconstruct(model: Autoencoder, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reconstructions of faces, both uint8 (n, s, s, 3), and the squared error of each (n,)."""
    images = to_tensor(faces)
    outputs = model(images).contiguous()
    errors = fidelity.squared_error(outputs, images)
    return clarity.to_pictures(outputs).numpy(), errors.numpy()


@torch.inference_mode()
def latents(model: Autoencoder, faces: np.ndarray) -> np.ndarray:
    """The codes, float32 (n, numbers), of faces, uint8 (n, s, s, 3); variational: their means."""
    return model.encode(to_tensor(faces)).flatten(1).numpy()


def held_out_error(variant: str) -> float | None:
    """The mean error of held-out faces that `evaluate` measured; None where it did not."""
    try:
        metrics = json.loads((METRICS / f"{variant}.json").read_text(encoding="utf-8"))
        return float(metrics["averaged_error"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@torch.inference_mode()
def draw(model: Autoencoder, count: int, seed: int) -> np.ndarray:
    """What a variational model makes of standard normal latents: uint8 (count, s, s, 3). Raises
    PipelineError for other models, and for a count that is not 1 to 1000."""
    if not model.settings.variational:
        raise PipelineError(
            "only a variational model draws; `dvc repro train-variant@stacked_vae` trains one"
        )
    if not 1 <= count <= MOST:
        raise PipelineError(f"{count} faces cannot be drawn; 1 to {MOST} can")
    latents = torch.randn(count, model.latent, generator=torch.Generator().manual_seed(seed))
    return clarity.to_pictures(model.sample(latents)).numpy()
