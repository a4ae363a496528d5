"""What a model is trained to minimise: stacked, recursive and joint, from the same levels."""

import torch
from torch import Tensor

from stages.common.settings import ModelSettings
from stages.data.faces import SIZE
from stages.kernels.operations import squared_error
from stages.model.network import DEPTH, Autoencoder, Norm


def losses(model: Autoencoder, images: Tensor, stacked: bool = False) -> dict[str, Tensor]:
    """The scalar losses whose sum `model` minimises, for images (N,3,128,128) in [0,1].

    Stacked, or any other model where `stacked`: `reconstruction`, end to end. Recursive and joint:
    `level_1` .. `level_7`. Variational models add `kl`.
    """
    kl: list[Tensor] = []
    if stacked or model.settings.training == "stacked":
        h = _decoder_input(model, model.encode_levels(images), kl)
        for k in range(DEPTH, 1, -1):
            h = model.decode_level(k, h)
        named = {"reconstruction": model.decoder_error(1, h, images)}
    else:
        of_levels = joint_losses if model.settings.training == "joint" else level_losses
        named = {f"level_{k}": x for k, x in enumerate(of_levels(model, images, kl), start=1)}
    return named | ({"kl": kl[0]} if kl else {})


def level_losses(
    model: Autoencoder, images: Tensor, kl: list[Tensor] | None = None
) -> list[Tensor]:
    """Mean squared error of each level on its own (paper, section 3): seven scalars, level 1 first.

    Decoder level k recreates the input of encoder level k from that level's output. Inputs and
    targets are detached, so loss k has a gradient in level k alone. What "input" means with norms:

    - batch and tied: the activation after its norm, recreated by decoder level k after *its* norm,
      so that every norm is trained;
    - shared, and both as released: the activation before its norm. The shared norm then turns the
      recreated activation into what the next decoder level was trained on.

    As released, deeper levels see the norms of shallower ones in inference mode. A variational
    model's KL divergence is appended to `kl` where it is given.
    """
    after_norm = _after_norm(model)
    found = []
    x = target = images
    for k in range(1, DEPTH + 1):
        if model.nothing_between_halves(k):
            x, loss = model.level(k, x, target)
            target = x
            found.append(loss)
            continue
        norm = model.encoder_norms[k - 1]
        activation = model.encoder[k - 1](x)
        if model.accidents.inference_norms:
            assert isinstance(norm, Norm)
            with torch.no_grad():
                x = norm.infer(activation)
        h = norm(activation)
        code = _decoder_input(model, h, kl) if k == DEPTH else h
        if after_norm and k > 1:
            output = model.decoder_norms[k - 2](model.decoder[k - 1](code))
            found.append(squared_error(output, target))
        else:
            found.append(model.decoder_error(k, code, target))
        if not model.accidents.inference_norms:
            x = h.detach()
        target = (h if after_norm else activation).detach()
    return found


def joint_losses(
    model: Autoencoder, images: Tensor, kl: list[Tensor] | None = None
) -> list[Tensor]:
    """A loss at every decoder level of one model, trained end to end: seven scalars, level 1 first.

    Loss k is `level_weights` k times the mean squared error between what decoder level k makes of
    level k+1's *recreation* and the matching encoder activation (before or after its norm as in
    `level_losses`), and its gradient runs through all levels below. The targets are detached: no
    gradient asks the encoder for activations that are easy to recreate, so that shrinking them
    gains nothing, and loss 1 loses the image with them.
    """
    after_norm = _after_norm(model)
    targets = [images]
    h = images
    for k in range(1, DEPTH + 1):
        activation = model.encoder[k - 1](h)
        h = model.encoder_norms[k - 1](activation)
        targets.append((h if after_norm else activation).detach())
    h = _decoder_input(model, h, kl)
    found = []
    for k in range(DEPTH, 0, -1):
        activation = model.decoder[k - 1](h)
        h = activation if k == 1 else model.decoder_norms[k - 2](activation)
        found.append(squared_error(h if after_norm else activation, targets[k - 1]))
    weights = level_weights(model.settings)
    return [weight * loss for weight, loss in zip(weights, reversed(found), strict=True)]


def level_weights(settings: ModelSettings) -> list[float]:
    """The weights of joint training's losses, level 1 first; those with a name sum to 7."""
    if isinstance(settings.level_weights, list):
        return settings.level_weights
    base = {"equal": 1.0, "image": 0.5, "latent": 2.0}[settings.level_weights]
    powers = [base**k for k in range(DEPTH)]
    return [DEPTH * power / sum(powers) for power in powers]


def _after_norm(model: Autoencoder) -> bool:
    """Whether a level recreates activations after their norm, with a norm of its own."""
    separate = model.settings.norm in ("batch", "tied")
    return separate and not model.accidents.untrained_decoder_norms


def _decoder_input(model: Autoencoder, h: Tensor, kl: list[Tensor] | None) -> Tensor:
    """What decoder level 7 takes for level 7's activation h (N,384,1,1).

    A variational model in training draws it from its latent distribution, whose KL divergence from
    a standard normal (summed over dimensions, mean over the batch, divided by 128 * 128 as in the
    authors' code) is appended to `kl`; in evaluation it takes the mean.
    """
    if not (model.settings.variational and model.training):
        return model.code(h)
    mean, log_variance = model.latent(h)
    if kl is not None:
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        kl.append(divergence.mean() / SIZE**2)
    return (mean + torch.randn_like(mean) * (log_variance / 2).exp()).view_as(h)
