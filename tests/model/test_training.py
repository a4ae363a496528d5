"""A training run: reproducible to the bit, the recipe's order of pictures, its errors."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml

from stages.common.errors import PipelineError
from stages.model import training
from stages.data.faces import Faces
from tests.conftest import model_settings


@pytest.fixture
def faces() -> Faces:
    """48 pictures of random smooth colours, every sixth held out."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (48, 4, 4, 3), np.uint8)
    splits = np.array(["test" if row % 6 == 0 else "train" for row in range(48)])
    names = np.array([f"Name_{row}" for row in range(48)])
    return Faces(small.repeat(32, 1).repeat(32, 2), names, names, splits)


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return list(model.state_dict().values())


@pytest.mark.parametrize("variational", [False, True])
def test_the_same_seed_gives_the_same_weights_whatever_the_name(
    faces: Faces, variational: bool
) -> None:
    first, curve = training.train(
        model_settings(name="candidate", variational=variational, epochs=2), 3, faces
    )
    second, _ = training.train(
        model_settings(name="recursive", variational=variational, epochs=2), 3, faces
    )
    other, _ = training.train(
        model_settings(name="recursive", variational=variational, epochs=2), 4, faces
    )
    assert all(a.equal(b) for a, b in zip(weights(first), weights(second), strict=True))
    assert not all(a.equal(b) for a, b in zip(weights(first), weights(other), strict=True))
    assert {point.epoch for point in curve} == {1, 2}


def test_the_curve_holds_every_loss_and_the_held_out_error(faces: Faces) -> None:
    model, curve = training.train(model_settings(lr=1e-9), 0, faces)
    by_name = {(point.split, point.loss): point.value for point in curve}
    levels = [by_name["train", f"level_{k}"] for k in range(1, 8)]
    assert by_name["train", "total"] == pytest.approx(sum(levels), rel=1e-6)
    images = torch.from_numpy(faces.images[faces.rows("test")]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        error = (model.eval().reconstruct(images) - images).square().sum() / len(images)
    assert by_name["test", "error"] == pytest.approx(error.item(), rel=1e-5)


@pytest.mark.parametrize(("wiring", "order"), [("described", None), ("published", range(48))])
def test_the_order_of_the_pictures(
    faces: Faces, wiring: str, order: range | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    whole = training.Batches.__call__

    def spy(self: training.Batches, rows: torch.Tensor) -> torch.Tensor:
        drawn.append(rows.numpy().copy())
        return whole(self, rows)

    monkeypatch.setattr(training.Batches, "__call__", spy)
    monkeypatch.setattr(training, "held_out_error", lambda *_: 0.0)
    training.train(model_settings(wiring=wiring, epochs=2, batch_size=5), 0, faces)
    epochs = np.concatenate(drawn).reshape(2, -1)
    if order is None:
        train = set(faces.rows("train"))
        assert all(len(set(epoch)) == 40 and set(epoch) <= train for epoch in epochs)
        assert not np.array_equal(epochs[0], epochs[1])
    else:
        assert [list(epoch) for epoch in epochs] == [list(order)[:45]] * 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="steps are replayed on a GPU alone")
@pytest.mark.parametrize("changes", [{"norm": "shared"}, {"variational": True}])
def test_replayed_steps_are_the_steps(
    faces: Faces, changes: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = model_settings(epochs=4, **changes)
    model, curve = training.train(settings, 0, faces)
    monkeypatch.setattr(training, "Replayed", lambda step: step)
    plain, expected = training.train(settings, 0, faces)
    found = [point.value for point in curve]
    assert found == pytest.approx([point.value for point in expected], rel=1e-3)
    for a, b in zip(weights(model), weights(plain), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)


def test_pixels_are_divided_by_255(faces: Faces) -> None:
    rows = np.array([5, 2])
    images = training.Batches(faces, torch.device("cpu"))(torch.from_numpy(rows))
    expected = torch.from_numpy(faces.images[rows]).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(images, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["stacked", "recursive"])
def test_training_gets_better_than_a_constant_guess(faces: Faces, kind: str) -> None:
    model, _ = training.train(model_settings(training=kind, epochs=80, lr=0.003), 0, faces)
    rows = faces.rows("train")
    error = training.held_out_error(model, training.Batches(faces, torch.device("cpu")), rows)
    images = faces.images[rows] / 255
    constant = np.square(images - images.mean((0, 1, 2))).sum() / len(rows)
    assert error < 0.8 * constant


def test_too_few_pictures_and_a_diverging_loss_are_explained(faces: Faces) -> None:
    with pytest.raises(PipelineError, match="fewer than a batch of 64"):
        training.train(model_settings(batch_size=64), 0, faces)
    with pytest.raises(PipelineError, match=r"epoch 1; lower its learning rate \(lr: 1e\+20\)"):
        training.train(model_settings(training="stacked", lr=1e20, activation="relu"), 0, faces)


def test_a_killed_stage_leaves_no_training_behind(faces: Faces, tmp_path: Path) -> None:
    for folder in ("configs", "data", "models"):
        (tmp_path / folder).mkdir()
    settings = model_settings(epochs=10**6, seeds=[0, 1])
    (tmp_path / "configs/model.yaml").write_text(yaml.safe_dump([settings.model_dump()]))
    np.save(tmp_path / "data/faces.npy", faces.images)
    rows = [
        f"{name},{name},{split}" for name, split in zip(faces.people, faces.splits, strict=True)
    ]
    (tmp_path / "data/faces.csv").write_text("\n".join(["path,person,split", *rows]))
    command = [sys.executable, "-m", "stages.train_variant", "model"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as stage:
        started = time.monotonic()
        while len(children := psutil.Process(stage.pid).children()) < 3:  # and one that tracks them
            assert stage.poll() is None and time.monotonic() < started + 60
            time.sleep(0.1)
        stage.kill()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
