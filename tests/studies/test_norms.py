"""Norms with running statistics and with those of the batch, on a small model."""

import csv
from pathlib import Path

import pytest
import torch
import yaml

from stages.common.settings import Training
from stages.data import faces
from stages.data.faces import to_tensor
from stages.model import kept
from studies import norms
from tests.conftest import made_faces, model_settings
from tests.model.test_on_dask import write


def test_both_kinds_of_statistics_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = model_settings(training="stacked", norm="shared", epochs=1)
    config = settings.model_dump(exclude={"implementation"}) | {"seeds": [0], "released_seeds": []}
    (tmp_path / "configs/variants").mkdir(parents=True)
    (tmp_path / "configs/download.yaml").write_text("dataset: own\n", encoding="utf-8")
    text = yaml.safe_dump(config)
    (tmp_path / "configs/variants/normed.yaml").write_text(text, encoding="utf-8")
    write(made_faces(96), tmp_path / "data")
    people = faces.load()
    found = kept.obtain(Training(settings=settings, seed=0, faces=people.hash), people)
    folder = tmp_path / "models/normed/described/seed0"
    folder.parent.mkdir(parents=True)
    found.rename(folder)
    batch = settings.batch_size
    monkeypatch.setattr(norms.np.random, "default_rng", lambda seed: InOrder())
    norms.main("normed")

    with open(tmp_path / "reports/studies/norms.csv", encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["weights"] for row in rows] == ["last_step", "averaged"]
    model, _ = norms.checkpoint.load(folder / "last_step.safetensors")
    images = people.images[people.rows("test")]
    parts = [to_tensor(images[i : i + batch]) for i in range(0, len(images) - batch + 1, batch)]
    for column, own in (("running", False), ("of_batch", True)):
        with torch.no_grad():
            errors = [(model.train(own)(x) - x).square().sum() / batch for x in parts]
        expected = float(torch.stack(errors).mean())
        assert float(rows[0][column]) == pytest.approx(expected, rel=1e-4)
    assert rows[0]["running"] != rows[0]["of_batch"]
    assert "| normed | averaged | 1 |" in (tmp_path / "reports/studies/norms.md").read_text("utf-8")


class InOrder:
    def permutation(self, rows: object) -> object:
        return rows
