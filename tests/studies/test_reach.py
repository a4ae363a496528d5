"""Trainings of every reach are compared with one another and with stacked training."""

import re
from pathlib import Path

import pandas as pd
import pytest

from stages.common.settings import Training
from stages.common.yaml_files import to_yaml
from stages.model import store
from stages.model.side_by_side import obtain
from studies import pace, reach
from tests.conftest import model_settings
from tests.studies.conftest import Prepare


def test_every_reach_is_trained_measured_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    monkeypatch.setattr(reach, "EPOCHS", (1, 2))
    monkeypatch.setattr(reach, "SEEDS", range(4, 6))
    monkeypatch.setattr(reach, "WINNER_SEEDS", range(4, 6))
    monkeypatch.setattr(reach, "LASTING", {"stacked": (3,), "reach 1": (3,), "reach 3": (3,)})
    monkeypatch.setattr(reach, "LASTING_SEEDS", range(4, 6))
    monkeypatch.setattr(pace, "STEPS", 1)
    small = {"size": 32, "levels": 2, "epochs": 1}
    prepare("stacked", model_settings(training="stacked", **small), count=24)
    people = prepare("recursive", model_settings(**small))
    folder = tmp_path / "reports/studies"
    (folder / "search").mkdir(parents=True)
    for side, name in (("stacked", "one_searched"), ("by_levels", "other_searched")):
        entry = {"training": "stacked", "lr": 0.002, "epochs": 2, "seeds": 5, "released_seeds": 0}
        (folder / "search" / f"{side}.yaml").write_text(to_yaml({name: entry}), "utf-8")
    reach.main()
    found = pd.read_csv(folder / "reach.csv", dtype={"faces": str})
    assert {*found["faces"]} == {people.hash[:12]}
    winners = ["one_searched", "other_searched"]
    assert [*found["variant"].unique()] == ["stacked", "reach 1", "reach 2", *winners]
    assert len(found) == 3 * 2 * 2 * 2 + 2 * 2 * 2 + 2 * 2 * 2
    assert (found["epoch_seconds"] > 0).all()

    # Two levels: their own losses, and that of both together.
    settings = model_settings(reach=2, schedule="cosine", **small)
    own = obtain(Training(settings=settings, seed=5, faces=people.hash), people)
    curve = store.read_curve(own)
    (error,) = (value for _, split, loss, value in curve if (split, loss) == ("test", reach.ERROR))
    row = (found["variant"] == "reach 2") & (found["seed"] == 5) & (found["epoch"] == 1)
    measured = found[row & (found["measure"] == reach.ERROR)]["value"]
    assert measured.item() == pytest.approx(error, rel=1e-5)

    page = (folder / "reach.md").read_text("utf-8")
    assert "| other_searched, 2 epochs | one_searched, 2 epochs | 1.00 (1.00 to 1.00) | 2" in page
    assert re.search(r"\| other_searched \| error \| - \| \d+ ± \d+ \| - \| ", page)
    for row in ("2, 1 epochs | reach 1, 2", "1, 2 epochs | stacked, 2", "1, 3 epochs | stacked, 3"):
        assert f"| reach {row} epochs | " in page
    assert (folder / "reach.png").exists()
