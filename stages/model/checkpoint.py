"""A trained model in a file: its weights, and in the metadata the training that they come from.

Safetensors: data, no code. A model comes back in three lines:

    from stages.model import checkpoint
    model, training = checkpoint.load("models/recursive/described/seed0/averaged.safetensors")
    reconstructions = model(images)  # float (n, 3, 128, 128) in [0, 1], both
"""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stages.common.errors import PipelineError
from stages.common.settings import Training, Weights
from stages.model.network import Autoencoder, state


def save(tensors: dict[str, Tensor], path: Path, training: Training, weights: Weights) -> None:
    """Write a model's `state`, with the training that it comes from in the metadata."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # One entry: the order of several differs from process to process, and so would the bytes.
    metadata = {"training": json.dumps(training.model_dump() | {"weights": weights})}
    save_file(tensors, path, metadata)


def load(path: str | Path) -> tuple[Autoencoder, Training]:
    """A model as `save` wrote it, in evaluation mode on the CPU, and its training.

    Raises PipelineError where there is none, or one whose tensors are not those of its settings:
    other names, shapes or types, or a number that is not finite.
    """
    training, _, tensors = _read(path)
    model = Autoencoder(training.settings)
    ours = state(model)
    for wrong, names in (
        ("are missing", ours.keys() - tensors.keys()),
        ("are not this model's", tensors.keys() - ours.keys()),
    ):
        if names:
            raise _damaged(path, f"{len(names)} of its tensors {wrong}, {min(names)} is the first")
    for name, value in tensors.items():
        found, needed = (f"{x.dtype} {tuple(x.shape)}" for x in (value, ours[name]))
        if found != needed:
            raise _damaged(path, f"{name} is {found}, not {needed}")
        if not value.isfinite().all():
            raise _damaged(path, f"{name} has values that are not finite")
        ours[name].copy_(value)
    return model.eval(), training


def load_trained(path: str | Path, training: Training, weights: Weights) -> Autoencoder:
    """The model in a file that has to be of exactly this training, in evaluation mode on the CPU.

    Raises PipelineError where it is of any other, and as `load` does.
    """
    found, kind, _ = _read(path)
    theirs, ours = (_flat(x, w) for x, w in ((found, kind), (training, weights)))
    differing = [
        f"{key} {theirs[key]!r}, not {ours[key]!r}" for key in ours if theirs[key] != ours[key]
    ]
    if differing:
        raise PipelineError(
            f"{path} comes from another training ({'; '.join(differing)}); delete it and run "
            "`dvc repro`"
        )
    return load(path)[0]


def _read(path: str | Path) -> tuple[Training, str, dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            metadata = json.loads(file.metadata()["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        weights = metadata.pop("weights")
        return Training.model_validate(metadata), weights, tensors
    except FileNotFoundError:
        raise PipelineError(
            f"{path} does not exist; `dvc repro` trains it, `dvc pull` fetches it"
        ) from None
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise _damaged(path, f"it is no trained model ({type(error).__name__})") from None


def _flat(training: Training, weights: str) -> dict[str, object]:
    values: dict[str, object] = training.settings.model_dump()
    return values | training.model_dump(exclude={"settings"}) | {"weights": weights}


def _damaged(path: str | Path, reason: str) -> PipelineError:
    return PipelineError(f"{path} is damaged: {reason}; delete it and run `dvc repro`")
