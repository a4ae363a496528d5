"""A model as ONNX, for whatever runs that: by the plain formulation, whatever the batch."""

import warnings
from pathlib import Path

import torch

from stages.common.errors import PipelineError
from stages.model.network import Autoencoder

INPUT, OUTPUT = "images", "reconstructions"


def to_onnx(model: Autoencoder, path: Path) -> None:
    """Write a model in evaluation mode: input `images`, output `reconstructions`. Both are float
    (n, 3, size, size) in [0, 1]. Raises PipelineError where packages are missing."""
    images = torch.rand(2, 3, model.size, model.size)
    count = torch.export.Dim("n", max=2**20)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                (images,),
                path,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: count},),
                external_data=False,
                dynamo=True,
                verbose=False,
            )
    except ImportError:
        raise PipelineError("ONNX needs two packages more: pip install onnx onnxscript") from None
