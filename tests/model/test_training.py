"""A training: reproducible to the bit, the recipe's order of pictures, its averages, its errors."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stages.common.errors import PipelineError
from stages.common.settings import Training
from stages.data.faces import Faces
from stages.model import training
from stages.model.averaging import Average
from stages.model.training import Diverged, Trainer
from tests.conftest import small


def trainer(faces: Faces, seed: int = 0, **changes: Any) -> Trainer:
    return Trainer(Training(settings=small(**changes), seed=seed, faces=faces.hash), faces)


def trained(faces: Faces, seed: int = 0, **changes: Any) -> Trainer:
    made = trainer(faces, seed, **changes)
    for _ in range(made.settings.epochs):
        made.run_epoch()
    return made


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return list(model.state_dict().values())


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    return all(a.equal(b) for a, b in zip(weights(first), weights(second), strict=True))


@pytest.mark.parametrize("changes", [{}, {"variational": True}, {"norm": "shared"}], ids=str)
def test_the_same_seed_gives_the_same_weights(faces: Faces, changes: dict[str, Any]) -> None:
    first, second, other = (trained(faces, seed, epochs=6, **changes) for seed in (3, 3, 4))
    assert same(first.model, second.model)
    assert same(first.average.model, second.average.model)
    assert first.curve == second.curve
    assert not same(first.model, other.model)
    assert not same(first.model, first.average.model)


def test_the_curve_holds_every_loss_and_the_held_out_errors(faces: Faces) -> None:
    done = trained(faces, epochs=6)
    assert [point.epoch for point in done.curve] == [k for k in range(1, 7) for _ in range(8)]
    by_name = {(point.split, point.loss): point.value for point in done.curve[-8:]}
    levels = [by_name["train", f"level_{k}"] for k in range(1, 6)]
    assert by_name["train", "total"] == pytest.approx(sum(levels), rel=1e-6)
    images = torch.from_numpy(faces.images[faces.rows("test")]).permute(0, 3, 1, 2) / 255
    for name, model in (("error", done.model), ("averaged_error", done.average.model)):
        with torch.no_grad():
            error = (model.eval()(images) - images).square().sum() / len(images)
        assert by_name["test", name] == pytest.approx(error.item(), rel=1e-5)
    assert by_name["test", "error"] != by_name["test", "averaged_error"]


@pytest.mark.parametrize("implementation", ["described", "released"])
def test_the_order_of_the_pictures(
    faces: Faces, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[np.ndarray] = []
    step = Trainer._step

    def noted(self: Trainer) -> None:
        drawn.append(self.batch.numpy().copy())
        step(self)

    monkeypatch.setattr(Trainer, "_step", noted)
    trained(faces, implementation=implementation, epochs=2, batch_size=5)
    epochs = np.concatenate(drawn).reshape(2, -1)
    if implementation == "described":
        train = {*faces.rows("train")}
        assert all(len({*epoch}) == 40 and {*epoch} <= train for epoch in epochs)
        assert not np.array_equal(epochs[0], epochs[1])
    else:
        assert [[*epoch] for epoch in epochs] == [[*range(45)]] * 2


@pytest.mark.parametrize("norm", ["none", "shared", "tied"])
def test_averaged_weights_are_torch_s(
    faces: Faces, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AveragedModel, updated after the same steps of a real training."""
    made = trainer(faces, epochs=2, batch_size=8, norm=norm)
    made.average.decay = 0.9
    expected = AveragedModel(made.model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    ours = Average.update

    def both(self: Average) -> None:
        ours(self)
        expected.update_parameters(made.model)

    monkeypatch.setattr(Average, "update", both)
    for _ in range(2):
        made.run_epoch()
    assert expected.n_averaged.item() == 2 * made.steps == 10
    found, wanted = (dict(m.named_parameters()) for m in (made.average.model, expected.module))
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert not any(p.requires_grad for p in found.values())


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, 0.0), (10, 0.8), (199, 0.99 - 1 / 19900), (200, 0.99), (400, 0.99)]
)
def test_a_short_training_averages_its_last_tenth(
    faces: Faces, epochs: int, expected: float
) -> None:
    assert trainer(faces, epochs=epochs, batch_size=8).average.decay == pytest.approx(expected)


def test_a_training_whose_average_was_to_be_shorter_is_not_gone_on_with(faces: Faces) -> None:
    begun, longer = trainer(faces, epochs=2), trainer(faces, epochs=20)
    begun.run_epoch()
    longer.restore(*begun.state())
    assert longer.epoch == 0 and not longer.curve


