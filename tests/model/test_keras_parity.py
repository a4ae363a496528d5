"""The same mathematics as an independent implementation, Keras 3 on JAX.

A twin of the autoencoder is made of Keras layers and given the same weights. Activations at every
level, losses, running statistics and training steps of the two must agree.
"""

import copy
import os

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # compiles twice as fast

import keras
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.model.losses import losses
from stages.model.network import Autoencoder
from tests.conftest import made_model
from tests.kernels.precision import (
    assert_as_exact,
    far_from_kinks,
    keep_from_kinks,
    plain_formulation,
    planted,
)

IMAGES = np.random.default_rng(0).random((16, 32, 32, 3), dtype=np.float32)
MODELS = [
    {},
    {"norm": "batch"},
    {"norm": "shared", "activation": "relu"},
    {"variational": True},
    {"norm": "batch", "implementation": "released"},
]
NORMED = [
    {"norm": norm, "training": training}
    for norm in ("batch", "shared")
    for training in ("stacked", "recursive")
]
STEPS = [
    {"training": "recursive"},
    {"training": "stacked"},
    # Keras' own frozen norms.
    {"training": "recursive", "norm": "shared", "implementation": "released"},
]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def autoencoder(**settings) -> Autoencoder:
    """A model whose biases and norms are not at their initial zeros and ones."""
    model = made_model(**settings)
    for key, value in model.state_dict().items():
        if key.endswith(("bias", "running_mean")):
            nn.init.normal_(value, std=0.1)
        elif key.endswith("running_var") or "norms" in key:
            nn.init.uniform_(value, 0.5, 2)
    return model


class Twin:
    """The layers of `model` in Keras: images (N,32,32,3), level 1 at index 0 of each list."""

    def __init__(self, model: Autoencoder) -> None:
        self.encoder, self.decoder = [], []
        for k, (encode, decode) in enumerate(zip(model.encoder, model.decoder, strict=True)):
            deep, shallow, size, _ = encode.weight.shape
            activation = model.settings.activation
            layer = keras.layers.Conv2D(deep, size, 2, "same", activation=activation)
            self.encoder.append(with_weights(layer, (None, None, None, shallow), encode))
            size, activation = decode.weight.shape[2], activation if k else "sigmoid"
            layer = keras.layers.Conv2DTranspose(shallow, size, 2, "same", activation=activation)
            self.decoder.append(with_weights(layer, (None, None, None, deep), decode))
        self.mean = None
        if model.settings.variational:
            dense = keras.layers.Dense(model.latent)
            self.mean = with_weights(dense, (None, model.latent), model.mean)
        self.encoder_norms = self.decoder_norms = [*map(batch_normalization, model.encoder_norms)]
        if model.settings.norm == "batch":
            self.decoder_norms = [*map(batch_normalization, model.decoder_norms)]

    def encode(self, h, training: bool = False) -> list:
        """The input of every decoder level."""
        levels = []
        for layer, norm in zip(self.encoder, self.encoder_norms, strict=True):
            h = norm(layer(h), training=training)
            levels.append(h)
        if self.mean:
            levels[-1] = self.mean(h[:, 0, 0])[:, None, None]
        return levels

    def decode_level(self, k: int, h, training: bool = False):
        out = self.decoder[k - 1](h)
        return self.decoder_norms[k - 2](out, training=training) if k > 1 else out


def with_weights(layer: keras.Layer, shape: tuple, ours: nn.Module) -> keras.Layer:
    layer.build(shape)
    layer.set_weights([keras_layout(value) for value in ours.state_dict().values()])
    return layer


def batch_normalization(norm: nn.Module) -> keras.Layer:
    if isinstance(norm, nn.Identity):
        return keras.layers.Identity()
    layer = keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3)
    return with_weights(layer, (None, None, None, len(norm.weight)), norm)


def keras_layout(weight: Tensor) -> np.ndarray:
    """Conv2D (height, width, in, out), Conv2DTranspose (height, width, out, in), Dense (in, out).

    Both convolutions are (deep, shallow, height, width) in the model. A copy, because JAX would
    keep using the model's own memory.
    """
    order = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[weight.ndim]
    return weight.detach().permute(order).numpy().copy()


def torch_images() -> Tensor:
    return torch.from_numpy(IMAGES).permute(0, 3, 1, 2)


