"""What a model is trained to minimise: stacked, recursive and joint, from the same levels."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from stages.common.settings import ModelSettings
from stages.kernels.operations import squared_error
from stages.model.network import Autoencoder


class Loss(NamedTuple):
    """How well encoder level `first`'s input is recreated from the activation of level `last`.

    `weight` times the mean squared error between that input and what decoder levels `last` to
    `first` make of the activation. Its gradient stays in levels `first` to `last` if `detached`,
    else it reaches all encoder levels before them, too. None goes through the input as a target, or
    it would ask encoders for activations that are easy to recreate.
    """

    first: int
    last: int
    detached: bool = True
    weight: float = 1.0

    @property
    def start(self) -> int:
        """The first level that has a gradient."""
        return self.first if self.detached else 1


def plan(settings: ModelSettings, stacked: bool = False) -> dict[str, Loss]:
    """The losses of a training by name; where `stacked`, those of a stacked one."""
    depth, levels = settings.depth, range(1, settings.depth + 1)
    if stacked or settings.training == "stacked":
        return {"reconstruction": Loss(1, depth)}
    if settings.training == "joint":
        weights = level_weights(settings)
        return {f"level_{k}": Loss(k, depth, False, weights[k - 1]) for k in levels}
    named = {f"level_{k}": Loss(k, k) for k in levels}
    for more in range(1, settings.reach or 1):
        named |= {f"level_{k}_to_{k + more}": Loss(k, k + more) for k in levels[:-more]}
    return named


def level_weights(settings: ModelSettings) -> list[float]:
    """The weights of joint training's losses, level 1 first; those with a name sum to the depth."""
    if isinstance(settings.level_weights, list):
        return settings.level_weights
    base = {"equal": 1.0, "image": 0.5, "latent": 2.0}[settings.level_weights]
    powers = [base**k for k in range(settings.depth)]
    return [settings.depth * power / sum(powers) for power in powers]


def losses(model: Autoencoder, images: Tensor, stacked: bool = False) -> dict[str, Tensor]:
    """The scalar losses whose sum `model` minimises, for images (N,3,size,size) in [0,1].

    By the names of `plan`, and of a variational model `kl`.
    """
    return {name: loss for part in parts(model, images, stacked) for name, loss in part.items()}


def parts(model: Autoencoder, images: Tensor, stacked: bool = False) -> Iterator[dict[str, Tensor]]:
    """The same in parts, by the level that they start at. No two share an operation that has a
    gradient: one can be used and dropped before the next is computed.

    With `separate_steps` the weights may change between parts, and the next part sees them; targets
    are of before the first part.
    """
    planned, separate = plan(model.settings, stacked), model.settings.separate_steps
    x, targets = images, {0: images}  # by the level that gives them
    for k in range(1, model.depth) if separate else ():
        targets[k] = model.encoder[k - 1](x).detach()
        x = model.infer_norm(k, targets[k])
    x = images
    for start in sorted({loss.start for loss in planned.values()}):
        own = {name: loss for name, loss in planned.items() if loss.start == start}
        h, part = from_level(model, start, x, own, targets)
        yield part
        x = model.infer_norm(start, model.encoder[start - 1](x)) if separate else h
        del targets[start - 1]


def from_level(
    model: Autoencoder, start: int, x: Tensor, own: dict[str, Loss], targets: dict[int, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """What the next level takes, and the losses `own`, for the input x of level `start`.

    `targets` gains those of later losses. What an activation is as a target:

    - batch and tied: what its norm gives, recreated by decoder level k after *its* norm, so that
      every norm is trained;
    - shared, and both as released: what its norm takes. The shared norm then turns the recreated
      activation into what the next decoder level was trained on.

    As released, deeper levels see the norms of shallower ones in inference mode.
    """
    if [*own.values()] == [Loss(start, start)] and model.nothing_between_halves(start):
        h, error = model.level(start, x, targets[start - 1])
        targets.setdefault(start, h)
        return h, dict.fromkeys(own, error)
    h, found, divergence = x, dict[str, Tensor](), None
    for k in range(start, max(loss.last for loss in own.values()) + 1):
        activation = model.encoder[k - 1](h)
        inferred = model.infer_norm(k, activation) if model.accidents.inference_norms else None
        h = model.encoder_norms[k - 1](activation)
        if k == start:
            x = h.detach() if inferred is None else inferred
        targets.setdefault(k, (h if model.after_norm else activation).detach())
        if ending := {loss.first: name for name, loss in own.items() if loss.last == k}:
            code, divergence = _decoder_input(model, h) if k == model.depth else (h, None)
            found |= _recreated(model, k, code, ending, targets)
    named = {name: loss.weight * found[name] for name, loss in own.items()}
    return x, named if divergence is None else named | {"kl": divergence}


def _recreated(
    model: Autoencoder, last: int, h: Tensor, ending: dict[int, str], targets: dict[int, Tensor]
) -> dict[str, Tensor]:
    """The errors of decoder levels, with their names in `ending`, for the input h of the `last`."""
    found = {}
    for k in range(last, min(ending) - 1, -1):
        if len(ending) == 1 and k in ending and (k == 1 or not model.after_norm):
            found[ending[k]] = model.decoder_error(k, h, targets[k - 1])
            break
        activation = model.decoder[k - 1](h)
        h = model.decoder_norms[k - 2](activation) if k > 1 else activation
        if k in ending:
            output = h if model.after_norm else activation
            found[ending[k]] = squared_error(output, targets[k - 1])
    return found


def _decoder_input(model: Autoencoder, h: Tensor) -> tuple[Tensor, Tensor | None]:
    """What the last decoder level takes for the last activation h, and the divergence.

    A variational model in training draws it from its latent distribution, whose KL divergence from
    a standard normal is summed over dimensions, averaged over the batch, and divided by the number
    of pixels as in the authors' code; in evaluation it takes the mean.
    """
    if not (model.settings.variational and model.training):
        return model.code(h), None
    mean, log_variance = model.posterior(h)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    divergence = divergence.mean() * (model.settings.kl_weight or 1) / model.size**2
    return (mean + torch.randn_like(mean) * (log_variance / 2).exp()).view_as(h), divergence
