"""A trained model in a safetensors file: its weights, and as metadata the training they are of.

Such a file holds data and no code. This loads one:

    from stages.model import checkpoint
    model, training = checkpoint.load("models/recursive/described/seed0/averaged.safetensors")
    reconstructions = model(images)  # float (n, 3, size, size) in [0, 1], both
"""

import json
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stages.common.errors import PipelineError
from stages.common.settings import Training, Weights, differences
from stages.data.faces import SIZE
from stages.model.network import Autoencoder, state

# What damaged files raise.
UNREADABLE = (
    AttributeError, KeyError, TypeError, ValueError, OSError, RecursionError, SafetensorError
)  # fmt: skip


def save(
    tensors: dict[str, Tensor], path: Path, training: Training, weights: Weights, half: bool = False
) -> None:
    """Write a model's `state`, of any device, and its training as metadata.

    half: in half precision, which `load` undoes. Raises PipelineError for values too large for it.
    """
    metadata = training.model_dump(exclude_none=True) | {"weights": weights}
    if half:
        tensors = {name: value.half() for name, value in tensors.items()}
        metadata["precision"] = "half"
        if large := [name for name, value in tensors.items() if not value.isfinite().all()]:
            raise PipelineError(f"{large[0]} has values that half precision cannot hold")
    # One entry: the order of several differs from process to process, and so would the bytes.
    write(tensors, path, {"training": json.dumps(metadata)})


def write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write tensors of any device."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # `save_file` of safetensors would let no other user read the file, whatever the umask.
    path.write_bytes(safetensors.torch.save(tensors, metadata))


def load(path: str | Path) -> tuple[Autoencoder, Training]:
    """A model as `save` wrote it, in evaluation mode on the CPU, and its training.

    Raises PipelineError where there is none, and where its tensors do not fit its settings: other
    names, shapes or types, or a number that is not finite.
    """
    training, _, tensors = _read(path)
    return _model(path, training, tensors), training


def copy_in_half(path: Path, to: Path) -> None:
    """Write the model at `path` in half precision. Raises PipelineError as `load` does."""
    training, weights, tensors = _read(path)
    save(state(_model(path, training, tensors)), to, training, weights, half=True)


def _model(path: str | Path, training: Training, tensors: dict[str, Tensor]) -> Autoencoder:
    model = Autoencoder(training.settings)
    ours = state(model)
    missing, more = ours.keys() - tensors.keys(), tensors.keys() - ours.keys()
    if names := missing or more:
        wrong = "are missing" if missing else "are not this model's"
        raise damaged(path, f"{len(names)} of its tensors {wrong}, {min(names)} is the first")
    for name, value in tensors.items():
        kind, needed = (f"{x.dtype} {tuple(x.shape)}" for x in (value, ours[name]))
        if kind != needed:
            raise damaged(path, f"{name} is {kind}, not {needed}")
        if not value.isfinite().all():
            raise damaged(path, f"{name} has values that are not finite")
        ours[name].copy_(value)
    return model.eval()


def load_trained(path: str | Path, training: Training, weights: Weights) -> Autoencoder:
    """The model of exactly this training, in evaluation mode on the CPU. Raises PipelineError where
    the file is of another training, and as `load` does."""
    stored, kind, tensors = _read(path, halves=False)
    theirs, ours = (
        {"size": SIZE} | x.settings.model_dump() | {"seed": x.seed, "faces": x.faces, "weights": w}
        for x, w in ((stored, kind), (training, weights))
    )
    if differing := differences(theirs, ours):
        raise PipelineError(
            f"{path} comes from another training ({differing}); delete it and run `dvc repro`"
        )
    return _model(path, stored, tensors)


def _read(path: str | Path, halves: bool = True) -> tuple[Training, Weights, dict[str, Tensor]]:
    if not Path(path).exists():
        raise PipelineError(f"{path} does not exist; `dvc repro` trains it")
    if not Path(path).is_file():  # to open a named pipe would wait for ever
        raise damaged(path, "it is no trained model (no file)")
    try:
        with safe_open(path, "pt") as file:
            metadata = json.loads(file.metadata()["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        weights = metadata.pop("weights")
        if metadata.pop("precision", "single") == "half" and halves:
            # `_model` refuses other types.
            halved = {k: value for k, value in tensors.items() if value.dtype == torch.float16}
            tensors |= {name: value.float() for name, value in halved.items()}
        return Training.model_validate(metadata), weights, tensors
    except UNREADABLE as error:
        raise damaged(path, f"it is no trained model ({type(error).__name__})") from None


def damaged(path: str | Path, reason: str) -> PipelineError:
    """The error of a file that holds no model."""
    return PipelineError(f"{path} is damaged: {reason}; delete it and run `dvc repro`")
