"""The paper's training procedure in Keras on TensorFlow, timed (paper sections 3 and 4.2).

For every batch of 32 faces: predict the targets (what the encoder levels put out before the step),
then one `train_on_batch` for each of the seven sub-models, which share their layers: that is
*recursive*. *Stacked* is one more `train_on_batch`, of an autoencoder of its own.

    .venv-bench/bin/python -m bench.keras_procedure

Runs in the environment of bench/requirements.txt and imports nothing of the pipeline.
"""

import os
import sys
from itertools import pairwise

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# TensorFlow's fast convolutions: the default on some CPUs only, but twice as fast on others too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import tensorflow as tf

from bench import contender
from bench.contender import BATCH, CHANNELS, SIZE

IMAGES = 1024  # that it cycles through


def build_levels() -> tuple[list[keras.Layer], list[keras.Layer]]:
    """The seven encoder levels and the seven decoder levels that invert them, outermost first."""
    encoder, decoder = [], []
    for level, (outer, inner) in enumerate(pairwise(CHANNELS)):
        kernel, last = (3, "selu") if level else (5, "sigmoid")
        encoder.append(keras.layers.Conv2D(inner, kernel, 2, "same", activation="selu"))
        decoder.append(keras.layers.Conv2DTranspose(outer, kernel, 2, "same", activation=last))
    return encoder, decoder


def compiled(inputs: keras.KerasTensor, outputs: keras.KerasTensor) -> keras.Model:
    model = keras.Model(inputs, outputs)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mse")
    return model


class Recursive:
    """Seven sub-models: number k runs encoder levels 1 to k, all but the last frozen, and decoder
    level k, which recreates what encoder level k was given."""

    def __init__(self, faces: np.ndarray) -> None:
        encoder, decoder = build_levels()
        halves = {"encoder": encoder, "decoder": decoder}
        self.layers = {(half, k): layer for half in halves for k, layer in enumerate(halves[half])}
        images = keras.Input((SIZE, SIZE, 3))
        activations = [images]
        for level in encoder:
            activations.append(level(activations[-1]))
        self.target_model = keras.Model(images, activations[1:-1])
        self.sub_models = []
        targets = self.targets(faces)
        for level, (encode, decode) in enumerate(zip(encoder, decoder, strict=True)):
            self.sub_models.append(compiled(images, decode(activations[level + 1])))
            # Keras 3 reads `trainable` when a step is traced, not when the model is compiled: take
            # the first step of this sub-model before the next one freezes another level.
            self.check(level, faces, targets)
            encode.trainable = False
        targets = self.targets(faces)
        for level in range(len(self.sub_models)):  # the traced ones
            self.check(level, faces, targets)

    def targets(self, faces: np.ndarray) -> list[np.ndarray]:
        return [faces, *self.target_model.predict_on_batch(faces)]

    def step(self, faces: np.ndarray) -> list[float]:
        """One step of every sub-model; returns their seven losses."""
        targets = self.targets(faces)
        return [
            float(model.train_on_batch(faces, target))
            for model, target in zip(self.sub_models, targets, strict=True)
        ]

    def check(self, level: int, faces: np.ndarray, targets: list[np.ndarray]) -> None:
        """Take a step of a sub-model, which has to train its own two levels and no other."""
        before = weights(self.layers)
        self.sub_models[level].train_on_batch(faces, targets[level])
        check_moved(before, weights(self.layers), {("encoder", level), ("decoder", level)})


class Stacked:
    """The same autoencoder trained end to end on the images alone."""

    def __init__(self, faces: np.ndarray) -> None:
        encoder, decoder = build_levels()
        images = activation = keras.Input((SIZE, SIZE, 3))
        for level in (*encoder, *reversed(decoder)):
            activation = level(activation)
        self.model = compiled(images, activation)
        layers = dict(enumerate(self.model.layers))
        before = weights(layers)
        self.step(faces)
        check_moved(before, weights(layers), expected=set(range(1, 15)))  # 0 is the input

    def step(self, faces: np.ndarray) -> list[float]:
        return [float(self.model.train_on_batch(faces, faces))]


def weights(layers: dict) -> dict:
    """Copies of each layer's weights, by its name."""
    return {name: [*map(np.array, layer.get_weights())] for name, layer in layers.items()}


def check_moved(before: dict, after: dict, expected: set) -> None:
    moved = {
        key
        for key in before
        if any(not np.array_equal(a, b) for a, b in zip(before[key], after[key], strict=True))
    }
    if moved != expected:
        sys.exit(f"error: the step moved {sorted(moved)}, it should move {sorted(expected)}")


def main() -> None:
    parser = contender.parser(__doc__.splitlines()[0])
    parser.add_argument("--faces", default="data/faces.npy")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    tf.get_logger().setLevel("ERROR")  # eight models trace eight steps: no need to warn
    keras.utils.set_random_seed(0)

    faces = np.load(arguments.faces, mmap_mode="r")[:IMAGES] / np.float32(255)
    models = {"recursive": Recursive(faces[:BATCH]), "stacked": Stacked(faces[:BATCH])}

    def train(training: str, batches: int) -> int:
        for number in range(batches):
            first = number * BATCH % (len(faces) - BATCH + 1)
            models[training].step(faces[first : first + BATCH])
        return batches * BATCH

    contender.contend(train)


if __name__ == "__main__":
    main()
