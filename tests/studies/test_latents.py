"""New faces from fitted latents: the densities, the distances, and a run on small models."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages.common.settings import Training
from stages.model import checkpoint
from stages.model.network import Autoencoder, state
from tests.conftest import model_settings
from tests.studies.conftest import Prepare

pytest.importorskip("sklearn")

from studies import latents


def test_a_density_is_that_of_the_latents() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(0, 5, (2, 384))
    codes = centres[random.integers(0, 2, 3000)] + random.normal(0, 1, (3000, 384)) * 0.1
    gaussian, mixture = (latents.fit(codes, components) for components in (1, 2))
    np.testing.assert_allclose(gaussian.means_[0], codes.mean(0), rtol=1e-6)
    expected = np.cov(codes.T, bias=True)
    np.testing.assert_allclose(gaussian.covariances_[0], expected, atol=2e-3 * expected.max())
    drawn, _ = mixture.sample(200)
    distance = np.linalg.norm(drawn[:, None] - centres, axis=2).min(1)
    assert distance.max() < 0.2 * np.linalg.norm(centres[0] - centres[1])


def test_copies_of_training_faces_are_told_from_new_ones() -> None:
    random = np.random.default_rng(0)
    train, new = (random.integers(0, 256, (40, 128, 128, 3), np.uint8) for _ in range(2))
    nearby = latents._small(train)
    reach = latents._distances(new, nearby)
    assert latents.measured(train, new, nearby, reach)[-1] == 1.0
    _, high_frequency_ratio, *_, copies = latents.measured(new, new, nearby, reach)
    assert copies <= 0.05 and high_frequency_ratio == pytest.approx(1)


def test_all_densities_of_a_variant_are_measured_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Prepare
) -> None:
    monkeypatch.setattr(latents, "MODELS", ("vae",))
    monkeypatch.setattr(latents, "SAMPLES", 8)
    monkeypatch.setattr(latents, "COMPONENTS", {"Gaussian": 1, "mixture": 2})
    settings = model_settings(variational=True, size=64)
    people = prepare("vae", settings)
    torch.manual_seed(0)
    folder = tmp_path / "models/vae/described/seed0"
    folder.mkdir(parents=True)
    training = Training(settings=settings, seed=0, faces=people.hash)
    tensors = state(Autoencoder(settings))
    checkpoint.save(tensors, folder / "averaged.safetensors", training, "averaged")
    latents.main()
    folder = tmp_path / "reports/studies"
    table = pd.read_csv(folder / "latents.csv", keep_default_na=False, dtype={"faces": str})
    assert {*table["faces"]} == {people.hash[:12]}
    assert [*table["variant"]] == ["", *["vae"] * 4]
    densities = ["reconstructions", "Gaussian", "mixture", "standard normal"]
    assert [*table["density"]] == ["held-out faces", *densities]
    assert "| vae | standard normal | 1 |" in (folder / "latents.md").read_text(encoding="utf-8")
    assert (folder / "latents.png").exists()
