"""Which loss trains what: the trainings, as described and as released."""

import pytest
import torch
from torch import Tensor

from stages.model.losses import joint_losses, level_losses, level_weights, losses
from stages.model.network import Autoencoder
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


@pytest.mark.parametrize(
    ("norm", "implementation"),
    [
        *(("none", "described"), ("batch", "described"), ("shared", "described")),
        *(("tied", "described"), ("batch", "released"), ("shared", "released")),
    ],
)
def test_no_gradient_of_a_level_reaches_any_other(
    norm: str, implementation: str, images: Tensor
) -> None:
    model = Autoencoder(model_settings(norm=norm, implementation=implementation))
    for k, loss in enumerate(level_losses(model, images)):
        expected = {
            f"{half}.{k}.{part}" for half in ("encoder", "decoder") for part in ("weight", "bias")
        }
        if norm != "none":
            expected |= {f"encoder_norms.{k}.{part}" for part in ("weight", "bias")}
        if norm == "batch" and implementation == "described" and k:
            expected |= {f"decoder_norms.{k - 1}.{part}" for part in ("weight", "bias")}
        if norm == "tied" and k:  # the decoder's norm has the parameters of the level above
            expected |= {f"encoder_norms.{k - 1}.{part}" for part in ("weight", "bias")}
        # The mean of normalised numbers is zero whatever the weights: a gradient of rounding.
        found = reached(model, loss)
        assert found - expected == set()
        assert {f"encoder.{k}.weight", f"decoder.{k}.weight"} <= found


def test_described_recursive_training_trains_every_parameter(images: Tensor) -> None:
    for norm in ("none", "batch", "shared", "tied"):
        model = Autoencoder(model_settings(norm=norm))
        sum(losses(model, images).values()).backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_released_decoder_norms_are_never_trained(images: Tensor) -> None:
    model = Autoencoder(model_settings(norm="batch", implementation="released"))
    sum(losses(model, images).values()).backward()
    for norm in model.decoder_norms:
        assert norm.weight.grad is None
        assert not norm.running_mean.any()


def test_released_stacked_models_with_norms_keep_a_random_encoder(images: Tensor) -> None:
    model = Autoencoder(
        model_settings(training="stacked", norm="shared", implementation="released")
    )
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


def test_released_deeper_levels_see_shallower_norms_in_evaluation_mode(images: Tensor) -> None:
    described = Autoencoder(model_settings(norm="shared"))
    released = Autoencoder(model_settings(norm="shared", implementation="released"))
    released.encoder.load_state_dict(described.encoder.state_dict())
    seen = {}
    for name, model in (("described", described), ("released", released)):
        model.encoder[1].register_forward_hook(
            lambda module, inputs, out, name=name: seen.update({name: inputs[0]})
        )
        level_losses(model, images)
    first = described.encoder[0](images).detach()
    fresh = Autoencoder(model_settings(norm="shared")).encoder_norms[0]
    torch.testing.assert_close(seen["released"], fresh.infer(first))
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


@pytest.mark.parametrize("norm", ["none", "batch", "shared", "tied"])
def test_joint_losses_are_those_of_one_pass(norm: str, images: Tensor) -> None:
    """Decoder level k takes level k+1's recreation, and recreates encoder level k's input."""
    weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    model = Autoencoder(model_settings(training="joint", norm=norm, level_weights=weights))
    found = losses(model, images)
    assert list(found) == [f"level_{k}" for k in range(1, 8)]
    before, after = [images], [images]
    for level, normalise in zip(model.encoder, model.encoder_norms, strict=True):
        before.append(level(after[-1]))
        after.append(normalise(before[-1]))
    h = after[-1]
    for k in range(7, 0, -1):
        recreated = model.decoder[k - 1](h)
        h = model.decoder_norms[k - 2](recreated) if k > 1 else recreated
        ours, target = (h, after) if norm in ("batch", "tied") else (recreated, before)
        expected = weights[k - 1] * (ours - target[k - 1]).square().mean()
        assert found[f"level_{k}"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_no_gradient_reaches_the_encoder_through_a_target(images: Tensor) -> None:
    """With the targets held constant, the gradient in the encoder is the same."""
    model = Autoencoder(model_settings(training="joint")).double()
    images = images[:4].double()
    encoder = [level.weight for level in model.encoder]
    found = torch.autograd.grad(sum(joint_losses(model, images)), encoder)
    targets = [images]
    for level in model.encoder:
        targets.append(level(targets[-1]))
    constant = [target.detach() for target in targets]
    h, total = targets[-1], torch.zeros((), dtype=torch.float64)
    for k in range(7, 0, -1):
        h = model.decoder[k - 1](h)
        total = total + (h - constant[k - 1]).square().mean()
    for ours, expected in zip(found, torch.autograd.grad(total, encoder), strict=True):
        torch.testing.assert_close(ours, expected)


def test_a_joint_loss_reaches_all_below_it_and_no_decoder_level_above(images: Tensor) -> None:
    model = Autoencoder(model_settings(training="joint"))
    for k, loss in enumerate(joint_losses(model, images)):
        expected = {f"encoder.{j}" for j in range(7)} | {f"decoder.{j}" for j in range(k, 7)}
        assert {name.rpartition(".")[0] for name in reached(model, loss)} == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("equal", [1.0] * 7),
        ("image", [7 * 2 ** (6 - k) / 127 for k in range(7)]),
        ("latent", [7 * 2**k / 127 for k in range(7)]),
        ([1.0, 0.5, 2.0, 3.0, 1e-5, 1.0, 9.0], [1.0, 0.5, 2.0, 3.0, 1e-5, 1.0, 9.0]),
    ],
    ids=["equal", "image", "latent", "numbers"],
)
def test_level_weights(given: object, expected: list[float]) -> None:
    found = level_weights(model_settings(training="joint", level_weights=given))
    assert found == pytest.approx(expected)


def test_a_recursive_model_s_stacked_steps_are_a_stacked_model_s(images: Tensor) -> None:
    models = []
    for training in ("recursive", "stacked"):
        torch.manual_seed(0)
        models.append(Autoencoder(model_settings(training=training)))
    found, expected = losses(models[0], images, stacked=True), losses(models[1], images)
    assert set(found) == {"reconstruction"}
    assert found["reconstruction"].equal(expected["reconstruction"])


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


def test_released_recursive_variational_model_is_judged_without_its_head(images: Tensor) -> None:
    model = Autoencoder(model_settings(variational=True, implementation="released")).eval()
    h = images
    for level in model.encoder:
        h = level(h)
    torch.testing.assert_close(model.encode(images), h)
