"""What a model is trained to minimise: stacked and recursive, from the same levels."""

import torch
from torch import Tensor

from stages.model.network import DEPTH, SIZE, Autoencoder
from stages.kernels.operations import squared_error


def losses(model: Autoencoder, images: Tensor) -> dict[str, Tensor]:
    """The scalar losses whose sum `model` minimises, for images (N,3,128,128) in [0,1].

    Stacked: `reconstruction`, end to end. Recursive: `level_1` .. `level_7`, see `level_losses`.
    Variational models add `kl`.
    """
    kl: list[Tensor] = []
    if model.settings.training == "recursive":
        named = {f"level_{k}": x for k, x in enumerate(level_losses(model, images, kl), start=1)}
    else:
        output = model.decode(_decoder_input(model, model.encode_levels(images), kl))
        named = {"reconstruction": squared_error(output, images)}
    return named | ({"kl": kl[0]} if kl else {})


def level_losses(
    model: Autoencoder, images: Tensor, kl: list[Tensor] | None = None
) -> list[Tensor]:
    """Mean squared error of each level on its own (paper, section 3): seven scalars, level 1 first.

    Decoder level k recreates the input of encoder level k from that level's output. Inputs and
    targets are detached, so loss k has a gradient in level k alone. What "input" means with norms:

    - batch: the activation after its norm, recreated by decoder level k after *its* norm, so that
      every norm is trained;
    - shared, and both as released: the activation before its norm. The shared norm then turns the
      recreated activation into what the next decoder level was trained on.

    As released, deeper levels see the norms of shallower ones in evaluation mode (Keras runs
    frozen norms so). A variational model's divergence is appended to `kl` where it is given.
    """
    settings = model.settings
    released = settings.implementation == "released" and settings.norm != "none"
    after_norm = settings.norm == "batch" and not released
    found = []
    x = target = images
    for k in range(1, DEPTH + 1):
        norm = model.encoder_norms[k - 1]
        activation = model.encoder[k - 1](x)
        if released:
            with torch.no_grad():
                x = norm.infer(activation)
        h = norm(activation)
        output = model.decoder[k - 1](_decoder_input(model, h, kl) if k == DEPTH else h)
        if after_norm and k > 1:
            output = model.decoder_norms[k - 2](output)
        found.append(squared_error(output, target))
        if not released:
            x = h.detach()
        target = (h if after_norm else activation).detach()
    return found


def _decoder_input(model: Autoencoder, h: Tensor, kl: list[Tensor] | None) -> Tensor:
    """What decoder level 7 takes for level 7's activation h (N,384,1,1).

    A variational model in training draws it from its latent distribution, whose divergence from a
    standard normal (summed over dimensions, mean over the batch, divided by 128 * 128 as in the
    authors' code) is appended to `kl`; in evaluation it takes the mean.
    """
    if not (model.settings.variational and model.training):
        return model.code(h)
    mean, log_variance = model.latent(h)
    if kl is not None:
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        kl.append(divergence.mean() / SIZE**2)
    return (mean + torch.randn_like(mean) * (log_variance / 2).exp()).view_as(h)
