"""What several test files need."""

import pytest
import torch

from stages.common.settings import ModelSettings


def model_settings(**changes: object) -> ModelSettings:
    """The settings of a plain recursive model, but for `changes`."""
    values = {
        "training": "recursive",
        "norm": "none",
        "activation": "selu",
        "variational": False,
        "implementation": "described",
        "epochs": 1,
        "batch_size": 16,
        "lr": 0.001,
    }
    return ModelSettings.model_validate(values | changes)


@pytest.fixture
def images() -> torch.Tensor:
    """Random images (16,3,128,128) in [0,1]: as many as the compiled kernels take at a time."""
    return torch.rand(16, 3, 128, 128, generator=torch.Generator().manual_seed(0))