def assert_same(ours: Tensor, theirs, tolerance: float = 1e-5) -> None:
    ours = ours.detach()
    ours = (ours.permute(0, 2, 3, 1) if ours.ndim == 4 else ours).numpy()
    np.testing.assert_allclose(ours, np.asarray(theirs), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("settings", MODELS, ids=str)
@torch.no_grad()
def test_activations_at_every_level(settings: dict) -> None:
    model = autoencoder(**settings).eval()
    twin = Twin(model)
    levels = twin.encode(IMAGES)
    for k in range(1, model.depth + 1):
        assert_same(model.encode(torch_images(), depth=k), levels[k - 1])
    ours, theirs = model.encode(torch_images()), levels[-1]
    for k in range(model.depth, 0, -1):
        ours, theirs = model.decode_level(k, ours), twin.decode_level(k, theirs)
        assert_same(ours, theirs)
    assert_same(model.reconstruct(torch_images()), theirs)


@pytest.mark.parametrize("settings", NORMED, ids=str)
def test_losses_and_running_statistics_of_a_training_pass(settings: dict) -> None:
    model = autoencoder(**settings).train()
    twin = Twin(model)
    found = [loss.item() for loss in losses(model, torch_images()).values()]
    if settings["training"] == "stacked":
        h = twin.encode(IMAGES, training=True)[-1]
        for k in range(model.depth, 0, -1):
            h = twin.decode_level(k, h, training=True)
        expected = [mean_squared_error(h, IMAGES)]
    else:
        expected = recursive_losses(twin, after_norm=settings["norm"] == "batch")
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for half in ("encoder_norms", "decoder_norms"):
        for ours, theirs in zip(getattr(model, half), getattr(twin, half), strict=False):
            assert_same(ours.running_mean, theirs.moving_mean)
            assert_same(ours.running_var, theirs.moving_variance)


def recursive_losses(twin: Twin, after_norm: bool) -> list[float]:
    """Each decoder level recreates what its encoder level was given: after the norm on both sides,
    or, with shared norms, before it on both."""
    found, target, h = [], IMAGES, IMAGES
    for k in range(1, len(twin.encoder) + 1):
        activation = twin.encoder[k - 1](h)
        h = twin.encoder_norms[k - 1](activation, training=True)
        out = twin.decoder[k - 1](h)
        if after_norm and k > 1:
            out = twin.decoder_norms[k - 2](out, training=True)
        found.append(mean_squared_error(out, target))
        target = h if after_norm else activation
    return found


def mean_squared_error(a, b) -> float:
    return float(np.mean(np.square(np.asarray(a) - np.asarray(b))))


@pytest.mark.parametrize("settings", STEPS, ids=str)
def test_one_training_step(settings: dict) -> None:
    """One Adam over all losses takes the step that Keras takes with one Adam a (sub-)model: both
    are as near to the step in double precision as single precision comes."""
    model = autoencoder(**settings).train()
    keep_from_kinks(model)
    twin = Twin(model)
    ours = our_step(model, torch.float32)
    with plain_formulation():
        single, double = our_step(model, torch.float32), our_step(model, torch.float64)
    layers = [*twin.encoder, *twin.decoder, *twin.encoder_norms]
    before = [value for layer in layers for value in layer.get_weights()]
    if settings["training"] == "recursive":
        step_sub_models(twin)
    else:
        step([*twin.encoder, *reversed(twin.decoder)], IMAGES, factor(model))
    after = [value for layer in layers for value in layer.get_weights()]
    theirs = [torch.from_numpy(new - old) for new, old in zip(after, before, strict=True)]
    moved = [part.abs().max().item() > 5e-4 for part in theirs]  # about the learning rate, 1e-3
    # But for what a norm takes away again: level 7's scale.
    assert all(moved) if not settings.get("norm") else sum(moved) == len(moved) - 3
    assert_as_exact(theirs, single, double)
    assert_as_exact(ours, single, double)
    fault = "convolution: swapped bias"
    with planted(fault), pytest.raises(AssertionError, match="is missed by"):
        assert_as_exact(our_step(model, torch.float32), single, double)


def factor(model: Autoencoder) -> float:
    """Of the loss: small gradients of a stack's first levels would get lost in Adam's epsilon."""
    return 1e10 if model.settings.training == "stacked" else 1.0


def our_step(model: Autoencoder, dtype: torch.dtype) -> list[Tensor]:
    """What one step changes in every level and encoder norm, in Keras' layout."""
    model = copy.deepcopy(model).to(dtype)
    before = copy.deepcopy(model)
    # Keras adds epsilon before the bias correction, PyTorch after it.
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7 / (1 - 0.999) ** 0.5)
    with far_from_kinks():
        (factor(model) * sum(losses(model, torch_images().to(dtype)).values())).backward()
    optimiser.step()

    def values(model: Autoencoder) -> list[np.ndarray]:
        parts = [*model.encoder, *model.decoder, *model.encoder_norms]
        return [keras_layout(value) for part in parts for value in part.state_dict().values()]

    pairs = zip(values(model), values(before), strict=True)
    return [torch.from_numpy(new - old) for new, old in pairs]


def step_sub_models(twin: Twin) -> None:
    """The paper's procedure: sub-model k is encoder levels 1 to k, all but the last frozen, and
    decoder level k, which recreates what encoder level k-1 puts out, before any norm or step."""
    levels = list(zip(twin.encoder, twin.encoder_norms, strict=True))
    targets, h = [IMAGES], IMAGES
    for layer, norm in levels[:-1]:
        targets.append(np.asarray(layer(h)))
        h = norm(targets[-1])
    # Deepest first: no sub-model sees an encoder already updated.
    for k in range(len(twin.encoder), 0, -1):
        for number, level in enumerate(levels, start=1):
            for layer in level:
                layer.trainable = number == k
        sub_model = [layer for level in levels[:k] for layer in level] + [twin.decoder[k - 1]]
        step(sub_model, targets[k - 1])


def step(layers: list[keras.Layer], target: np.ndarray, factor: float = 1.0) -> None:
    model = keras.Sequential([keras.Input(IMAGES.shape[1:]), *layers])
    model.compile(keras.optimizers.Adam(1e-3, epsilon=1e-7), "mse", loss_weights=[factor])
    model.train_on_batch(IMAGES, target)
