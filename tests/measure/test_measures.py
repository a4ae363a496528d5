"""One entry of the table and one function are all that a measure takes."""

import numpy as np
import pytest
import torch

from stages.measure import compute
from stages.measure.measures import MEASURES, Measure, Split
from stages.measure.statistics import ratio
from stages.model.network import Autoencoder
from tests.conftest import model_settings


def test_a_new_entry_is_measured_with_its_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def darkest(pair: compute.Pair) -> torch.Tensor:
        both = (pair.seen, pair.images)
        return torch.stack([x.flatten(1).amin(1) for x in both], 1)[:, :, None]

    monkeypatch.setitem(compute.FUNCTIONS, "darkness", darkest)
    splits: tuple[Split, ...] = ("train", "samples")
    entry = Measure("darkness", "darkness", "", "ratio", "lower", statistic=ratio, splits=splits)
    monkeypatch.setitem(MEASURES, "darkness", entry)
    monkeypatch.setattr(compute, "DETECTED", 2)
    monkeypatch.setattr(compute, "NOISE", 2)
    images = np.random.default_rng(0).integers(1, 256, (3, 128, 128, 3), np.uint8)
    model = Autoencoder(model_settings(variational=True)).eval()
    with compute.threads() as pool:
        found = compute.measure(pool, model, images[:2], images)
        references = compute.measure_references(pool, images, images[:2])
    rows = {(split, name): rest for split, name, *rest in found.rows}
    assert ("test", "darkness") not in rows
    with torch.inference_mode():
        output = model(compute.to_tensor(images)).mul(255).round() / 255
    expected = output.flatten(1).amin(1).mean() / (images.min((1, 2, 3)) / 255).mean()
    assert rows["train", "darkness"][0] == pytest.approx(float(expected), rel=1e-4)
    assert rows["samples", "darkness"][::2] == [1, 2]
    assert references.measures.value["input", "darkness"] == 1
    far = np.square(images / 255 - images[:2].mean(0) / 255).sum((1, 2, 3))
    assert references.measures.value["mean", "error"] == pytest.approx(far.mean(), rel=1e-5)
