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
from stages.model.network import state
from tests.conftest import made_model, small

TRAINING = Training(settings=small(norm="shared"), seed=3, faces="abc")
Damage = Callable[[Path], object]


def save(path: Path, training: Training = TRAINING) -> None:
    model = made_model(**training.settings.model_dump())
    checkpoint.save(state(model), path, training, "averaged")


@pytest.mark.parametrize("norm", ["none", "batch", "shared", "tied"])
def test_a_model_comes_back_whole(tmp_path: Path, norm: str, images: Tensor) -> None:
    model = made_model(norm=norm, variational=norm == "none")
    training = Training(settings=model.settings, seed=2**63 - 1, faces="abc")
    path = tmp_path / "model.safetensors"
    model(images)  # moves the running statistics
    checkpoint.save(state(model), path, training, "last_step")
    loaded, read = checkpoint.load(path)
    assert read == training
    model.eval()
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))
        exact = checkpoint.load_trained(path, training, "last_step")
        assert torch.equal(exact(images), model(images))


def test_another_training_s_model_is_refused(tmp_path: Path) -> None:
    differing = {"training": "stacked", "norm": "batch", "implementation": "released"}
    numbers = {"epochs": 2, "batch_size": 32, "lr": 0.002}
    other = Training(settings=small(**differing, **numbers), seed=4, faces="abd")
    save(tmp_path / "model", other)
    with pytest.raises(PipelineError, match=r"comes from another training \(.*\);") as caught:
        checkpoint.load_trained(tmp_path / "model", TRAINING, "last_step")
    for told in (
        *("training 'stacked', not 'recursive'", "norm 'batch', not 'shared'"),
        *("implementation 'released', not 'described'", "epochs 2, not 1", "seed 4, not 3"),
        *("batch_size 32, not 16; lr 0.002, not 0.001", "faces 'abd', not 'abc'"),
        "weights 'averaged', not 'last_step'",
    ):
        assert told in str(caught.value)


def test_the_same_model_is_the_same_bytes(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / str(number))
    assert len({(tmp_path / str(number)).read_bytes() for number in range(8)}) == 1


def changed(change: Callable[[dict[str, Tensor], dict[str, str]], object]) -> Damage:
    """A change of a file's tensors and metadata."""

    def rewrite(path: Path) -> None:
        with safe_open(path, "pt") as file:
            tensors, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa: SIM118
        change(tensors, metadata)
        save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata)

    return rewrite


def edited(old: str, new: str) -> Damage:
    return changed(lambda _, m: m.update(training=m["training"].replace(old, new)))


def of_tensor(key: str, change: Callable[[Tensor], Tensor]) -> Damage:
    return changed(lambda t, _: t.update({key: change(t[key])}))


class Code:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("was_run"),)


NO_MODEL: dict[str, Damage] = {
    "text for a number": edited('"lr": 0.001', '"lr": "0.001x"'),
    "no number": edited('"lr": 0.001', '"lr": NaN'),
    "unknown setting": edited('"lr":', '"rate": 1, "lr":'),
    "no kind": edited('"weights": "averaged"', '"weight": "averaged"'),
    "no metadata": changed(lambda _, m: m.clear()),
    "text as metadata": changed(lambda _, m: m.update(training='"text"')),
    "nested": changed(lambda _, m: m.update(training="[" * 100_000)),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "pickle": lambda path: path.write_bytes(pickle.dumps(Code())),
    "text": lambda path: path.write_text("<!DOCTYPE html>", encoding="utf-8"),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}
KEY, BIAS = "encoder.3.weight", "decoder.0.bias"
DAMAGES: dict[str, tuple[Damage, str]] = {
    **{kind: (damage, "no trained model") for kind, damage in NO_MODEL.items()},
    "half": (of_tensor(KEY, Tensor.half), f"{KEY} is torch.float16 (48, 24, 3, 3), not torch.flo"),
    "double": (of_tensor(KEY, Tensor.double), f"{KEY} is torch.float64"),
    "integer": (of_tensor(KEY, Tensor.int), f"{KEY} is torch.int32"),
    "shape": (of_tensor(KEY, lambda x: x[:5]), f"{KEY} is torch.float32 (5, 24, 3, 3), not"),
    "infinite": (of_tensor(BIAS, lambda x: x / 0), f"{BIAS} has values that are not"),
    "missing": (changed(lambda t, _: t.pop(KEY)), f"1 of its tensors are missing, {KEY} is"),
    "extra": (
        changed(lambda t, _: t.update(more=torch.zeros(1))),
        "1 of its tensors are not this model's, more is",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways to load say in one line which file, what is wrong and what to do."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.safetensors"
    save(path)
    before = path.read_bytes()
    change, told = DAMAGES[damage]
    change(path)
    assert not path.is_file() or path.read_bytes() != before
    for load, more in ((checkpoint.load, ()), (checkpoint.load_trained, (TRAINING, "averaged"))):
        with pytest.raises(PipelineError) as caught:
            load(path, *more)
        message = str(caught.value)
        assert message.startswith(f"{path} is damaged: ")
        assert told in message and "delete it and run `dvc repro`" in message
        assert "\n" not in message and len(message) < 300 + len(str(path))
    assert not Path("was_run").exists()


def test_a_missing_model_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"does not exist; `dvc repro` trains it$"):
        checkpoint.load(tmp_path / "none.safetensors")


def test_the_metadata_name_the_whole_training_and_no_variant(tmp_path: Path) -> None:
    save(tmp_path / "model")
    with safe_open(tmp_path / "model", "pt") as file:
        training = json.loads(file.metadata()["training"])
    assert set(training) == {"settings", "seed", "faces", "weights"}
    later = {name for name, field in ModelSettings.model_fields.items() if field.exclude_if}
    assert set(training["settings"]) == {*ModelSettings.model_fields} - later | {"size"}
