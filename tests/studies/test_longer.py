"""Trainings that go on: what is kept is taken, what is written, and a schedule's stretching."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.common.settings import Training, Variant
from stages.model.side_by_side import obtain
from studies import longer
from tests.conftest import model_settings
from tests.studies.conftest import Prepare


def test_kept_trainings_go_on_and_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    monkeypatch.setattr(longer, "EPOCHS", (1, 2))
    settings = model_settings(epochs=1)
    people = prepare("stacked", settings, seed=4)
    first = obtain(Training(settings=settings, seed=4, faces=people.hash), people)
    longer.main("stacked")
    assert sorted(path.name for path in first.parent.glob("epochs?")) == ["epochs1", "epochs2"]

    found = pd.read_csv(tmp_path / "reports/studies/longer.csv", dtype={"faces": str})
    kept_curve, whole = (pd.read_csv(first.parent / f"epochs{n}/curve.csv") for n in (1, 2))
    assert whole[whole["epoch"] == 1].reset_index(drop=True).equals(kept_curve)
    assert {*found["faces"]} == {people.hash[:12]}
    errors = found[found["measure"] == "averaged_error"].sort_values("epoch")
    expected = whole[whole["loss"] == "averaged_error"]["value"]
    np.testing.assert_allclose(errors["value"], expected)
    assert [*found[found["measure"] == "grid_ratio"]["epoch"]] == [1, 2]
    assert (tmp_path / "reports/studies/longer.png").exists()
    assert "| stacked | error |" in (tmp_path / "reports/studies/longer.md").read_text("utf-8")


def test_of_trainings_made_anew_the_ends_alone_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    monkeypatch.setattr(longer, "EPOCHS", (1, 3))
    prepare("stacked", model_settings(schedule="cosine"))
    longer.main("stacked")
    found = pd.read_csv(tmp_path / "reports/studies/longer.csv", dtype={"faces": str})
    assert [*found[found["measure"] == "averaged_error"]["epoch"]] == [1, 3]


def test_without_names_controls_are_trained_beside_the_variants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    monkeypatch.setattr(longer, "EPOCHS", (1, 2))
    monkeypatch.setattr(longer, "DEFAULT", ("stacked",))
    monkeypatch.setattr(longer, "CONTROLS", {"scheduled": ("stacked", {"schedule": "cosine"})})
    prepare("stacked", model_settings())
    longer.main()
    found = pd.read_csv(tmp_path / "reports/studies/longer.csv", dtype={"faces": str})
    errors = found[found["measure"] == "error"].set_index(["variant", "epoch"])["value"]
    assert {*errors.index} == {
        (name, epoch) for name in ("stacked", "scheduled") for epoch in (1, 2)
    }
    assert errors["stacked", 2] != errors["scheduled", 2]
    page = (tmp_path / "reports/studies/longer.md").read_text("utf-8")
    assert "`scheduled` is stacked with schedule: cosine." in page


def test_one_that_diverges_at_once_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    monkeypatch.setattr(longer, "EPOCHS", (1, 2))
    monkeypatch.setattr(longer, "DEFAULT", ("stacked",))
    monkeypatch.setattr(longer, "CONTROLS", {"wild": ("stacked", {"lr": 1e30})})
    prepare("stacked", model_settings())
    longer.main()
    found = pd.read_csv(tmp_path / "reports/studies/longer.csv", dtype={"faces": str})
    wild = found[found["variant"] == "wild"]
    assert [*zip(wild["epoch"], wild["value"], strict=True)] == [(1, np.inf), (2, np.inf)]
    page = (tmp_path / "reports/studies/longer.md").read_text("utf-8")
    assert "| wild | error | all diverged | all diverged | nan |" in page
    assert "| wild | error, over stacked | - | - | |" in page


def test_what_is_counted_in_epochs_keeps_its_fraction() -> None:
    values = model_settings(epochs=10, stacked_epochs=2).model_dump(exclude={"implementation"})
    variant = Variant(**values, seeds=[0], released_seeds=[])
    assert longer.stretched(variant, 40).stacked_epochs == 8


def test_seeds_are_counted_for_each_variant_on_its_own() -> None:
    counts = {"stacked": 2, "candidate": 1}
    rows = [
        ("hash", name, seed, epochs, 1.0, measure, 2.0)
        for name, count in counts.items()
        for seed in range(count)
        for epochs in longer.EPOCHS
        for measure in ("averaged_error", "high_frequency_ratio", "grid_ratio")
        if (name, seed, epochs) != ("stacked", 1, 40)
    ]
    rows.append(("hash", "stacked", 1, 40, 1.0, "averaged_error", np.inf))
    text = longer.told(pd.DataFrame(rows, columns=[*longer.TABLE]), dict.fromkeys(counts, 1.0))
    assert "| stacked | error | 2 ± 0 | 2 ± 0 | 2; 1 diverged |" in text
    assert "| candidate | error | 2 | 2 | 2 |" in text
    assert "| candidate | error, over stacked | 1.00 (one seed) | 1.00 (one seed) |" in text


def test_seeds_that_the_first_lacks_are_not_said_to_have_diverged() -> None:
    rows = [
        ("hash", name, seed, epochs, 1.0, measure, 2.0)
        for name, seeds in {"stacked": (0, 1, 2), "candidate": (2, 3, 4)}.items()
        for seed in seeds
        for epochs in longer.EPOCHS
        for measure in ("averaged_error", "high_frequency_ratio", "grid_ratio")
    ]
    text = longer.told(pd.DataFrame(rows, columns=[*longer.TABLE]), {"stacked": 1, "candidate": 1})
    assert "| candidate | error, over stacked | 1.00 (one seed) | 1.00 (one seed) |" in text
    assert "diverged" not in text.partition("| variant |")[2]


def test_a_variant_without_a_pace_is_drawn_against_epochs_alone() -> None:
    """Seed 0, which tells the seconds, diverged at once, and the others did not."""
    rows = [
        ("hash", name, seed, epoch, seconds * epoch, measure, 2.0)
        for name, seconds in {"stacked": 1.0, "candidate": np.nan}.items()
        for seed in (1, 2)
        for epoch in (1, 2, 3)
        for measure in longer.SHOWN
    ]
    left, right = longer.draw(pd.DataFrame(rows, columns=[*longer.TABLE])).axes[:2]
    drawn = [[len(line.get_xdata()) for line in axes.lines] for axes in (left, right)]
    assert drawn == [[3, 3], [3]]


def test_variants_are_compared_seed_by_seed_with_the_first() -> None:
    errors = {"stacked": (100.0, 200.0, 400.0), "recursive": (110.0, 220.0, 440.0)}
    rows = [
        ("hash", name, seed, epochs, 1.0, measure, value)
        for name, values in errors.items()
        for seed, value in enumerate(values)
        for epochs in longer.EPOCHS
        for measure in longer.MEASURES
    ]
    frame = pd.DataFrame(rows, columns=[*longer.TABLE])
    pace = dict.fromkeys(errors, 1.0)
    ratio = "| recursive | error, over stacked | 1.10 (1.10 to 1.10) | 1.10 (1.10 to 1.10) |"
    assert f"{ratio} 1.10 (1.10 to 1.10) |" in longer.told(frame, pace)
    lost = (frame["variant"] == "recursive") & (frame["seed"] == 2) & (frame["epoch"] == 40)
    assert f"{ratio} 1.10 (1.10 to 1.10); 1 diverged |" in longer.told(frame[~lost], pace)
