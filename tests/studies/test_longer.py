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
    settings = model_settings(epochs=1, size=64)
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
    prepare("stacked", model_settings(schedule="cosine", size=64))
    longer.main("stacked")
    found = pd.read_csv(tmp_path / "reports/studies/longer.csv", dtype={"faces": str})
    assert [*found[found["measure"] == "averaged_error"]["epoch"]] == [1, 3]


def test_without_names_controls_are_trained_and_one_that_diverges_at_once_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    controls = {"scheduled": {"schedule": "cosine"}, "wild": {"lr": 1e30}}
    monkeypatch.setattr(longer, "EPOCHS", (1, 2))
    monkeypatch.setattr(longer, "DEFAULT", ("stacked",))
    monkeypatch.setattr(
        longer, "CONTROLS", {name: ("stacked", changes) for name, changes in controls.items()}
    )
    prepare("stacked", model_settings(size=64))
    longer.main()
    found = pd.read_csv(tmp_path / "reports/studies/longer.csv", dtype={"faces": str})
    errors = found[found["measure"] == "error"].set_index(["variant", "epoch"])["value"]
    assert errors["stacked", 2] != errors["scheduled", 2]
    wild = found[found["variant"] == "wild"]
    assert [*zip(wild["epoch"], wild["value"], strict=True)] == [(1, np.inf), (2, np.inf)]
    page = (tmp_path / "reports/studies/longer.md").read_text("utf-8")
    assert "`scheduled` is stacked with schedule: cosine." in page
    assert "| wild | error | all diverged | all diverged | nan |" in page
    assert "| wild | error, over stacked | - | - | |" in page


def test_what_is_counted_in_epochs_keeps_its_fraction() -> None:
    values = model_settings(epochs=10, stacked_epochs=2).model_dump(exclude={"implementation"})
    variant = Variant(**values, seeds=[0], released_seeds=[])
    assert longer.stretched(variant, 40).stacked_epochs == 8


def made(values: dict[str, dict[int, float]], epochs: tuple[int, ...]) -> pd.DataFrame:
    """A table with a value a variant and seed, the same of every measure after each epoch."""
    rows = [
        ("hash", name, seed, epoch, 1.0, measure, value)
        for name, seeds in values.items()
        for seed, value in seeds.items()
        for epoch in epochs
        for measure in (*longer.MEASURES, "error")
    ]
    return pd.DataFrame(rows, columns=[*longer.TABLE])


def told(frame: pd.DataFrame) -> str:
    return longer.told(frame, dict.fromkeys(frame["variant"], 1.0), {"a processor"})


def test_seeds_are_counted_for_each_variant_on_its_own() -> None:
    frame = made({"stacked": {0: 2.0, 1: 2.0}, "candidate": {0: 2.0}}, longer.EPOCHS)
    last = (frame["seed"] == 1) & (frame["epoch"] == 40)
    text = told(frame.assign(value=frame["value"].where(~last, np.inf)))
    assert "Trained on a processor." in text
    assert "| stacked | error | 2 ± 0 | 2 ± 0 | 2; 1 diverged |" in text
    assert "| candidate | error | 2 | 2 | 2 |" in text
    assert "| candidate | error, over stacked | 1.00 (one seed) | 1.00 (one seed) |" in text


def test_seeds_that_the_first_lacks_are_not_said_to_have_diverged() -> None:
    seeds = {"stacked": (0, 1, 2), "candidate": (2, 3, 4)}
    values = {name: dict.fromkeys(own, 2.0) for name, own in seeds.items()}
    text = told(made(values, longer.EPOCHS))
    assert "| candidate | error, over stacked | 1.00 (one seed) | 1.00 (one seed) |" in text
    assert "diverged" not in text.partition("| variant |")[2]


def test_a_variant_without_a_pace_is_drawn_against_epochs_alone() -> None:
    """Seed 0, which tells the seconds, diverged at once, and the others did not."""
    frame = made({name: {1: 2.0, 2: 2.0} for name in ("stacked", "candidate")}, (1, 2, 3))
    seconds = frame["epoch"].where(frame["variant"] == "stacked")
    left, right = longer.draw(frame.assign(seconds=seconds)).axes[:2]
    drawn = [[len(line.get_xdata()) for line in axes.lines] for axes in (left, right)]
    assert drawn == [[3, 3], [3]]


def test_variants_are_compared_seed_by_seed_with_the_first() -> None:
    errors = {"stacked": (100.0, 200.0, 400.0), "recursive": (110.0, 220.0, 440.0)}
    values = {name: dict(enumerate(own)) for name, own in errors.items()}
    frame = made(values, longer.EPOCHS)
    ratio = "| recursive | error, over stacked | 1.10 (1.10 to 1.10) | 1.10 (1.10 to 1.10) |"
    assert f"{ratio} 1.10 (1.10 to 1.10) |" in told(frame)
    lost = (frame["variant"] == "recursive") & (frame["seed"] == 2) & (frame["epoch"] == 40)
    assert f"{ratio} 1.10 (1.10 to 1.10); 1 diverged |" in told(frame[~lost])
