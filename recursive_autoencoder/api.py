"""The functions of the library: each checks its input, and calls what the stages call."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor
from tqdm import tqdm

from recursive_autoencoder.undisturbed import undisturbed

with undisturbed():
    from stages.common.errors import PipelineError
    from stages.common.settings import ModelSettings, Training
    from stages.data.faces import SIZE, SIZES, Faces
    from stages.model import checkpoint
    from stages.model.network import Autoencoder
    from stages.model.training import CurvePoint, Trainer

if TYPE_CHECKING:
    from stages.data.given import Given

PUBLISHED = Path(__file__).parent / "models"
AT_A_TIME = 256  # images, so that a large folder fits in memory

Paths = str | Path | Sequence[str | Path]
# Files, folders and archives; bytes (n,size,size,3); or floats in [0,1] or bytes (n,3,size,size).
Pictures = Paths | np.ndarray | Tensor


class Trained(NamedTuple):
    """The model of averaged weights, in evaluation mode, and the points of its training curve."""

    model: Autoencoder
    curve: list[CurvePoint]


def load(model: str | Path) -> Autoencoder:
    """A published model by its name, or one in a .safetensors file; on the CPU, not training."""
    published = {path.stem: path for path in sorted(PUBLISHED.glob("*.safetensors"))}
    path = published.get(str(model), Path(model))
    if not path.exists():
        raise PipelineError(f"{model} is no file and none of {', '.join(published)}")
    with undisturbed():
        return checkpoint.load(path)[0]


def read(paths: Paths, crop: Literal["face", "centre"] = "face", size: int = SIZE) -> "Given":
    """Names, crops and pixels, uint8 (n,size,size,3), of the pictures in files, folders and
    archives: of the largest face or, with "centre" or where none is found, of the central square.
    """
    if crop not in ("face", "centre"):
        raise PipelineError(f"crop is {crop!r}: it should be face or centre")
    with undisturbed():
        from stages.data import given  # what decodes pictures takes a second

        listed = [paths] if isinstance(paths, str | Path) else paths
        return given.read([*map(str, listed)], sys.maxsize, crop, size)


@torch.no_grad()
def encode(model: Autoencoder, pictures: Pictures) -> Tensor:
    """The codes (n,values) of pictures on the model's device, 384 values of a published model."""
    images = _checked(pictures, model.size)
    device, side = next(model.parameters()).device, images.shape[-1]
    if isinstance(pictures, Tensor) and images.device != device:
        raise PipelineError(f"the images are on {images.device}, the model on {device}: move one")
    if side != model.size:
        raise PipelineError(f"the images have {side} pixels a side, the model takes {model.size}")
    scale = 1 if images.is_floating_point() else 255
    parts = (part.to(device).contiguous() / scale for part in torch.split(images, AT_A_TIME))
    return torch.cat([model.encode(part.float()).flatten(1) for part in parts])


@torch.no_grad()
def decode(model: Autoencoder, codes: Tensor) -> Tensor:
    """Images (n,3,size,size) in [0,1] of codes (n,values) as `encode` gives them."""
    device, side = next(model.parameters()).device, model.size >> model.depth
    values = model.latent * side**2
    if codes.dim() != 2 or codes.shape[1] != values:
        raise PipelineError(f"the codes are {tuple(codes.shape)}: they should be (n, {values})")
    if codes.device != device:
        raise PipelineError(f"the codes are on {codes.device}, the model on {device}: move one")
    parts = torch.split(codes, AT_A_TIME)
    return torch.cat([model.decode(x.reshape(-1, model.latent, side, side)) for x in parts])


def interpolate(model: Autoencoder, first: Tensor, last: Tensor, steps: int = 9) -> Tensor:
    """Images (steps,3,size,size) of codes on the line from `first` to `last`, (values,) each."""
    if first.dim() != 1 or first.shape != last.shape:
        shapes = f"{tuple(first.shape)} and {tuple(last.shape)}"
        raise PipelineError(f"the codes are {shapes}: give two of one picture each, as codes[0]")
    weights = torch.linspace(0, 1, steps, device=first.device).unsqueeze(1)
    return decode(model, torch.lerp(first, last, weights))


