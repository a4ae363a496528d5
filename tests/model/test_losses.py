"""Which loss trains what: the trainings, as described and as released."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages.model.losses import Loss, level_weights, losses, parts, plan
from stages.model.network import Autoencoder
from tests.conftest import made_model, small

NORMS = ("none", "batch", "shared", "tied")
TRAININGS: list[dict[str, Any]] = [
    {"training": "stacked"},
    {"training": "recursive"},
    {"training": "recursive", "reach": 3},
    {"training": "recursive", "levels": 2, "reach": 2},
    {"training": "joint", "level_weights": [1.0, 2.0, 3.0, 4.0, 5.0]},
]


def gradients(model: Autoencoder, loss: Tensor) -> dict[str, Tensor]:
    """Those of `loss`, by the names of the parameters."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, [*named.values()], retain_graph=True, allow_unused=True)
    return {name: g for name, g in zip(named, found, strict=True) if g is not None}


def as_defined(model: Autoencoder, images: Tensor, loss: Loss) -> Tensor:
    """A loss by what its definition says, one pass for it alone."""
    own = model.settings.norm in ("batch", "tied")
    x = target = images
    for k in range(1, loss.first):
        target = model.encoder[k - 1](x)
        x = model.encoder_norms[k - 1](target)
        target = x if own else target
    h = x.detach() if loss.detached else x
    for k in range(loss.first, loss.last + 1):
        h = model.encode_level(k, h)
    for k in range(loss.last, loss.first, -1):
        h = model.decode_level(k, h)
    h = model.decode_level(loss.first, h) if own else model.decoder[loss.first - 1](h)
    return loss.weight * (h - target.detach()).square().mean()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_losses_and_their_gradients_are_what_they_say(
    training: dict[str, Any], norm: str, images: Tensor
) -> None:
    model, images = made_model(norm=norm, **training).double(), images[:4].double()
    planned, found = plan(model.settings), losses(model, images)
    assert {*found} == {*planned}
    for name, loss in planned.items():
        expected = as_defined(model, images, loss)
        torch.testing.assert_close(found[name], expected)
        torch.testing.assert_close(gradients(model, found[name]), gradients(model, expected))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"training": "stacked"}, {"reconstruction": (1, 5)}),
        ({}, {f"level_{k}": (k, k) for k in range(1, 6)}),
        ({"training": "joint"}, {f"level_{k}": (k, 5, False) for k in range(1, 6)}),
        (
            {"levels": 3, "reach": 3},
            {"level_1": (1, 1), "level_2": (2, 2), "level_3": (3, 3)}
            | {"level_1_to_2": (1, 2), "level_2_to_3": (2, 3), "level_1_to_3": (1, 3)},
        ),
    ],
    ids=str,
)
def test_the_losses_of_every_training(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    assert plan(small(**changes)) == {name: Loss(*loss) for name, loss in expected.items()}
    assert plan(small(**changes), stacked=True).keys() == {"reconstruction"}


@pytest.mark.parametrize("norm", ["none", "batch", "shared"])
def test_a_released_level_trains_no_other_and_no_decoder_norm(norm: str, images: Tensor) -> None:
    model = made_model(norm=norm, implementation="released")
    for k, loss in enumerate(losses(model, images).values()):
        found = {name.rpartition(".")[0] for name in gradients(model, loss)}
        own = {f"encoder_norms.{k}"} if norm != "none" else set[str]()
        assert found == {f"encoder.{k}", f"decoder.{k}"} | own
    if norm == "batch":
        assert not any(each.running_mean.any() for each in model.decoder_norms)


def test_released_stacked_models_with_norms_keep_a_random_encoder(images: Tensor) -> None:
    model = made_model(training="stacked", norm="shared", implementation="released")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1)
    sum(losses(model, images).values()).backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert {"encoder.4.weight", "decoder.0.weight"} <= changed
    frozen = tuple(f"{part}.{k}." for part in ("encoder", "encoder_norms") for k in range(4))
    assert not any(name.startswith(frozen) for name in changed)


def steps_apart(model: Autoencoder, images: Tensor, lr: float) -> Iterator[tuple[Tensor, Tensor]]:
    """The input and target of every sub-model, each stepped before the next one's are computed."""
    targets, h = [images], images
    for level, norm in zip(model.encoder, model.encoder_norms, strict=True):
        targets.append(level(h))
        h = norm.infer(targets[-1]) if model.settings.norm != "none" else targets[-1]
    x = images
    for k, target in enumerate(targets[:-1], start=1):
        yield x, target
        activation = model.encode_level(k, x)
        error = (model.decoder[k - 1](activation) - target.detach()).square().mean()
        for name, gradient in gradients(model, error).items():
            model.get_parameter(name).data -= lr * gradient
        activation = model.encoder[k - 1](x)
        x = model.infer_norm(k, activation)


@pytest.mark.parametrize("norm", ["none", "shared"])
def test_separate_steps_see_what_the_levels_before_have_become(norm: str, images: Tensor) -> None:
    ours, theirs = (
        made_model(norm=norm, implementation="released", separate_steps=True).double()
        for _ in range(2)
    )
    images = images[:4].double()
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
    for part in parts(ours, images):
        optimizer.zero_grad()
        torch.autograd.backward([*part.values()])
        optimizer.step()
    assert len([*steps_apart(theirs, images, 0.1)]) == 5
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("equal", [1.0] * 5),
        ("image", [5 * 2 ** (4 - k) / 31 for k in range(5)]),
        ("latent", [5 * 2**k / 31 for k in range(5)]),
        ([1.0, 0.5, 2.0, 3.0, 1e-5], [1.0, 0.5, 2.0, 3.0, 1e-5]),
    ],
    ids=["equal", "image", "latent", "numbers"],
)
def test_level_weights(given: object, expected: list[float]) -> None:
    found = level_weights(small(training="joint", level_weights=given))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("weight", [None, 64.0])
@pytest.mark.parametrize("training", ["stacked", "recursive", "joint"])
def test_variational_divergence(training: str, weight: float | None, images: Tensor) -> None:
    model = made_model(training=training, variational=True, kl_weight=weight)
    mean, log_variance = model.posterior(nn.Sequential(*model.encoder)(images))
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    standard = torch.distributions.Normal(0, 1)
    expected = torch.distributions.kl_divergence(normal, standard).sum(1).mean() / (32 * 32)
    found = losses(model, images)["kl"].item()
    assert found == pytest.approx((weight or 1) * expected.item(), rel=1e-4)


def test_released_recursive_variational_model_is_judged_without_its_head(images: Tensor) -> None:
    model = made_model(variational=True, implementation="released").eval()
    torch.testing.assert_close(model.encode(images), nn.Sequential(*model.encoder)(images))
