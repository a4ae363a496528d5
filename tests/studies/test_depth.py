"""The ratio of both trainings by depth, on small models and on made numbers."""

from pathlib import Path

import pandas as pd
import pytest

from stages.report.studies import ratios_by_depth
from studies import depth
from tests.conftest import small
from tests.studies.conftest import Prepare


def test_both_trainings_are_compared_level_by_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    monkeypatch.setattr(depth, "FEWER", (1,))
    monkeypatch.setattr(depth, "SEEDS", range(2))
    for training in ("stacked", "recursive"):
        prepare(training, small(training=training, levels=2))
    depth.main()
    table = tmp_path / "reports/studies/depth.csv"
    first = table.read_bytes()
    found = ratios_by_depth(pd.read_csv(table))
    assert [*zip(found["weights"], found["levels"], found["n"], strict=True)] == [
        (weights, levels, 2) for weights in ("averaged", "last_step") for levels in (1, 2)
    ]
    # Of one level both are the same training, but for the order in which weights are drawn.
    assert (found[found["levels"] == 1]["ratio"] - 1).abs().max() < 0.2
    assert "| 32 x 32 | averaged | 2 |" in table.with_suffix(".md").read_text("utf-8")
    depth.main()
    assert table.read_bytes() == first


def test_a_ratio_is_a_geometric_mean_over_seeds_with_its_interval() -> None:
    errors = {("recursive", 0): 50.0, ("recursive", 1): 200.0}
    errors |= {("stacked", 0): 100.0, ("stacked", 1): 100.0}
    rows = [(128, "faces", "averaged", 3, *of, error) for of, error in errors.items()]
    [row] = ratios_by_depth(pd.DataFrame(rows, columns=[*depth.KEY, "error"])).to_dict("records")
    assert row["ratio"] == pytest.approx(1) and row["low"] * row["high"] == pytest.approx(1)
    assert (row["recursive"], row["stacked"], row["n"]) == (125, 100, 2)
