"""Trained models by name, their small copies in half precision, and ONNX."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from stages import publish
from stages.common.errors import PipelineError
from stages.common.settings import Training
from stages.model import checkpoint, onnx, trained
from stages.model.network import Autoencoder, state
from tests import faults
from tests.conftest import model_settings


def keep(folder: Path, seed: int = 0, **changes: object) -> Autoencoder:
    """A model with fresh weights, saved as a training leaves it below the present folder."""
    settings = model_settings(**changes)
    torch.manual_seed(seed)
    model = Autoencoder(settings).eval()
    place = folder / f"described/seed{seed}"
    place.mkdir(parents=True)
    training = Training(settings=settings, seed=seed, faces="faces")
    checkpoint.save(state(model), place / "averaged.safetensors", training, "averaged")
    return model


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/publish.yaml").write_text("[stacked, best]", encoding="utf-8")


def test_a_published_copy_is_found_where_nothing_is_trained(images: torch.Tensor) -> None:
    model = keep(Path("models/best"), norm="shared", variational=True)
    publish.main()
    copy = Path("reports/models/best.safetensors")
    original = Path("models/best/described/seed0/averaged.safetensors")
    assert copy.stat().st_size < 0.51 * original.stat().st_size
    assert trained.find("best") == original
    original.unlink()
    assert trained.find("best") == copy
    copied, training = checkpoint.load(copy)
    assert training.settings == model.settings
    for name, value in state(copied).items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, state(model)[name], rtol=2**-11, atol=1e-7)
    with torch.inference_mode():
        torch.testing.assert_close(copied(images[:3]), model(images[:3]), rtol=0, atol=2e-3)


def test_the_first_seed_that_is_trained_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (10, 9):
        keep(Path("models/stacked"), seed)
    publish.main()
    assert "seed9" in capsys.readouterr().out


def test_a_copy_stays_without_its_model_and_goes_with_its_variant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    keep(Path("models/best"))
    publish.main()
    assert "stacked.safetensors: not there; `dvc repro train-var" in capsys.readouterr().out
    copy = trained.copy_of("best")
    before = copy.read_bytes()
    shutil.rmtree("models")
    publish.main()
    assert copy.read_bytes() == before
    Path("configs/publish.yaml").write_text("[]", encoding="utf-8")
    publish.main()
    assert not copy.exists()


def test_where_a_file_can_grow_no_further_nothing_is_published(tmp_path: Path) -> None:
    keep(Path("models/best"))
    status, errors = faults.run(tmp_path, "publish", blocks=100)
    assert status == 1
    assert "File too large" in errors and errors.count("\n") == 1
    assert not faults.tree(tmp_path, "reports")


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 2**20])
def test_on_a_full_disk_nothing_is_published_and_with_space_it_works(
    tmp_path: Path, free: int
) -> None:
    keep(Path("models/best"))
    errors, first, second = faults.fill(tmp_path, "publish", place="reports", free=free)
    assert "No space left on device" in errors and errors.count("\n") == 1
    assert not faults.tree(first, "reports")
    publish.main()
    assert faults.tree(second, "reports") == faults.tree(tmp_path, "reports")


def test_half_precision_is_no_training_s(tmp_path: Path) -> None:
    """Weights of that type, but without the word for it in the metadata, are damaged."""
    keep(Path("models/best"))
    publish.main()
    path = trained.copy_of("best")
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["training"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del metadata["precision"]
    save_file(tensors, path, {"training": json.dumps(metadata)})
    with pytest.raises(PipelineError, match="float16"):
        checkpoint.load(path)


def test_weights_beyond_half_precision_are_not_published(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = keep(Path("models/best"))
    state(model)["encoder.0.bias"][0] = 1e5
    training = Training(settings=model.settings, seed=0, faces="faces")
    checkpoint.save(state(model), trained.find("best"), training, "averaged")
    with pytest.raises(SystemExit):
        publish.main()
    assert "encoder.0.bias has values that half precision cannot hold" in capsys.readouterr().err
    assert not trained.copy_of("best").exists()


def test_a_name_that_is_not_there_is_told_with_those_that_are() -> None:
    keep(Path("models/stacked"))
    with pytest.raises(PipelineError, match="'bets'; here are stacked;"):
        trained.find("bets")


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "shared", "variational": True},
        pytest.param({"training": "stacked"}, marks=pytest.mark.slow),
        pytest.param({"norm": "tied", "upsample": "nearest"}, marks=pytest.mark.slow),
        pytest.param({"upsample": "bilinear", "downsample": "maxpool"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_onnx_says_what_the_model_says(changes: dict[str, object], images: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = Autoencoder(model_settings(**changes)).eval()
    onnx.to_onnx(model, Path("model.onnx"))
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 5):
        batch = images[:count]
        with torch.inference_mode():
            ours = model(batch).numpy()
        (theirs,) = session.run([onnx.OUTPUT], {onnx.INPUT: batch.numpy()})
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4)
        assert len(theirs) == count
