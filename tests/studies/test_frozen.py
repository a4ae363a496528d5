"""Fresh decoders on encoders that stand still."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from studies import frozen, longer
from studies.longer import Arm
from tests.conftest import model_settings
from tests.studies.conftest import Prepare


def test_a_fresh_decoder_is_trained_on_each_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    arms = {name: Arm(name[:-7], longer.COSINE, (2,), range(3, 5)) for name in frozen.ENCODERS}
    monkeypatch.setattr(frozen, "ARMS", arms)
    monkeypatch.setattr(frozen, "EPOCHS", 1)
    monkeypatch.setattr(frozen, "run_each", lambda tasks, *_: (task() for task in tasks))
    for name in ("recursive", "stacked"):
        prepare(name, model_settings(training=name, size=32))
    encoders, took = [], frozen.held_out_error

    def measure(model, *rest):
        encoders.append([x.detach().clone() for x in model.encoder.parameters()])
        return took(model, *rest)

    monkeypatch.setattr(frozen, "held_out_error", measure)
    frozen.main()
    for trained, held in zip(encoders[::2], encoders[1::2], strict=True):
        assert all(torch.equal(*pair) for pair in zip(trained, held, strict=True))
    found = pd.read_csv(tmp_path / "reports/studies/frozen.csv", dtype={"faces": str})
    assert [*found["variant"]] == [name for name in sorted(arms) for _ in range(2)]
    assert {*found["own"]}.isdisjoint(found["fresh"]) and found["fresh"].nunique() == 4
