"""The network: its size, its shapes, how it resizes. test_keras_parity.py holds it to Keras."""

from typing import Any

import pytest
import torch
from scipy.ndimage import zoom
from torch import Tensor, nn
from torch.nn import functional

from stages.model.losses import losses
from stages.model.network import Autoencoder
from tests.conftest import made_model, model_settings

EXTRA = {"none": 0, "batch": 2_280, "shared": 1_524, "tied": 1_524, "variational": 295_680}


@pytest.mark.parametrize("kind", EXTRA)
def test_parameter_counts(kind: str) -> None:
    changes = {"variational": True} if kind == "variational" else {"norm": kind}
    model = Autoencoder(model_settings(**changes))
    found = [sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.decoder)]
    assert found == [885_732, 885_351]
    assert sum(p.numel() for p in model.parameters()) == sum(found) + EXTRA[kind]


@pytest.mark.parametrize(
    ("changes", "side", "levels"),
    [
        ({}, 128, 7),
        ({"size": 32, "upsample": "nearest"}, 32, 5),
        ({"size": 32, "upsample": "bilinear"}, 32, 5),
        ({"size": 64, "levels": 3, "downsample": "maxpool"}, 64, 3),
        ({"size": 256, "variational": True}, 256, 8),
    ],
    ids=str,
)
def test_every_depth_halves_the_image_and_comes_back(
    changes: dict[str, Any], side: int, levels: int
) -> None:
    model = Autoencoder(model_settings(**changes)).eval()
    assert (model.size, model.depth, model.latent) == (side, levels, 6 * 2 ** (levels - 1))
    images = torch.rand(2, 3, side, side)
    for depth in range(1, model.depth + 1):
        h = model.encode(images, depth)
        assert h.shape == (2, 6 * 2 ** (depth - 1), side // 2**depth, side // 2**depth)
        out = model.decode(h, depth)
        assert out.shape == images.shape
        assert out.min() >= 0 and out.max() <= 1
        assert torch.equal(out, model.reconstruct(images, depth))
    assert torch.equal(model(images), model.reconstruct(images))


def test_weights_start_as_keras_would_draw_them() -> None:
    model = made_model()
    for level in (*model.encoder, *model.decoder):
        deep, shallow, k, _ = level.weight.shape
        limit = (6 / (k * k * (deep + shallow))) ** 0.5  # Glorot and Bengio, 2010, equation 16
        assert 0.9 * limit < level.weight.abs().max() <= limit
        assert not level.bias.any()


def test_a_tied_norm_shares_its_parameters_and_not_its_statistics(images: Tensor) -> None:
    model = made_model(norm="tied")
    losses(model, images)
    for ours, theirs in zip(model.decoder_norms, model.encoder_norms, strict=False):
        assert ours.weight is theirs.weight and ours.bias is theirs.bias
        assert not ours.running_mean.equal(theirs.running_mean)
        assert not ours.running_var.equal(theirs.running_var)


def filtered(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What a level does at its own size."""
    return functional.selu(functional.conv2d(x, weight, bias, padding="same"))


@pytest.mark.parametrize(("kind", "order"), [("nearest", 0), ("bilinear", 1)])
@torch.no_grad()
def test_a_level_may_widen_by_interpolation(kind: str, order: int) -> None:
    level = made_model(upsample=kind).decoder[1].double()
    nn.init.normal_(level.bias)
    x = torch.randn(2, 12, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # Between the centres of pixels; grid_mode says so.
    wide = zoom(x.numpy(), (1, 1, 2, 2), order=order, mode="nearest", grid_mode=True)
    expected = filtered(torch.from_numpy(wide), level.weight.transpose(0, 1), level.bias)
    torch.testing.assert_close(level(x), expected)


@torch.no_grad()
def test_a_level_may_pool() -> None:
    level = made_model(downsample="maxpool").encoder[0].double()
    nn.init.normal_(level.bias)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    full = filtered(x, level.weight, level.bias)
    torch.testing.assert_close(level(x), full.view(2, 6, 4, 2, 4, 2).amax((3, 5)))
