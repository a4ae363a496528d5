"""The network: seven encoder levels, seven decoder levels, their norms, the variational head.

Decoder level k undoes encoder level k; level 1 is the one that touches the image (paper, section
4.2). Filters, initialisation and norm constants are what the authors ran; the paper does not say.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.common.errors import PipelineError
from stages.common.settings import RELEASED, ModelSettings
from stages.kernels import operations

FILTERS = (6, 12, 24, 48, 96, 192, 384)
DEPTH = len(FILTERS)
LATENT = FILTERS[-1]
SIZE = 2**DEPTH


class Level(nn.Module):
    """One encoder or decoder level: weight (deep, shallow, k, k), bias, and its activation."""

    def __init__(self, deep: int, shallow: int, kernel: int, bias: int, activation: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(deep, shallow, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(bias))
        self.activation = activation
        nn.init.xavier_uniform_(self.weight)


class EncoderLevel(Level):
    def forward(self, x: Tensor) -> Tensor:
        """(N, shallow, 2h, 2w) -> (N, deep, h, w)."""
        return operations.convolution(x, self.weight, self.bias, self.activation)


class DecoderLevel(Level):
    def forward(self, x: Tensor) -> Tensor:
        """(N, deep, h, w) -> (N, shallow, 2h, 2w)."""
        return operations.transposed_convolution(x, self.weight, self.bias, self.activation)


class Norm(nn.Module):
    """Batch normalisation with Keras' constants; the running variance is the biased one, as there.

    In training mode an activation is normalised by its own batch, whose statistics enter the
    running ones with a share of 0.01; in evaluation mode by the running ones.
    """

    MOMENTUM = 0.01
    EPSILON = 1e-3

    def __init__(self, channels: int) -> None:
        super().__init__()
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
            self.running_mean.lerp_(mean, self.MOMENTUM)
            self.running_var.lerp_(variance, self.MOMENTUM)
        return out

    def infer(self, x: Tensor) -> Tensor:
        """The same with the running statistics, whatever the mode."""
        scale = self.weight * (self.running_var + self.EPSILON).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)


class Autoencoder(nn.Module):
    """The model that `settings` describe, with fresh weights from torch's global generator.

    `encoder[k-1]` and `decoder[k-1]` are the two halves of level k, `encoder_norms[k-1]` follows
    encoder level k, `decoder_norms[k-1]` what decoder level k+1 recreates of level k. With a shared
    norm the last two are one object.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        released = settings.implementation == "released"
        self.settings = settings
        self.shared = settings.norm == "shared"
        # The authors' notebooks with norms have kernel 3, not 5, in the last decoder level.
        kernels = {("decoder", 1): 3 if released and settings.norm != "none" else 5}
        kernels["encoder", 1] = 5
        channels = (3, *FILTERS)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for k in range(1, DEPTH + 1):
            deep, shallow = channels[k], channels[k - 1]
            kernel = kernels.get(("encoder", k), 3)
            self.encoder.append(EncoderLevel(deep, shallow, kernel, deep, settings.activation))
            activation = "sigmoid" if k == 1 else settings.activation
            kernel = kernels.get(("decoder", k), 3)
            self.decoder.append(DecoderLevel(deep, shallow, kernel, shallow, activation))
        normed = settings.norm != "none"
        norm = Norm if normed else lambda channels: nn.Identity()
        self.encoder_norms = nn.ModuleList(norm(filters) for filters in FILTERS)
        self.decoder_norms = (
            self.encoder_norms[:-1]
            if self.shared
            else nn.ModuleList(norm(filters) for filters in FILTERS[:-1])
        )
        if settings.variational:
            self.mean, self.log_variance = nn.Linear(LATENT, LATENT), nn.Linear(LATENT, LATENT)
            for head in (self.mean, self.log_variance):
                nn.init.xavier_uniform_(head.weight)
                nn.init.zeros_(head.bias)
        # The authors' recursive variational model was saved without its head, and judged so.
        self.without_head = released and settings.variational and settings.training == "recursive"
        # Their stacked models with norms were copied after encoder levels 1 to 6 had been frozen.
        self.frozen = released and normed and settings.training == "stacked"
        if self.frozen:
            self.encoder[:-1].requires_grad_(False)
            self.encoder_norms[:-1].requires_grad_(False)
            self.train()
        self._check_size()

    def _check_size(self) -> None:
        expected = 885_732 + 885_351
        expected += {"none": 0, "batch": 1_524 + 756, "shared": 1_524}[self.settings.norm]
        expected += 295_680 if self.settings.variational else 0
        if self.decoder[0].weight.shape[2] == 3:
            expected -= FILTERS[0] * 3 * (25 - 9)
        count = sum(parameter.numel() for parameter in self.parameters())
        assert count == expected, f"{count} parameters, not the paper's {expected}"

    def train(self, mode: bool = True) -> "Autoencoder":
        """As everywhere in PyTorch, but a frozen norm stays in evaluation mode, as in Keras."""
        super().train(mode)
        if self.frozen:
            self.encoder_norms[:-1].eval()
        return self

    def encode_levels(self, images: Tensor, depth: int = DEPTH) -> Tensor:
        """Level `depth`'s activation, after its norm, for images (N,3,128,128) in [0,1]."""
        h = images
        for k in range(1, depth + 1):
            h = self.encode_level(k, h)
        return h

    def encode_level(self, k: int, h: Tensor) -> Tensor:
        """Level k's activation, after its norm, for that of level k-1 (k = 1: for images)."""
        return self.encoder_norms[k - 1](self.encoder[k - 1](h))

    def decode_level(self, k: int, h: Tensor) -> Tensor:
        """What decoder level k makes of h, after its norm: the input of decoder level k-1."""
        out = self.decoder[k - 1](h)
        return out if k == 1 else self.decoder_norms[k - 2](out)

    def latent(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (N,384) of the latent, for level 7's activation (N,384,1,1)."""
        flat = h.flatten(1)
        return self.mean(flat), self.log_variance(flat)

    def encode(self, images: Tensor, depth: int = DEPTH) -> Tensor:
        """What decoder level `depth` takes, for images (N,3,128,128) in [0,1].

        (N, filters, s, s) with s = 128 / 2**depth; at depth 7 of a variational model the mean.
        """
        h = self.encode_levels(images, depth)
        return self.code(h) if depth == DEPTH else h

    def code(self, h: Tensor) -> Tensor:
        """What decoder level 7 takes for level 7's activation (N,384,1,1): h or its latent mean."""
        if not self.settings.variational or self.without_head:
            return h
        return self.latent(h)[0].view_as(h)

    def decode(self, h: Tensor, depth: int = DEPTH) -> Tensor:
        """Images (N,3,128,128) in [0,1], from what decoder level `depth` takes."""
        for k in range(depth, 0, -1):
            h = self.decode_level(k, h)
        return h

    def reconstruct(self, images: Tensor, depth: int = DEPTH) -> Tensor:
        """Images through `depth` encoder and decoder levels; (N,3,128,128) in [0,1] both."""
        return self.decode(self.encode(images, depth), depth)

    def sample(self, latent: Tensor) -> Tensor:
        """Images (N,3,128,128) in [0,1] of latents (N,384), drawn from a standard normal."""
        return self.decode(latent.view(-1, LATENT, 1, 1))


def weights_file(settings: ModelSettings, seed: int) -> str:
    """The name of a seed's weights in models/<variant>/."""
    return f"{RELEASED if settings.implementation == 'released' else ''}seed{seed}.safetensors"


def save(model: Autoencoder, path: Path) -> None:
    """Write the weights as safetensors, with the model's settings in the file's metadata."""
    weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    if model.shared:
        weights = {k: v for k, v in weights.items() if not k.startswith("decoder_norms.")}
    save_file(weights, path, metadata={"settings": model.settings.model_dump_json()})


def load(path: Path) -> tuple[Autoencoder, ModelSettings]:
    """A model as `save` wrote it, in evaluation mode.

    Raises PipelineError where there is none, or one that lacks something.
    """
    if not path.exists():
        raise PipelineError(f"{path} does not exist; `dvc repro` trains it, `dvc pull` fetches it")
    try:
        with safe_open(path, "pt") as file:
            settings = ModelSettings.model_validate_json(file.metadata()["settings"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model = Autoencoder(settings)
        if model.shared:
            for name in model.decoder_norms.state_dict():
                weights[f"decoder_norms.{name}"] = weights[f"encoder_norms.{name}"]
        model.load_state_dict(weights)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise PipelineError(
            f"{path} is damaged ({reason}); delete it and run `dvc repro`"
        ) from None
    return model.eval(), settings


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
