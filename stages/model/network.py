"""The network: encoder levels, as many decoder levels, their norms, the variational head.

Decoder level k undoes encoder level k; level 1 is the one that touches the image (paper, section
4.2). The paper's has seven levels for 128 x 128 pixels. Filters, initialisation and norm constants
are what the authors ran; the paper does not say.
"""

import os
from itertools import pairwise

import torch
from torch import Tensor, nn

from stages.common.errors import PipelineError
from stages.common.settings import ModelSettings
from stages.data.faces import SIZE
from stages.kernels import operations
from stages.kernels.operations import Activation
from stages.model.released import accidents

# The paper's.
FILTERS = (6, 12, 24, 48, 96, 192, 384)
DEPTH = len(FILTERS)
LATENT = FILTERS[-1]
# The environment variable that `device` reads.
DEVICE = "RECURSIVE_AUTOENCODER_DEVICE"


class Level(nn.Module):
    """One encoder or decoder level: weight (deep, shallow, k, k), bias, and its activation."""

    def __init__(
        self, deep: int, shallow: int, kernel: int, bias: int, activation: Activation, resize: str
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(deep, shallow, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(bias))
        self.activation = activation
        self.resize = resize
        nn.init.xavier_uniform_(self.weight)


class EncoderLevel(Level):
    def forward(self, x: Tensor) -> Tensor:
        """(N, shallow, 2h, 2w) -> (N, deep, h, w)."""
        if self.resize == "stride":
            return operations.convolution(x, self.weight, self.bias, self.activation)
        return operations.pooled_convolution(x, self.weight, self.bias, self.activation)


class DecoderLevel(Level):
    def forward(self, x: Tensor) -> Tensor:
        """(N, deep, h, w) -> (N, shallow, 2h, 2w)."""
        if self.resize == "transposed":
            return operations.transposed_convolution(x, self.weight, self.bias, self.activation)
        wide, weight = operations.upsample(x, self.resize), self.weight.transpose(0, 1)
        return operations.convolution(wide, weight, self.bias, self.activation, stride=1)


class Norm(nn.Module):
    """Batch normalisation with Keras' constants; the running variance is the biased one, as there.

    In training mode an activation is normalised by its own batch, whose statistics enter the
    running ones with a weight of `momentum`; in evaluation mode by the running ones.
    """

    EPSILON = 1e-3
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.momentum = 0.01
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        if not self.training:
            return self.infer(x)
        out, mean, variance = operations.batch_norm(x, self.weight, self.bias, self.EPSILON)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance, self.momentum)
        return out

    def infer(self, x: Tensor) -> Tensor:
        """The same with the running statistics, whatever the mode."""
        scale = self.weight * (self.running_var + self.EPSILON).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)


