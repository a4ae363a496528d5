"""That the benchmark runs, and what it says of itself."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.anatomy import flops_per_image
from stages.model.losses import losses
from stages.model.network import Autoencoder
from tests.conftest import model_settings, python


@pytest.mark.parametrize("training", ["recursive", "stacked"])
def test_operations_per_image_are_those_that_torch_counts(training: str) -> None:
    model = Autoencoder(model_settings(training=training)).double()  # the plain formulation
    images = torch.rand(2, 3, 128, 128, dtype=torch.float64)
    with FlopCounterMode(display=False) as counter:
        sum(losses(model, images).values()).backward()
    assert counter.get_total_flops() == 2 * flops_per_image()[training]


@pytest.mark.slow
def test_a_smoke_run_measures_all_there_is() -> None:
    said = python("-m", "bench.run", "--smoke")
    for row in ("| this project, 1 seeds", "| level 7 |", "| preprocess |", "| evaluate |"):
        assert row in said
    assert "not measured" not in said