def test_faces_of_another_size_are_refused_in_a_line(faces: Faces) -> None:
    with pytest.raises(PipelineError, match="the faces have 32 pixels a side, the model 64; run"):
        trainer(faces, size=64)


@pytest.mark.parametrize("norm", ["none", "batch", "shared", "tied"])
def test_one_level_is_the_same_training_both_ways(faces: Faces, norm: str) -> None:
    stacked, recursive = (
        trained(faces, training=training, levels=1, norm=norm, epochs=3)
        for training in ("stacked", "recursive")
    )
    assert same(stacked.model, recursive.model)
    assert same(stacked.average.model, recursive.average.model)


@pytest.mark.parametrize("norm", ["none", "batch", "shared"])
def test_a_recursive_model_s_first_levels_know_nothing_of_the_others(
    faces: Faces, norm: str
) -> None:
    """Byte for byte. A tied norm learns from the decoder level after it, too."""
    deep, shallow = (trained(faces, levels=k, norm=norm, epochs=3) for k in (5, 3))
    for one, other in ((deep.model, shallow.model), (deep.average.model, shallow.average.model)):
        values = one.state_dict()
        assert all(value.equal(values[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("norm", ["batch", "shared"])
def test_averaged_weights_have_statistics_of_their_own(faces: Faces, norm: str) -> None:
    """Those of level 1's activations for training faces, by the averaged weights themselves."""
    made = trained(faces, epochs=1, batch_size=8, norm=norm)
    model = made.average.model
    activations = [model.encoder[0](images) for images in made.recalibrating()]
    assert len(activations) == made.steps
    mean = torch.cat(activations).mean((0, 2, 3))
    variances = [part.var((0, 2, 3), correction=0) for part in activations]
    wanted = [mean, torch.stack(variances).mean(0)]
    norm = model.encoder_norms[0]
    found = [norm.running_mean, norm.running_var]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert norm.momentum == made.model.encoder_norms[0].momentum


def test_the_last_epochs_of_a_recursive_training_may_be_stacked(faces: Faces) -> None:
    done = trained(faces, epochs=3, stacked_epochs=1)
    names = [{p.loss for p in done.curve if (p.epoch, p.split) == (k, "train")} for k in (1, 2, 3)]
    levels = {f"level_{k}" for k in range(1, 6)} | {"total"}
    assert names == [levels, levels, {"reconstruction", "total"}]
    alone = trained(faces, epochs=2)
    assert done.curve[: len(alone.curve)] == alone.curve
    stacked = trained(faces, epochs=1, stacked_epochs=1)
    assert same(stacked.model, trained(faces, epochs=1, training="stacked").model)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_the_learning_rate_of_every_step(
    faces: Faces, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer(faces, epochs=2, batch_size=8, schedule=schedule)
    rates: list[float] = []
    step = made.optimizer.step

    def noted() -> None:
        rates.append(float(made.optimizer.param_groups[0]["lr"]))
        step()

    monkeypatch.setattr(made.optimizer, "step", noted)
    for _ in range(2):
        made.run_epoch()
    count = 2 * made.steps
    expected = {
        "constant": [0.001] * count,
        "cosine": [0.001 * math.cos(math.pi * k / count / 2) ** 2 for k in range(count)],
        "linear": [0.001] * 7 + [0.0009, 0.0006, 0.0003],
    }
    assert rates == pytest.approx(expected[schedule])


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [({"training": "stacked"}, 8), ({"training": "joint"}, 20), ({}, 40), ({"reach": 2}, 20)],
    ids=str,
)
def test_training_gets_better_than_a_constant_guess(
    faces: Faces, changes: dict[str, Any], epochs: int
) -> None:
    done = trained(faces, epochs=epochs, batch_size=8, lr=0.003, **changes)
    rows = faces.rows("train")
    error = training.held_out_error(done.model, done.batches, rows)
    images = faces.images[rows] / 255
    constant = np.square(images - images.mean((0, 1, 2))).sum() / len(rows)
    assert error < 0.8 * constant


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_training(
    faces: Faces, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer(faces, epochs=3)
    made.run_epoch()
    (total,) = (p.value for p in made.curve if p.loss == "total")
    with torch.no_grad():
        made.model.decoder[3].bias[0] = value
    with pytest.raises(Diverged) as caught:
        made.run_epoch()
    told = caught.value
    assert (told.epoch, told.loss) == (2, "level_4")
    assert not math.isfinite(told.value)
    assert told.last_finite == pytest.approx(total, rel=0.5)  # that of the last step