class Autoencoder(nn.Module):
    """The model that `settings` describe, with fresh weights from torch's global generator.

    It has `depth` levels for images of `size` pixels a side; the last has `latent` channels.
    `encoder[k-1]` and `decoder[k-1]` are the two halves of level k, `encoder_norms[k-1]` follows
    encoder level k, `decoder_norms[k-1]` what decoder level k+1 recreates of level k. With a shared
    norm the last two are one object; tied, they share weight and bias and keep statistics of their
    own.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.accidents = accidents(settings)
        self.size, self.depth = settings.size or SIZE, settings.depth
        filters = [FILTERS[0] * 2**k for k in range(self.depth)]
        self.latent = filters[-1]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for k, (shallow, deep) in enumerate(pairwise((3, *filters)), start=1):
            kernel = 5 if k == 1 else 3
            activation: Activation = settings.activation
            self.encoder.append(
                EncoderLevel(deep, shallow, kernel, deep, activation, settings.downsample)
            )
            if k == 1:
                kernel = 3 if self.accidents.last_kernel_3 else 5
                activation = "sigmoid"
            self.decoder.append(
                DecoderLevel(deep, shallow, kernel, shallow, activation, settings.upsample)
            )
        self._add_norms(filters)
        if settings.variational:
            self.mean, self.log_variance = (nn.Linear(self.latent, self.latent) for _ in range(2))
            for head in (self.mean, self.log_variance):
                nn.init.xavier_uniform_(head.weight)
                nn.init.zeros_(head.bias)
        if self.accidents.frozen_encoder:
            self.encoder[:-1].requires_grad_(False)
            self.encoder_norms[:-1].requires_grad_(False)
            self.train()
        if self.size == SIZE and self.depth == DEPTH:
            self._check_count()

    def _add_norms(self, filters: list[int]) -> None:
        kind = self.settings.norm
        norm = nn.Identity if kind == "none" else Norm
        self.encoder_norms = nn.ModuleList(norm(channels) for channels in filters)
        if kind == "shared":
            self.decoder_norms = self.encoder_norms[:-1]
            return
        self.decoder_norms = nn.ModuleList(norm(channels) for channels in filters[:-1])
        if kind == "tied":
            for ours, theirs in zip(self.decoder_norms, self.encoder_norms, strict=False):
                ours.weight, ours.bias = theirs.weight, theirs.bias

    def _check_count(self) -> None:
        expected = 885_732 + 885_351
        expected += {"none": 0, "batch": 1_524 + 756}.get(self.settings.norm, 1_524)
        expected += 295_680 if self.settings.variational else 0
        if self.accidents.last_kernel_3:
            expected -= FILTERS[0] * 3 * (25 - 9)
        count = sum(parameter.numel() for parameter in self.parameters())
        assert count == expected, f"{count} parameters, not the paper's {expected}"

    def train(self, mode: bool = True) -> "Autoencoder":
        """As everywhere in PyTorch, but a frozen norm stays in evaluation mode, as in Keras."""
        super().train(mode)
        if self.accidents.frozen_encoder:
            self.encoder_norms[:-1].eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """The reconstruction of images (N,3,size,size) in [0,1], likewise."""
        return self.reconstruct(images)

    def encode_level(self, k: int, h: Tensor) -> Tensor:
        """Level k's activation, after its norm, for that of level k-1 (k = 1: for images)."""
        out: Tensor = self.encoder_norms[k - 1](self.encoder[k - 1](h))
        return out

    def decode_level(self, k: int, h: Tensor) -> Tensor:
        """What decoder level k makes of h, after its norm: the input of decoder level k-1."""
        out: Tensor = self.decoder[k - 1](h)
        if k > 1:
            out = self.decoder_norms[k - 2](out)
        return out

    def decoder_error(self, k: int, h: Tensor, target: Tensor) -> Tensor:
        """How far what decoder level k makes of h, before its norm, is from `target`.

        Their mean squared error, a scalar.
        """
        level = _level(self.decoder, k)
        if self.settings.upsample == "transposed":
            return operations.recreation_error(
                h, level.weight, level.bias, level.activation, target
            )
        return operations.squared_error(level(h), target)

    @property
    def after_norm(self) -> bool:
        """Whether a level recreates activations after their norm, with a norm of its own."""
        separate = self.settings.norm in ("batch", "tied")
        return separate and not self.accidents.untrained_decoder_norms

    def infer_norm(self, k: int, activation: Tensor) -> Tensor:
        """Level k's activation after its norm in inference mode, without a gradient."""
        norm = self.encoder_norms[k - 1]
        with torch.no_grad():
            return norm.infer(activation) if isinstance(norm, Norm) else activation.detach()

    def nothing_between_halves(self, k: int) -> bool:
        """Whether level k's decoder takes what its encoder gives: no norm, no latent."""
        return self.settings.norm == "none" and not (k == self.depth and self.settings.variational)

    def level(self, k: int, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Level k on its own, where nothing is between its halves.

        Its activation for x, detached, and the mean squared error with which it recreates `target`.
        """
        encoder, decoder = _level(self.encoder, k), _level(self.decoder, k)
        if (self.settings.downsample, self.settings.upsample) == ("stride", "transposed"):
            return operations.level(
                x,
                target,
                (encoder.weight, encoder.bias),
                (decoder.weight, decoder.bias),
                (encoder.activation, decoder.activation),
            )
        h = encoder(x)
        return h.detach(), self.decoder_error(k, h, target)

    def posterior(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (N,latent) for the last level's activation (N,latent,1,1)."""
        flat = h.flatten(1)
        return self.mean(flat), self.log_variance(flat)

    def encode(self, images: Tensor, depth: int | None = None) -> Tensor:
        """What decoder level `depth`, or the last, takes, for images (N,3,size,size) in [0,1].

        (N, filters, s, s) with s = size / 2**depth; at the end of a variational model the mean.
        """
        depth = self.depth if depth is None else depth
        h = images
        for k in range(1, depth + 1):
            h = self.encode_level(k, h)
        return self.code(h) if depth == self.depth else h

    def code(self, h: Tensor) -> Tensor:
        """What the last decoder level takes for the last activation: h or its latent mean."""
        if not self.settings.variational or self.accidents.without_mean:
            return h
        return self.posterior(h)[0].view_as(h)

    def decode(self, h: Tensor, depth: int | None = None) -> Tensor:
        """Images (N,3,size,size) in [0,1], from what decoder level `depth`, or the last, takes."""
        for k in range(self.depth if depth is None else depth, 0, -1):
            h = self.decode_level(k, h)
        return h

    def reconstruct(self, images: Tensor, depth: int | None = None) -> Tensor:
        """Images (N,3,size,size) in [0,1] through `depth` encoder and decoder levels, or all."""
        return self.decode(self.encode(images, depth), depth)

    def sample(self, latent: Tensor) -> Tensor:
        """Images (N,3,size,size) in [0,1] of latents (N,latent), drawn from a standard normal."""
        return self.decode(latent.view(-1, self.latent, 1, 1))


def _level(half: nn.ModuleList, k: int) -> Level:
    level = half[k - 1]
    assert isinstance(level, Level)
    return level


def state(model: Autoencoder) -> dict[str, Tensor]:
    """The model's own tensors by name, weights and running statistics: what is shared stands once.

    They are the model's, not copies.
    """
    found: dict[str, Tensor] = {}
    addresses: set[int] = set()
    for name, value in model.state_dict().items():
        if value.data_ptr() not in addresses:
            found[name] = value
        addresses.add(value.data_ptr())
    return found


def device() -> torch.device:
    """What computes: the environment variable `DEVICE` says cpu, cuda, or auto, which is a GPU
    where there is one. It is the machine's choice, not the experiment's. Raises PipelineError for
    any other value, and for a GPU that is not there.
    """
    chosen, gpu = os.environ.get(DEVICE, "auto"), torch.cuda.is_available()
    if chosen not in ("auto", "cpu", "cuda"):
        raise PipelineError(f"{DEVICE} is {chosen!r}: it should be auto, cpu or cuda")
    if chosen == "cuda" and not gpu:
        raise PipelineError(f"{DEVICE} is cuda, but PyTorch finds no GPU here; auto takes the CPU")
    return torch.device("cuda" if gpu and chosen != "cpu" else "cpu")
