"""Decoders trained on encoders that stand still."""

from copy import deepcopy
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from stages.model.network import Autoencoder
from studies import frozen, longer
from studies.longer import Arm
from tests.conftest import model_settings
from tests.studies.conftest import Prepare


def test_decoders_are_trained_on_each_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    arms = {name: Arm(name[:-7], longer.COSINE, (2,), range(3, 5)) for name in frozen.ENCODERS}
    monkeypatch.setattr(frozen, "ARMS", arms)
    monkeypatch.setattr(frozen, "EPOCHS", 1)
    for name in ("recursive", "stacked"):
        prepare(name, model_settings(training=name, size=32))
    models: list[Autoencoder] = []
    took = frozen.held_out_error

    def measure(model, *rest):
        models.append(deepcopy(model))
        return took(model, *rest)

    monkeypatch.setattr(frozen, "held_out_error", measure)
    frozen.main()
    # Two of random encoders, then the model as it was, with a fresh decoder, and with its own.
    for own, fresh, gone_on in zip(models[2::3], models[3::3], models[4::3], strict=True):
        for other in (fresh, gone_on):
            assert all(map(torch.equal, own.encoder.parameters(), other.encoder.parameters()))
        start, near, far = (
            parameters_to_vector(one.decoder.parameters()) for one in (own, gone_on, fresh)
        )
        assert 0 < torch.dist(start, near) < torch.dist(start, far) / 2
    found = pd.read_csv(tmp_path / "reports/studies/frozen.csv", dtype={"faces": str})
    assert [*found["variant"]] == [name for name in sorted([*arms, "random"]) for _ in range(2)]
    assert found[["own", "gone_on"]].isna().sum().tolist() == [2, 2]
    assert found["fresh"].nunique() == 6
