"""Models as released, with one difference at a time: each is felt, and what is felt is told."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages.model.training import held_out_error
from studies import published
from tests.conftest import small
from tests.model.test_training import trained
from tests.studies.conftest import Prepare

EARLIER = """faces,variant,difference,epoch,error
own,recursive_bn,as released,1,8000.5
own,recursive_bn,as released,2,7000.25
own,stacked_bn,as released,1,1
lfw,stacked_vae,as released,1,2
"""


def test_each_difference_is_felt(tmp_path: Path, prepare: Prepare) -> None:
    people = prepare("stacked_bn", small(epochs=2, training="stacked", norm="batch"))
    table = tmp_path / "reports/studies/published.csv"
    table.parent.mkdir(parents=True)
    table.write_text(EARLIER.replace("own", people.hash[:12]), encoding="utf-8")
    published.main("stacked_bn")

    found = pd.read_csv(table, dtype={"faces": str})
    assert {*found.faces} == {people.hash[:12]}
    assert [*found[found.variant == "recursive_bn"].error] == [8000.5, 7000.25]
    found = found[found.variant == "stacked_bn"]
    values = {name: [*rows.error] for name, rows in found.groupby("difference", sort=False)}
    asked = [name for name, one in published.DIFFERENCES.items() if one.of in ("", "stacked")]
    longest = [published.LONGER if name == "as released" else 2 for name in asked]
    assert [*values] == asked and [*map(len, values.values())] == longest
    # Of few steps a running variance hardly moves an error.
    felt = [own[1] for name, own in values.items() if name != "unbiased running variance"]
    assert len({*felt}) == len(values) - 1

    changes = {"training": "stacked", "norm": "batch", "implementation": "released"}
    plain = trained(people, published.SEED, epochs=2, **changes)
    with published.unbiased_variance():
        unbiased = trained(people, published.SEED, epochs=2, **changes)
    ours, theirs = (made.model.encoder_norms[-1].running_var for made in (plain, unbiased))
    start = 0.99 ** (2 * plain.steps)  # what is left of the variance that a norm starts with
    count = plain.settings.batch_size  # values behind a variance at the last level
    torch.testing.assert_close(theirs - start, (ours - start) * count / (count - 1))
    error = held_out_error(plain.model, plain.batches, plain.rows)
    assert values["as released"][1] == pytest.approx(error, rel=1e-5)

    page = (tmp_path / "reports/studies/published.md").read_text(encoding="utf-8")
    assert "| stacked, batch norm | as released |" in page
    misses = [min(abs(np.log(error / paper)) for paper in (373, 467)) for error in found.error]
    nearest = found.iloc[int(np.argmin(misses))]
    assert f"“{nearest.difference}” after {nearest.epoch} epochs, {nearest.error:.0f}." in page


def test_a_damaged_table_is_told_before_anything_is_trained(
    tmp_path: Path, prepare: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare("stacked_bn", small(training="stacked", norm="batch"))
    table = tmp_path / "reports/studies/published.csv"
    table.parent.mkdir(parents=True)
    table.write_text("variant,difference,epoch,error\nstacked_bn,as released,1,1\n", "utf-8")
    with pytest.raises(SystemExit):
        published.main("stacked_bn")
    assert "published.csv cannot be read" in capsys.readouterr().err


def test_a_variant_without_a_number_in_the_paper_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(published, "read_variant", lambda name: pytest.fail("it went on"))
    with pytest.raises(SystemExit):
        published.main("stacked_bn", "candidate")
    assert "the paper has no number for candidate" in capsys.readouterr().err
