"""The network: its size, its shapes, what its norms share."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.model.losses import losses
from stages.model.network import Autoencoder, Norm
from tests.conftest import made_model, model_settings


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("norm", "variational", "extra"),
    [
        ("none", False, 0),
        ("batch", False, 2_280),
        ("shared", False, 1_524),
        ("tied", False, 1_524),
        ("none", True, 295_680),
    ],
)
@pytest.mark.parametrize("training", ["stacked", "recursive", "joint"])
def test_parameter_counts(training: str, norm: str, variational: bool, extra: int) -> None:
    model = Autoencoder(model_settings(training=training, norm=norm, variational=variational))
    assert count(model.encoder) == 885_732
    assert count(model.decoder) == 885_351
    assert count(model) == 885_732 + 885_351 + extra


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


def test_a_shared_norm_is_one_object_and_a_batch_norm_is_not() -> None:
    shared = made_model(norm="shared")
    batch = made_model(norm="batch")
    for k in range(4):
        assert shared.decoder_norms[k] is shared.encoder_norms[k]
        assert batch.decoder_norms[k] is not batch.encoder_norms[k]


def test_norm_is_keras_batch_normalisation() -> None:
    x = torch.randn(8, 5, 3, 3, generator=torch.Generator().manual_seed(0)) * 3 + 1
    norm = Norm(5)
    out = norm(x)
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    expected = (x - mean.view(-1, 1, 1)) / (variance.view(-1, 1, 1) + 1e-3).sqrt()
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm.running_mean, 0.01 * mean)
    torch.testing.assert_close(norm.running_var, 0.99 + 0.01 * variance)
    before = norm.running_mean.clone()
    inferred = norm.eval()(x)
    scale = (norm.running_var + 1e-3).sqrt().view(-1, 1, 1)
    torch.testing.assert_close(inferred, (x - before.view(-1, 1, 1)) / scale)
    assert torch.equal(norm.running_mean, before)


def test_stacked_training_updates_a_shared_norm_twice_a_step(images: Tensor) -> None:
    for training, times in (("stacked", 2), ("recursive", 1)):
        model = made_model(norm="shared", training=training)
        calls = []
        model.encoder_norms[2].register_forward_hook(lambda *_, calls=calls: calls.append(1))
        losses(model, images)
        assert len(calls) == times


def test_a_tied_norm_shares_its_parameters_and_not_its_statistics(images: Tensor) -> None:
    model = made_model(norm="tied")
    losses(model, images)
    for ours, theirs in zip(model.decoder_norms, model.encoder_norms, strict=False):
        assert ours.weight is theirs.weight and ours.bias is theirs.bias
        assert not ours.running_mean.equal(theirs.running_mean)
        assert not ours.running_var.equal(theirs.running_var)


def same(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution of stride 1 whose output is as large as its input, as sums of shifts."""
    size = weight.shape[2]
    padded = functional.pad(x, [size // 2] * 4)
    _, _, height, width = x.shape
    return bias.view(-1, 1, 1) + sum(
        torch.einsum(
            "nchw,oc->nohw", padded[:, :, i : i + height, j : j + width], weight[:, :, i, j]
        )
        for i in range(size)
        for j in range(size)
    )


@pytest.mark.parametrize("kind", ["nearest", "bilinear"])
@torch.no_grad()
def test_a_level_may_widen_by_interpolation(kind: str) -> None:
    level = made_model(upsample=kind).decoder[1].double()
    nn.init.normal_(level.bias)
    x = torch.randn(2, 12, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if kind == "nearest":
        wide = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    else:  # pixel centres: a new pixel is a quarter of the way from the old one to its neighbour
        wide = x
        for axis in (2, 3):
            before = torch.cat([wide.narrow(axis, 0, 1), wide.narrow(axis, 0, 3)], axis)
            after = torch.cat([wide.narrow(axis, 1, 3), wide.narrow(axis, 3, 1)], axis)
            pairs = torch.stack([0.75 * wide + 0.25 * before, 0.75 * wide + 0.25 * after], axis + 1)
            wide = pairs.flatten(axis, axis + 1)
    expected = functional.selu(same(wide, level.weight.transpose(0, 1), level.bias))
    torch.testing.assert_close(level(x), expected)


@torch.no_grad()
def test_a_level_may_pool() -> None:
    level = made_model(downsample="maxpool").encoder[0].double()
    nn.init.normal_(level.bias)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    full = functional.selu(same(x, level.weight, level.bias))
    expected = full.view(2, 6, 4, 2, 4, 2).amax((3, 5))
    torch.testing.assert_close(level(x), expected)


@pytest.mark.parametrize(
    "changes",
    [{}, {"norm": "shared"}, {"variational": True}, {"upsample": "bilinear"}],
    ids=str,
)
def test_an_exported_model_takes_any_number_of_images(
    changes: dict[str, Any], images: Tensor
) -> None:
    model = made_model(**changes).eval()
    shapes = {"images": {0: torch.export.Dim.DYNAMIC}}
    exported = torch.export.export(model, (images,), dynamic_shapes=shapes).module()
    for count in (16, 5, 1):
        with torch.no_grad():
            found, expected = exported(images[:count]), model(images[:count])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
