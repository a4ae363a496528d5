"""Which loss trains what: the two trainings, and the wiring the published numbers came from."""

import pytest
import torch
from torch import Tensor

from stages.model.network import Autoencoder
from stages.model.losses import level_losses, losses
from tests.conftest import model_settings


def reached(model: Autoencoder, loss: Tensor) -> set[str]:
    """The names of the parameters that `loss` has a gradient other than zero in."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, [p for _, p in named], retain_graph=True, allow_unused=True)
    return {
        name
        for (name, _), grad in zip(named, grads, strict=True)
        if grad is not None and grad.any()
    }


@pytest.mark.parametrize("norm", ["none", "batch", "shared"])
@pytest.mark.parametrize("wiring", ["described", "published"])
def test_no_gradient_of_a_level_reaches_any_other(norm: str, wiring: str, images: Tensor) -> None:
    model = Autoencoder(model_settings(norm=norm, wiring=wiring))
    for k, loss in enumerate(level_losses(model, images)):
        expected = {
            f"{half}.{k}.{part}" for half in ("encoder", "decoder") for part in ("weight", "bias")
        }
        if norm != "none":
            expected |= {f"encoder_norms.{k}.{part}" for part in ("weight", "bias")}
        if norm == "batch" and wiring == "described" and k:
            expected |= {f"decoder_norms.{k - 1}.{part}" for part in ("weight", "bias")}
        # The mean of normalised numbers is zero whatever the weights: a gradient of rounding.
        assert reached(model, loss) - expected == set()
        assert {f"encoder.{k}.weight", f"decoder.{k}.weight"} <= reached(model, loss)


def test_described_recursive_training_trains_every_parameter(images: Tensor) -> None:
    for norm in ("none", "batch", "shared"):
        model = Autoencoder(model_settings(norm=norm))
        sum(losses(model, images).values()).backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_published_decoder_norms_are_never_trained(images: Tensor) -> None:
    model = Autoencoder(model_settings(norm="batch", wiring="published"))
    sum(losses(model, images).values()).backward()
    for norm in model.decoder_norms:
        assert norm.weight.grad is None
        assert not norm.running_mean.any()


def test_published_stacked_models_with_norms_keep_a_random_encoder(images: Tensor) -> None:
    model = Autoencoder(model_settings(training="stacked", norm="shared", wiring="published"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1)
    sum(losses(model, images).values()).backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert "encoder.6.weight" in changed
    assert "decoder.0.weight" in changed
    frozen = tuple(f"{part}.{k}." for part in ("encoder", "encoder_norms") for k in range(6))
    assert not any(name.startswith(frozen) for name in changed)


def test_published_deeper_levels_see_shallower_norms_in_evaluation_mode(images: Tensor) -> None:
    described = Autoencoder(model_settings(norm="shared"))
    published = Autoencoder(model_settings(norm="shared", wiring="published"))
    published.encoder.load_state_dict(described.encoder.state_dict())
    seen = {}
    for name, model in (("described", described), ("published", published)):
        model.encoder[1].register_forward_hook(
            lambda module, inputs, out, name=name: seen.update({name: inputs[0]})
        )
        level_losses(model, images)
    first = described.encoder[0](images).detach()
    fresh = Autoencoder(model_settings(norm="shared")).encoder_norms[0]
    torch.testing.assert_close(seen["published"], fresh.infer(first))
    torch.testing.assert_close(seen["described"], fresh.train()(first))


@pytest.mark.parametrize("variational", [False, True])
def test_stacked_and_recursive_have_the_same_parameters(variational: bool) -> None:
    shapes = []
    for training in ("stacked", "recursive"):
        torch.manual_seed(0)
        model = Autoencoder(model_settings(training=training, variational=variational))
        shapes.append({name: value.sum().item() for name, value in model.named_parameters()})
    assert shapes[0] == shapes[1]


def test_level_losses_without_norms_are_what_they_say(images: Tensor) -> None:
    model = Autoencoder(model_settings())
    found = level_losses(model, images)
    x = images
    for k in range(7):
        h = model.encoder[k](x)
        expected = (model.decoder[k](h) - x).square().mean()
        assert found[k].item() == pytest.approx(expected.item(), rel=1e-5)
        x = h


def test_stacked_loss_is_the_reconstruction_error(images: Tensor) -> None:
    model = Autoencoder(model_settings(training="stacked"))
    found = losses(model, images)
    assert set(found) == {"reconstruction"}
    expected = (model.reconstruct(images) - images).square().mean()
    assert found["reconstruction"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("training", ["stacked", "recursive"])
def test_variational_divergence(training: str, images: Tensor) -> None:
    model = Autoencoder(model_settings(training=training, variational=True))
    h = images
    for level in model.encoder:
        h = level(h)
    mean, log_variance = model.latent(h)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    standard = torch.distributions.Normal(0, 1)
    expected = torch.distributions.kl_divergence(normal, standard).sum(1).mean() / (128 * 128)
    assert losses(model, images)["kl"].item() == pytest.approx(expected.item(), rel=1e-4)
    model.eval()
    assert model.reconstruct(images).equal(model.reconstruct(images))


def test_published_recursive_variational_model_is_judged_without_its_head(images: Tensor) -> None:
    model = Autoencoder(model_settings(variational=True, wiring="published")).eval()
    h = images
    for level in model.encoder:
        h = level(h)
    torch.testing.assert_close(model.encode(images), h)
