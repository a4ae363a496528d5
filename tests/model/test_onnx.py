"""ONNX says what the model says."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from stages.model import onnx
from tests.conftest import made_model


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "shared", "variational": True, "size": 32},
        pytest.param({"size": 256, "levels": 3}, marks=pytest.mark.slow),
        pytest.param({"norm": "tied", "upsample": "nearest"}, marks=pytest.mark.slow),
        pytest.param({"upsample": "bilinear", "downsample": "maxpool"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_onnx_says_what_the_model_says(changes: dict[str, object], tmp_path: Path) -> None:
    model = made_model(**{"size": None} | changes).eval()
    onnx.to_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    for count in (1, 5):
        batch = torch.rand(count, 3, model.size, model.size)
        with torch.inference_mode():
            ours = model(batch).numpy()
        (theirs,) = session.run([onnx.OUTPUT], {onnx.INPUT: batch.numpy()})
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4)
        assert len(theirs) == count
