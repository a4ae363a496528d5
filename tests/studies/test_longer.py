"""Longer trainings: kept ones go on, schedules are trained anew, arms are compared seed by seed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.common.errors import PipelineError
from stages.common.settings import Training
from stages.model.side_by_side import obtain
from stages.report import studies
from stages.report.studies import SAME
from studies import longer, pace
from studies.longer import Arm
from tests.conftest import model_settings, small
from tests.studies.conftest import Prepare


def test_arms_are_trained_measured_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    arms = {
        "stacked": Arm("stacked", epochs=(1, 2), seeds=range(4, 5)),
        "scheduled": Arm("stacked", {"schedule": "cosine"}, (1, 3), range(4, 5)),
        "wild": Arm("stacked", {"lr": 1e30}, (1,), range(4, 5)),
    }
    monkeypatch.setattr(longer, "ARMS", arms)
    settings = small(epochs=1)
    people = prepare("stacked", settings)
    first = obtain(Training(settings=settings, seed=4, faces=people.hash), people)
    longer.main()
    assert sorted(path.name for path in first.parent.glob("epochs?")) == ["epochs1", "epochs2"]

    table = tmp_path / "reports/studies/longer.csv"
    found = pd.read_csv(table, dtype={"faces": str})
    assert {*found["faces"]} == {people.hash[:12]} and not found["processor"].isna().any()
    errors = found[found["measure"] == "averaged_error"].set_index("variant")
    kept, whole = (pd.read_csv(first.parent / f"epochs{n}/curve.csv") for n in (1, 2))
    assert whole[whole["epoch"] == 1].reset_index(drop=True).equals(kept)
    expected = whole[whole["loss"] == "averaged_error"]["value"]
    np.testing.assert_allclose(errors.loc["stacked", "value"], expected, rtol=1e-5)
    assert [*errors.loc["scheduled", "epoch"]] == [1, 3], "the middle is of no training asked for"
    assert errors.loc["wild", "value"] == np.inf
    measured = found[(found["variant"] == "stacked") & (found["measure"] == "detail_explained")]
    assert [*measured["epoch"]] == [1, 2]
    page = table.with_suffix(".md").read_text("utf-8")
    assert "| wild | error | diverged | - | - | 1 | - |" in page
    assert table.with_suffix(".png").exists()

    before = table.read_text("utf-8").splitlines()
    longer.main("scheduled")
    again = table.read_text("utf-8").splitlines()
    assert sorted(again) == sorted(before), "rows of other arms stay"
    with pytest.raises(PipelineError, match="there is no tame; there are stacked, "):
        longer.main.__wrapped__("tame")  # type: ignore[attr-defined]


def test_every_arm_has_settings_that_may_be_trained(prepare: Prepare) -> None:
    for name in {arm.variant for arm in longer.ARMS.values()}:
        prepare(name, model_settings(training="stacked" if "stacked" in name[:7] else "recursive"))
    for arm in longer.ARMS.values():
        assert [longer.settings_of(arm, epochs).epochs for epochs in arm.epochs] == [*arm.epochs]
    trained = {
        (SAME.get(name, name), epochs, seed)
        for name, arm in longer.ARMS.items()
        for epochs in arm.epochs
        for seed in arm.seeds
    }
    for *compared, second, others in longer.RATIOS:
        both = (
            {seed for *of, seed in trained if of == one} for one in (compared, [second, others])
        )
        assert "greedy_cosine" in compared or len(set.intersection(*both)) >= 3


def test_what_is_counted_in_epochs_keeps_its_fraction() -> None:
    settings = model_settings(training="recursive", epochs=10, stacked_epochs=2)
    assert longer.stretched(settings, 40).stacked_epochs == 8


def made(values: dict[str, dict[int, float]]) -> pd.DataFrame:
    """A table with a value an arm and seed, the same of every measure after 20 and 40 epochs."""
    rows = [
        ("hash", name, seed, epoch, measure, value, "a processor")
        for name, seeds in values.items()
        for seed, value in seeds.items()
        for epoch in (20, 40)
        for measure in longer.MEASURES
    ]
    return pd.DataFrame(rows, columns=[*longer.TABLE])


def test_arms_are_compared_seed_by_seed_at_equal_epochs_and_seconds() -> None:
    stacked = {10: 100.0, 11: 200.0, 12: 400.0}
    reach = {seed: 1.1 * value for seed, value in stacked.items()}
    frame = made({"stacked_cosine": stacked, "reach_2_cosine": reach})
    seconds = {"stacked_cosine": 10.0, "reach_2_cosine": 18.0}
    page = longer.told(frame, seconds)
    assert "Trained on a processor." in page
    assert "| stacked_cosine | error | - | 233 ± 153 | 233 ± 153 | - | 3 | 10.0 |" in page
    row = "| reach_2_cosine, 20 epochs | stacked_cosine, {} epochs | 1.10 (1.10 to 1.10) | 3 | {} |"
    assert row.format(20, "1.80") in page and row.format(40, "0.90") in page
    diverged = frame.assign(value=frame["value"].where(frame["seed"] != 12, np.inf))
    page = longer.told(diverged, seconds)
    assert "| 150 ± 71 but for 1 that diverged |" in page and "reach_2_cosine, 20" not in page


def test_no_two_arms_are_drawn_alike_and_one_without_a_pace_against_epochs_alone() -> None:
    names = [*longer.ARMS, "greedy_cosine"]
    frame = made({name: {1: 2.0, 2: 2.0} for name in names})
    against_epochs, against_seconds = longer.draw(frame, {"stacked": 1.0}).axes[:2]
    looks = {(line.get_color(), line.get_linestyle()) for line in against_epochs.lines}
    assert len(looks) == len({SAME.get(name, name) for name in names})
    assert len(against_seconds.lines) == 2, "more seeds of the same training"
    assert all(len(line.get_xdata()) == 2 for line in against_epochs.lines)


def test_the_pace_of_every_variant_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    monkeypatch.setattr(longer, "ARMS", {"mine": Arm("mixed", {"schedule": "cosine"})})
    monkeypatch.setattr(pace, "STEPS", 1)
    prepare("mixed", small(epochs=2, stacked_epochs=1))
    (tmp_path / "reports/studies").mkdir(parents=True)
    pace.main()
    seconds = studies.pace(tmp_path / "reports/studies/pace.csv")
    assert [*seconds] == ["mixed", "mine"] and min(seconds.values()) > 0


def test_a_recursive_step_keeps_one_level_at_a_time() -> None:
    """That of the largest pictures, which is all that a stacked model of one level has."""
    recursive, one_level, stacked = (
        pace.mebibytes(model_settings(size=64, **changes))
        for changes in ({}, {"training": "stacked", "levels": 1}, {"training": "stacked"})
    )
    assert recursive == one_level < stacked
    assert recursive * 2**20 > 4 * 3 * 64**2, "at least the picture"
