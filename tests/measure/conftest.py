"""What tests of measures need."""

import pytest
import torch


@pytest.fixture
def images() -> torch.Tensor:
    """Random images (16,3,128,128) in [0,1]."""
    return torch.rand(16, 3, 128, 128, generator=torch.Generator().manual_seed(0))
