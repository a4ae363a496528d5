"""The recursive loss of any autoencoder, in PyTorch alone."""

from collections.abc import Iterable

from torch import Tensor, nn


def recursive_losses(pairs: Iterable[tuple[nn.Module, nn.Module]], x: Tensor) -> list[Tensor]:
    """The scalar loss of each level: how well its decoder recreates what its encoder was given.

    pairs: encoder and decoder of every level, the first one takes x and makes something of its
    shape. The gradient of a loss reaches its own level alone. Minimise the sum of all.

    Raises ValueError where a decoder's output has another shape than its encoder's input.
    """
    losses = []
    for number, (encoder, decoder) in enumerate(pairs, start=1):
        x = x.detach()
        h = encoder(x)
        output = decoder(h)
        if output.shape != x.shape:
            shapes = f"{tuple(output.shape)}, its encoder takes {tuple(x.shape)}"
            raise ValueError(f"the decoder of level {number} gives {shapes}: make them equal")
        losses.append(nn.functional.mse_loss(output, x))
        x = h
    return losses