def train(
    images: Pictures,
    training: Literal["stacked", "recursive", "joint"] = "recursive",
    *,
    epochs: int = 10,
    batch_size: int = 32,
    lr: float = 1e-3,
    seed: int = 0,
    held_out: float = 0.1,
    **settings: Any,
) -> Trained:
    """Train a model on pictures of 32, 64, 128 or 256 pixels a side, in memory.

    held_out: the fraction of the pictures, the last ones, that only measure the error: put those
    of one person next to each other. settings: others of docs/settings.md, as norm="tied". A GPU
    computes where there is one. Raises `stages.model.training.Diverged` where a loss stops being a
    number. TQDM_DISABLE=1 in the environment hides the progress.
    """
    pixels = _checked(images)
    if not 0 < held_out < 1:
        raise PipelineError(f"held_out is {held_out}: it should be between 0 and 1")
    if pixels.is_floating_point():
        pixels = (pixels * 255).round().byte()
    if (side := pixels.shape[-1]) not in SIZES:
        raise PipelineError(f"the pictures have {side} pixels a side; {SIZES} are allowed")
    tested = max(1, round(held_out * len(pixels)))
    count = len(pixels) - tested
    names = np.arange(len(pixels)).astype(str)
    splits = np.repeat(["train", "test"], [count, tested])
    faces = Faces(pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy(), names, names, splits)
    values: dict[str, Any] = {"training": training, "epochs": epochs, "batch_size": batch_size}
    values |= {"lr": lr, "size": None if side == SIZE else side, **settings}
    try:
        chosen = ModelSettings.model_validate(values)
        identity = Training(settings=chosen, seed=seed, faces=faces.hash)
    except ValidationError as error:
        problem = error.errors()[0]
        where = f"{problem['loc'][-1]} is {problem['input']!r}: " if problem["loc"] else ""
        raise PipelineError(where + problem["msg"].removeprefix("Value error, ")) from None
    if count < batch_size:
        raise PipelineError(f"{count} pictures to train on are less than a batch of {batch_size}")
    with undisturbed(range(torch.cuda.device_count())):
        trainer = Trainer(identity, faces, position=1)
        for _ in (progress := tqdm(range(epochs), desc=training, unit="epoch")):
            trainer.run_epoch()
            progress.set_postfix(held_out_error=f"{trainer.curve[-1].value:.0f}")
    return Trained(trainer.average.model.eval(), trainer.curve)


def _checked(pictures: Pictures, size: int = SIZE) -> Tensor:
    """Bytes or floats (n,3,size,size) of pictures of any kind; floats are in [0,1].

    size: of what is read from paths.
    """
    if isinstance(pictures, Tensor):
        images = pictures
    elif isinstance(pictures, np.ndarray) and pictures.dtype != np.uint8:
        images = torch.from_numpy(pictures)
    else:
        pixels = pictures if isinstance(pictures, np.ndarray) else read(pictures, size=size).pixels
        if pixels.ndim != 4 or pixels.shape[3] != 3:
            raise PipelineError(f"bytes are {pixels.shape}: they should be (n, size, size, 3), RGB")
        images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or not shape[0]:
        raise PipelineError(f"the images are {shape}: they should be (n, 3, size, size), RGB")
    if images.is_floating_point():
        low, high = (value.item() for value in images.aminmax())
        if not 0 <= low <= high <= 1:
            raise PipelineError(f"the images are from {low:g} to {high:g}: scale them to 0 to 1")
    elif images.dtype != torch.uint8:
        raise PipelineError(f"the images are {images.dtype}: they should be floats or uint8")
    return images
