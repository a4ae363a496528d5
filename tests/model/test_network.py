"""The network: its size, its shapes, what its norms share, and its files."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stages.common.errors import PipelineError
from stages.model import network
from stages.model.network import FILTERS, Autoencoder, Norm
from tests.conftest import model_settings


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("norm", "variational", "extra"),
    [
        ("none", False, 0),
        ("batch", False, 2_280),
        ("shared", False, 1_524),
        ("none", True, 295_680),
    ],
)
@pytest.mark.parametrize("training", ["stacked", "recursive"])
def test_parameter_counts(training: str, norm: str, variational: bool, extra: int) -> None:
    model = Autoencoder(model_settings(training=training, norm=norm, variational=variational))
    assert count(model.encoder) == 885_732
    assert count(model.decoder) == 885_351
    assert count(model) == 885_732 + 885_351 + extra


def test_every_depth_halves_the_image_and_comes_back(images: Tensor) -> None:
    model = Autoencoder(model_settings()).eval()
    for depth, filters in enumerate(FILTERS, start=1):
        h = model.encode(images, depth)
        assert h.shape == (16, filters, 128 // 2**depth, 128 // 2**depth)
        out = model.decode(h, depth)
        assert out.shape == images.shape
        assert out.min() >= 0 and out.max() <= 1
        assert torch.equal(out, model.reconstruct(images, depth))


def test_weights_start_as_keras_would_draw_them() -> None:
    torch.manual_seed(0)
    model = Autoencoder(model_settings())
    for level in (*model.encoder, *model.decoder):
        deep, shallow, k, _ = level.weight.shape
        limit = (6 / (k * k * (deep + shallow))) ** 0.5  # Glorot and Bengio, 2010, equation 16
        assert 0.9 * limit < level.weight.abs().max() <= limit
        assert not level.bias.any()


def test_a_shared_norm_is_one_object_and_a_batch_norm_is_not() -> None:
    shared = Autoencoder(model_settings(norm="shared"))
    batch = Autoencoder(model_settings(norm="batch"))
    for k in range(6):
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
    from stages.model.losses import losses

    for training, times in (("stacked", 2), ("recursive", 1)):
        model = Autoencoder(model_settings(norm="shared", training=training))
        calls = []
        model.encoder_norms[2].register_forward_hook(lambda *_, calls=calls: calls.append(1))
        losses(model, images)
        assert len(calls) == times


@pytest.mark.parametrize("norm", ["none", "batch", "shared"])
def test_a_saved_model_comes_back_whole(tmp_path: Path, norm: str, images: Tensor) -> None:
    settings = model_settings(norm=norm, variational=norm == "none")
    model = Autoencoder(settings)
    model.reconstruct(images)  # moves the running statistics
    network.save(model, tmp_path / "model.safetensors")
    loaded, read = network.load(tmp_path / "model.safetensors")
    assert read == settings
    assert not loaded.training
    model.eval()
    with torch.no_grad():
        assert torch.equal(loaded.reconstruct(images), model.reconstruct(images))


@pytest.mark.parametrize("norm", ["none", "shared"])
def test_a_damaged_model_is_refused(tmp_path: Path, norm: str) -> None:
    path = tmp_path / "model.safetensors"
    model = Autoencoder(model_settings(norm=norm))
    del model.encoder[3].weight
    network.save(model, path)
    with pytest.raises(PipelineError, match=r"model.safetensors is damaged .*encoder\.3\.weight"):
        network.load(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(PipelineError, match=r"model.safetensors is damaged"):
        network.load(path)


def test_a_missing_model_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="dvc pull"):
        network.load(tmp_path / "none.safetensors")
