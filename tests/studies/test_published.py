"""Models as released, with one difference at a time: each is felt, and what is felt is told."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from stages.data import faces
from stages.model.training import held_out_error
from studies import published
from tests.conftest import made_faces, model_settings
from tests.model.test_on_dask import write
from tests.model.test_training import trained


def test_each_difference_is_felt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.fspath(Path(__file__).parents[2]))
    settings = model_settings(epochs=2, training="stacked", norm="batch")
    config = settings.model_dump(exclude={"implementation"}) | {"seeds": [4], "released_seeds": []}
    path = tmp_path / "configs/variants/stacked_bn.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    write(made_faces(48), tmp_path / "data")
    published.main("stacked_bn")

    found = pd.read_csv(tmp_path / "reports/studies/published.csv")
    values = {
        difference: [*rows.error] for difference, rows in found.groupby("difference", sort=False)
    }
    assert [*values] == [*published.DIFFERENCES]
    assert {name: len(own) for name, own in values.items()} == {
        name: published.LONGER if name == "as released" else 2 for name in values
    }
    # Of few steps a running variance hardly moves an error.
    felt = [own[1] for name, own in values.items() if name != "unbiased running variance"]
    assert len({*felt}) == len(values) - 1

    people = faces.load()
    changes = {"training": "stacked", "norm": "batch", "implementation": "released"}
    plain = trained(people, published.SEED, epochs=2, **changes)
    with published.unbiased_variance():
        unbiased = trained(people, published.SEED, epochs=2, **changes)
    ours, theirs = (made.model.encoder_norms[6].running_var for made in (plain, unbiased))
    start = 0.99 ** (2 * plain.steps)  # what is left of the variance that a norm starts with
    count = plain.settings.batch_size  # values behind a variance at level 7
    torch.testing.assert_close(theirs - start, (ours - start) * count / (count - 1))
    error = held_out_error(plain.model, plain.batches, plain.rows)
    assert values["as released"][1] == pytest.approx(error, rel=1e-5)

    page = (tmp_path / "reports/studies/published.md").read_text(encoding="utf-8")
    assert "| stacked, batch norm | as released |" in page
    misses = [min(abs(np.log(error / paper)) for paper in (373, 467)) for error in found.error]
    nearest = found.iloc[int(np.argmin(misses))]
    assert f"“{nearest.difference}” after {nearest.epoch} epochs, {nearest.error:.0f}." in page


def test_a_variant_without_a_number_in_the_paper_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(published, "read_variant", lambda name: pytest.fail("it went on"))
    with pytest.raises(SystemExit):
        published.main("stacked_bn", "candidate")
    assert "the paper has no number for candidate" in capsys.readouterr().err
