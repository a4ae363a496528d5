"""What each level loses: of made activations, of a linear model, and of small trained ones."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages.common.errors import PipelineError
from studies import levels, longer
from studies.longer import Arm
from tests.conftest import made_faces, made_model, small
from tests.studies.conftest import Prepare


def test_every_training_is_looked_at_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    prepare("recursive", small())
    arms = {"mine": Arm("recursive", longer.COSINE, (1,), range(2))}
    monkeypatch.setattr(levels, "ARMS", arms)
    monkeypatch.setattr(levels, "LOOKED_AT", {"longer": [("mine", 1)], "reach": [("reach 1", 1)]})
    monkeypatch.setattr(levels, "LASTING_SEEDS", range(2))
    table = tmp_path / "reports/studies/levels.csv"
    table.parent.mkdir(parents=True)
    levels.main()
    levels.main("reach")
    found = pd.read_csv(table)
    assert [*found["level"]] == [*range(1, 6)] * 4
    assert (found[[*levels.MEASURED]] > 0).all(axis=None)
    page = table.with_suffix(".md").read_text(encoding="utf-8")
    assert "| mine | 1 | 5 | " in page and page.endswith(" | 2 |\n") and "| reach 1 | 1 | 5" in page
    with pytest.raises(PipelineError, match="there is no none; there are longer, reach"):
        levels.main.__wrapped__("none")  # type: ignore[attr-defined]


def test_the_last_level_is_behind_none_and_the_error_through_all_is_the_model_s() -> None:
    model, images = made_model(), made_faces(16, 32).images
    rows = np.array([*levels.losses(model, images)])
    level, alone, behind, error, _ = rows.T
    assert [*level] == [1, 2, 3, 4, 5]
    assert behind[-1] == pytest.approx(alone[-1]) and (behind[:-1] != alone[:-1]).all()
    inputs = torch.from_numpy(images).movedim(-1, 1) / 255
    with torch.inference_mode():
        whole = (model(inputs) - inputs).square().sum((1, 2, 3)).mean().item()
    assert error[-1] == pytest.approx(whole, rel=1e-4)
    # The picture itself: an error of its values over their variance.
    variance = (inputs - inputs.mean((0, 2, 3), keepdim=True)).square().mean().item()
    assert behind[0] == pytest.approx(whole / inputs[0].numel() / variance, rel=1e-4)


def test_dimensions_count_the_directions_of_equal_spread() -> None:
    noise = torch.randn(4000, 6, 1, 1, generator=torch.Generator().manual_seed(0))
    assert levels.dimensions(noise) == pytest.approx(6, rel=0.02)
    few = noise.clone()
    few[:, 3:] = 0
    assert levels.dimensions(few) == pytest.approx(3, rel=0.02)
    assert levels.lost(torch.zeros_like(noise), noise) == pytest.approx(1, rel=0.01)
