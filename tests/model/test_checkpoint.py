"""A trained model in a file: it comes back whole, and nothing else is taken for it."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from stages.common.errors import PipelineError
from stages.common.settings import ModelSettings, Training
from stages.model import checkpoint
from stages.model.network import Autoencoder, state
from tests.conftest import model_settings

TRAINING = Training(settings=model_settings(norm="shared"), seed=3, faces="abc")


def save(path: Path, training: Training = TRAINING) -> Autoencoder:
    torch.manual_seed(0)
    model = Autoencoder(training.settings)
    checkpoint.save(state(model), path, training, "averaged")
    return model


@pytest.mark.parametrize("norm", ["none", "batch", "shared", "tied"])
def test_a_model_comes_back_whole(tmp_path: Path, norm: str, images: Tensor) -> None:
    settings = model_settings(norm=norm, variational=norm == "none")
    training = Training(settings=settings, seed=2**63 - 1, faces="abc")
    path = tmp_path / "model.safetensors"
    model = Autoencoder(settings)
    model(images)  # moves the running statistics
    checkpoint.save(state(model), path, training, "last_step")
    loaded, read = checkpoint.load(path)
    assert read == training
    model.eval()
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))
        exact = checkpoint.load_trained(path, training, "last_step")
        assert torch.equal(exact(images), model(images))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"norm": "batch"}, "norm 'batch', not 'shared'"),
        ({"training": "stacked"}, "training 'stacked', not 'recursive'"),
        ({"implementation": "released"}, "implementation 'released', not 'described'"),
        ({"epochs": 2}, "epochs 2, not 1"),
        ({"lr": 0.002, "batch_size": 32}, "batch_size 32, not 16; lr 0.002, not 0.001"),
        ({"seed": 4}, "seed 4, not 3"),
        ({"faces": "abd"}, "faces 'abd', not 'abc'"),
    ],
    ids=str,
)
def test_another_training_s_model_is_refused(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    own = {key: changes[key] for key in ("seed", "faces") if key in changes}
    rest = {key: value for key, value in changes.items() if key not in own}
    settings = model_settings(**{"norm": "shared"} | rest)
    save(tmp_path / "model", TRAINING.model_copy(update=own | {"settings": settings}))
    with pytest.raises(PipelineError) as caught:
        checkpoint.load_trained(tmp_path / "model", TRAINING, "averaged")
    assert f"another training ({told})" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_same_model_is_the_same_bytes(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / str(number))
    assert len({(tmp_path / str(number)).read_bytes() for number in range(8)}) == 1


def test_weights_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "model")
    with pytest.raises(PipelineError, match="weights 'averaged', not 'last_step'"):
        checkpoint.load_trained(tmp_path / "model", TRAINING, "last_step")


Contents = tuple[dict[str, Tensor], dict[str, str]]
KEY = "encoder.3.weight"


def edited(old: str, new: str) -> Callable[..., Contents]:
    def edit(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Contents:
        text = metadata["training"]
        assert old in text
        return tensors, {"training": text.replace(old, new)}

    return edit


def deeper(key: str, change: Callable[[Tensor], Tensor]) -> Callable[..., Contents]:
    return lambda tensors, metadata: (tensors | {key: change(tensors[key])}, metadata)


def infinite(value: Tensor) -> Tensor:
    return value.index_fill(0, torch.tensor([1]), torch.inf)


DAMAGES: dict[str, tuple[Callable[..., Contents], str]] = {
    "half": (deeper(KEY, Tensor.half), f"{KEY} is torch.float16 (48, 24, 3, 3), not torch.float32"),
    "double": (deeper(KEY, Tensor.double), f"{KEY} is torch.float64"),
    "integer": (deeper(KEY, Tensor.int), f"{KEY} is torch.int32"),
    "shape": (deeper(KEY, lambda x: x[:5]), f"{KEY} is torch.float32 (5, 24, 3, 3), not"),
    "infinite": (deeper("decoder.0.bias", infinite), "decoder.0.bias has values that are not"),
    "missing": (
        lambda t, m: ({k: v for k, v in t.items() if k != KEY}, m),
        f"1 of its tensors are missing, {KEY} is",
    ),
    "extra": (
        lambda t, m: (t | {"more": torch.zeros(1)}, m),
        "1 of its tensors are not this model's, more is",
    ),
    "text for a number": (edited('"lr": 0.001', '"lr": "0.001x"'), "no trained model"),
    "no number": (edited('"lr": 0.001', '"lr": NaN'), "no trained model"),
    "unknown setting": (edited('"lr":', '"rate": 1, "lr":'), "no trained model"),
    "no metadata": (lambda t, m: (t, {}), "no trained model"),
    "no kind": (edited('"weights": "averaged"', '"weight": "averaged"'), "no trained model"),
    "text": (lambda t, m: (t, {"training": '"text"'}), "no trained model"),
    "nested": (lambda t, m: (t, {"training": "[" * 100_000}), "no trained model"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.safetensors"
    save(path)
    with safe_open(path, "pt") as file:
        tensors, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa: SIM118
    change, told = DAMAGES[damage]
    tensors, metadata = change(tensors, metadata)
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    save_file(tensors, path, metadata)
    refused(path, told)


@pytest.mark.parametrize(
    "damage", ["truncated", "pickle", "torch", "empty", "text", "folder", "pipe"]
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.safetensors"
    save(path)
    whole = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "pickle":
        path.write_bytes(pickle.dumps({"encoder.0.weight": [1.0]}))
    elif damage == "torch":
        torch.save({"encoder.0.weight": torch.zeros(1)}, path)
    elif damage in ("folder", "pipe"):
        path.unlink()
        path.mkdir() if damage == "folder" else os.mkfifo(path)
    else:
        path.write_text("" if damage == "empty" else "<!DOCTYPE html>", encoding="utf-8")
    refused(path, "no trained model")


def refused(path: Path, told: str) -> None:
    """Both ways to load say in one line which file, what is wrong and what to do."""
    for load in (
        lambda: checkpoint.load(path),
        lambda: checkpoint.load_trained(path, TRAINING, "averaged"),
    ):
        with pytest.raises(PipelineError) as caught:
            load()
        message = str(caught.value)
        assert message.startswith(f"{path} is damaged: ")
        assert told in message
        assert "delete it and run `dvc repro`" in message
        assert "\n" not in message and len(message) < 300 + len(str(path))


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "was_run",)

    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Code()))
    refused(path, "no trained model")
    assert not (tmp_path / "was_run").exists()


def test_a_missing_model_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"does not exist; `dvc repro` trains it$"):
        checkpoint.load(tmp_path / "none.safetensors")


def test_the_metadata_name_the_whole_training_and_no_variant(tmp_path: Path) -> None:
    save(tmp_path / "model")
    with safe_open(tmp_path / "model", "pt") as file:
        training = json.loads(file.metadata()["training"])
    assert set(training) == {"settings", "seed", "faces", "weights"}
    assert set(training["settings"]) == set(ModelSettings.model_fields)
