"""The accidents of the authors' released code, each by a name of its own.

A model `as released` is the one of the paper's text with those of them that touch it. What they do
to the numbers of the paper: see reports/README.md. Source of each: the authors' public notebooks
(GitHub, billray0259/recursive_autoencoders) and the model summaries printed in them.
"""

from dataclasses import dataclass

from stages.common.settings import ModelSettings


@dataclass(frozen=True)
class Accidents:
    """Which accidents a model has; none as described."""

    # Trained on every face, held-out people too, in the order of the file.
    every_face_in_file_order: bool = False
    # Kernel 3, not 5, in the last decoder level: the notebooks with norms have it.
    last_kernel_3: bool = False
    # Recursive: a level learns to recreate the activation before its norm. With separate norms
    # those of the decoder then belong to no loss and are never trained: 7831 in Table 1.
    untrained_decoder_norms: bool = False
    # Recursive: deeper levels see the norms of shallower ones in inference mode, as Keras runs
    # frozen layers.
    inference_norms: bool = False
    # Stacked: copied after encoder levels 1 to 6 and their norms had been frozen for recursive
    # training, so they stay at their random initial values.
    frozen_encoder: bool = False
    # Recursive variational: saved, and judged, without the mean between encoder and decoder.
    without_mean: bool = False


def accidents(settings: ModelSettings) -> Accidents:
    """Those of the model that `settings` describe."""
    if settings.implementation == "described":
        return Accidents()
    normed, recursive = settings.norm != "none", settings.training == "recursive"
    return Accidents(
        every_face_in_file_order=True,
        last_kernel_3=normed,
        untrained_decoder_norms=normed and recursive,
        inference_norms=normed and recursive,
        frozen_encoder=normed and not recursive,
        without_mean=recursive and settings.variational,
    )
