"""The paper's training procedure in Keras on TensorFlow, timed (paper sections 3 and 4.2).

For every batch of 32 faces: predict the targets (what the encoder levels put out before the step),
then one `train_on_batch` for each of the seven sub-models, which share their layers: that is
*recursive*. *Stacked* is one more `train_on_batch`, of an autoencoder of its own.

    .venv-bench/bin/python -m bench.keras_procedure

Runs in the environment of bench/requirements.txt and imports nothing of the pipeline.
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# TensorFlow's fast convolutions: the default on some CPUs only, but twice as fast on others too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import tensorflow as tf

from bench import contender
from bench.contender import BATCH, CHANNELS, SIZE


def build_levels() -> tuple[list[keras.Layer], list[keras.Layer]]:
    """The seven encoder levels and the seven decoder levels that invert them, outermost first."""

    def kernel(level: int) -> int:
        return 5 if level == 0 else 3

    encoder = [
        keras.layers.Conv2D(filters, kernel(level), 2, "same", activation="selu")
        for level, filters in enumerate(CHANNELS[1:])
    ]
    decoder = [
        keras.layers.Conv2DTranspose(
            filters, kernel(level), 2, "same", activation="selu" if level else "sigmoid"
        )
        for level, filters in enumerate(CHANNELS[:-1])
    ]
    return encoder, decoder


def compiled(inputs: keras.KerasTensor, outputs: keras.KerasTensor) -> keras.Model:
    model = keras.Model(inputs, outputs)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mse")
    return model


class Recursive:
    """Seven sub-models: number k runs encoder levels 1 to k, all but the last frozen, and decoder
    level k, which recreates what encoder level k was given."""

    def __init__(self, faces: np.ndarray) -> None:
        self.encoder, self.decoder = build_levels()
        images = keras.Input((SIZE, SIZE, 3))
        activations = [images]
        for level in self.encoder:
            activations.append(level(activations[-1]))
        self.target_model = keras.Model(images, activations[1:-1])
        self.sub_models = []
        targets = self.targets(faces)
        for level, (encode, decode) in enumerate(zip(self.encoder, self.decoder, strict=True)):
            model = compiled(images, decode(activations[level + 1]))
            before = self.weights()
            # Keras 3 reads `trainable` when a step is traced, not when the model is compiled: take
            # the first step of this sub-model before the next one freezes another level.
            model.train_on_batch(faces, targets[level])
            check_moved(before, self.weights(), expected={("encoder", level), ("decoder", level)})
            encode.trainable = False
            self.sub_models.append(model)
        self.check(faces)

    def targets(self, faces: np.ndarray) -> list[np.ndarray]:
        return [faces, *self.target_model.predict_on_batch(faces)]

    def step(self, faces: np.ndarray) -> list[float]:
        """One step of every sub-model; returns their seven losses."""
        targets = self.targets(faces)
        return [
            float(model.train_on_batch(faces, target))
            for model, target in zip(self.sub_models, targets, strict=True)
        ]

    def weights(self) -> dict[tuple[str, int], list[np.ndarray]]:
        halves = {"encoder": self.encoder, "decoder": self.decoder}
        return {
            (half, level): [np.array(weight) for weight in layer.get_weights()]
            for half, layers in halves.items()
            for level, layer in enumerate(layers)
        }

    def check(self, faces: np.ndarray) -> None:
        """Each traced sub-model still trains its own two levels and no other."""
        targets = self.targets(faces)
        for level, model in enumerate(self.sub_models):
            before = self.weights()
            model.train_on_batch(faces, targets[level])
            check_moved(before, self.weights(), expected={("encoder", level), ("decoder", level)})


class Stacked:
    """The same autoencoder trained end to end on the images alone."""

    def __init__(self, faces: np.ndarray) -> None:
        encoder, decoder = build_levels()
        images = activation = keras.Input((SIZE, SIZE, 3))
        for level in (*encoder, *reversed(decoder)):
            activation = level(activation)
        self.model = compiled(images, activation)
        before = {number: layer.get_weights() for number, layer in enumerate(self.model.layers)}
        self.step(faces)
        after = {number: layer.get_weights() for number, layer in enumerate(self.model.layers)}
        check_moved(before, after, expected=set(range(1, 15)))  # 0 is the input

    def step(self, faces: np.ndarray) -> list[float]:
        return [float(self.model.train_on_batch(faces, faces))]


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
    parser.add_argument("--images", type=int, default=1024, help="how many faces to cycle through")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    tf.get_logger().setLevel("ERROR")  # eight models trace eight steps: no need to warn
    keras.utils.set_random_seed(0)

    faces = np.load(arguments.faces, mmap_mode="r")[: arguments.images] / np.float32(255)
    models = {"recursive": Recursive(faces[:BATCH]), "stacked": Stacked(faces[:BATCH])}

    def train(training: str, batches: int) -> int:
        for number in range(batches):
            first = number * BATCH % (len(faces) - BATCH + 1)
            models[training].step(faces[first : first + BATCH])
        return batches * BATCH

    contender.contend(train)


if __name__ == "__main__":
    main()
