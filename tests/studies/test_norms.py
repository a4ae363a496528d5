"""Norms with running statistics and with those of the batch, on a small model."""

import csv
import shutil
from pathlib import Path

import pytest
import torch

from stages.common.settings import ModelSettings, Training
from stages.data.faces import Faces, to_tensor
from stages.model.side_by_side import obtain
from stages.report.studies import KINDS
from studies import norms
from studies.shared import spread
from tests.conftest import made_model, small
from tests.studies.conftest import Prepare


@pytest.fixture(autouse=True)
def of_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norms, "MODELS", ("normed",))


def trained(settings: ModelSettings, people: Faces) -> Path:
    """The folder of the variant's one training."""
    folder = Path("models/normed/described/seed0")
    folder.parent.mkdir(parents=True)
    obtain(Training(settings=settings, seed=0, faces=people.hash), people).rename(folder)
    return folder


def test_all_kinds_of_statistics_are_measured(tmp_path: Path, prepare: Prepare) -> None:
    settings = small(training="stacked", norm="shared", epochs=1)
    people = prepare("normed", settings, count=96)
    folder = trained(settings, people)
    norms.main()

    with open(tmp_path / "reports/studies/norms.csv", encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["weights"] for row in rows] == ["last_step", "averaged"]
    model, _ = norms.checkpoint.load(folder / "last_step.safetensors")
    held_out = to_tensor(people.images[people.rows("test")])
    assert len(held_out) == settings.batch_size  # a single batch, in whatever order
    for column, own in (("running", False), ("of_batch", True)):
        with torch.no_grad():
            difference = model.train(own)(held_out) - held_out
        expected = float(difference.square().sum()) / len(held_out)
        assert float(rows[0][column]) == pytest.approx(expected, rel=1e-4)
    assert len({rows[0][kind] for kind in KINDS}) == len(KINDS)
    assert {row["faces"] for row in rows} == {people.hash[:12]}


def test_less_than_a_batch_or_other_faces_are_refused(
    tmp_path: Path, prepare: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    """Statistics of less than a batch are others than those that it was trained with."""
    settings = small(norm="shared", epochs=1)
    trained(settings, prepare("normed", settings))
    with pytest.raises(SystemExit):
        norms.main()
    assert "8 held-out faces are no batch of 16" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "data")
    prepare("normed", settings, count=96)
    with pytest.raises(SystemExit):
        norms.main()
    assert "comes from another training" in capsys.readouterr().err
    assert not (tmp_path / "reports").exists()


def test_population_statistics_are_those_of_each_half_on_training_faces(prepare: Prepare) -> None:
    """What norms of level 1 give has mean 0 and deviation 1 where pictures go through the whole
    model, which is not how recursive training uses its decoder."""
    model = made_model(norm="shared")
    people = prepare("normed", model.settings)
    calibrated = norms.calibrated(people, model)
    x = to_tensor(spread(people, "train", 32))
    found = []
    with torch.no_grad():
        for k in range(1, model.depth + 1):
            x = calibrated.encode_level(k, x)
            found.append(x)
        for k in range(model.depth, 1, -1):
            x = calibrated.decode_level(k, x)
    for normalised in (found[0], x):
        assert normalised.mean((0, 2, 3)).abs().max() < 0.05
        assert (normalised.var((0, 2, 3)) - 1).abs().max() < 0.1
    halves = calibrated.encoder_norms[0], calibrated.decoder_norms[0]
    assert not torch.allclose(*(half.running_mean for half in halves))
    assert not model.encoder_norms[0].running_mean.any(), "the model stays as it was"
