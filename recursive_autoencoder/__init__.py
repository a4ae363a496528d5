"""Recursively trained autoencoders: published models, codes of pictures, trainings of your own.

PyTorch is imported when a name is first used. Wrong input raises `PipelineError`, in one line.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recursive_autoencoder.api import Trained, decode, encode, interpolate, load, read, train
    from recursive_autoencoder.losses import recursive_losses
    from stages.common.errors import PipelineError

__all__ = ["PipelineError", "Trained", "decode", "encode", "interpolate", "load", "read"]
__all__ += ["recursive_losses", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "losses" if name == "recursive_losses" else "api"
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return __all__
