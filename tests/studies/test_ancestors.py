"""Greedy layerwise training and denoising levels."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from stages.common.errors import PipelineError
from stages.common.settings import Training
from stages.model.network import Autoencoder, state
from studies import ancestors, longer
from studies.longer import Arm
from tests.conftest import small
from tests.model.test_training import trained
from tests.studies.conftest import Prepare

SMALL = small(epochs=2)


def test_both_are_trained_measured_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    arms = {"recursive_cosine": Arm("recursive", longer.COSINE, (1,), range(3, 4))}
    for module in (ancestors, longer):
        monkeypatch.setattr(module, "ARMS", arms)
    monkeypatch.setattr(ancestors, "EPOCHS", 1)
    monkeypatch.setattr(ancestors, "TRIED", 2)
    monkeypatch.setattr(ancestors, "NOISES", (0.0, 3.0))
    prepare("recursive", SMALL, count=96)
    reports = tmp_path / "reports/studies"
    reports.mkdir(parents=True)
    ancestors.main()
    found = pd.read_csv(reports / "longer.csv")
    assert {*found["variant"]} == {"greedy_cosine"}
    assert {*found["measure"]} == {longer.ERROR, *longer.CLARITY}
    noise = pd.read_csv(reports / "noise.csv")
    assert [*noise["variant"]] == [0.0, 3.0] and noise["error"].nunique() == 2
    with pytest.raises(PipelineError, match="there is no lazy; there are greedy and noise"):
        ancestors.main.__wrapped__("lazy")  # type: ignore[attr-defined]


def test_greedy_levels_stand_still_once_they_are_done(
    monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    """In the phase of a level no other moves, and those before are as their own phase left them."""
    people = prepare("recursive", SMALL)
    phases: list[tuple[Autoencoder, Autoencoder]] = []

    class Watched(ancestors.Trainer):
        def run_epoch(self) -> None:
            super().run_epoch()
            phases.append((self.model, self.average.model))

    monkeypatch.setattr(ancestors, "Trainer", Watched)
    done = ancestors.greedy(Training(settings=SMALL, seed=3, faces=people.hash), people)
    assert len(phases) == SMALL.epochs * SMALL.depth
    torch.manual_seed(3)
    fresh = Autoencoder(SMALL)
    for k, (model, averaged) in enumerate(phases[1 :: SMALL.epochs], start=1):
        for half in ("encoder", "decoder"):
            whole, levels, mean, new = (
                [level.weight for level in getattr(one, half)]
                for one in (done, model, averaged, fresh)
            )
            assert torch.equal(whole[k - 1], mean[k - 1])
            assert not torch.equal(levels[k - 1], new[k - 1])
            if half == "encoder":
                assert all(map(torch.equal, levels[: k - 1], whole[: k - 1]))
            assert all(map(torch.equal, levels[k:], new[k:]))


def test_denoising_without_noise_is_recursive_training(prepare: Prepare) -> None:
    people = prepare("recursive", SMALL)
    training = Training(settings=SMALL, seed=3, faces=people.hash)
    ours = ancestors.denoising(training, people, noise=0.0)
    theirs = trained(people, seed=3, epochs=2).average.model
    torch.testing.assert_close(state(ours), state(theirs), rtol=1e-5, atol=1e-6)
