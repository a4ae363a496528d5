"""An encoded picture -> 128x128 pixels: decoded by Pillow, cropped and resized by torchvision."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms.v2 import functional as transforms

from stages.common.errors import PipelineError
from stages.data.faces import SIZE

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
MAX_PIXELS = 2**26  # of a picture, 67 million: more than most cameras have

Crop = Callable[[bytes], np.ndarray]

Image.MAX_IMAGE_PIXELS = None  # Pillow would warn of half of what it refuses; we have a limit


def centre_crop(picture: bytes) -> np.ndarray:
    """The central (128, 128, 3) uint8 RGB pixels of a JPEG, none of them changed.

    Raises PipelineError, which does not know the picture's name, where it does not decode or is
    smaller than that.
    """
    return np.asarray(transforms.center_crop(_decode(picture, ("JPEG",)), [SIZE, SIZE]))


def fit(picture: bytes) -> np.ndarray:
    """(128, 128, 3) uint8 RGB of a JPEG, PNG, WebP or BMP: resized so that the shorter side fits,
    then cropped to the centre.

    Transparent parts become white; 16 bit of grey are scaled to 8. Raises as `centre_crop` does.
    """
    small = transforms.resize(_decode(picture, FORMATS, reduce=True), [SIZE], antialias=True)
    return np.asarray(transforms.center_crop(small, [SIZE, SIZE]))


def _decode(picture: bytes, formats: tuple[str, ...], reduce: bool = False) -> Image.Image:
    """The picture upright, in RGB; if `reduce`, perhaps smaller, but twice the crop at least."""
    try:
        with Image.open(io.BytesIO(picture), formats=formats) as image:
            _check_size(image.width, image.height)
            if reduce:  # a JPEG decodes several times as fast at a half, quarter or eighth
                image.draft(None, (2 * SIZE, 2 * SIZE))
            return _to_rgb(ImageOps.exif_transpose(image))
    except PipelineError:
        raise
    except UnidentifiedImageError:
        raise PipelineError(f"cannot be decoded: it is no {' or '.join(formats)}") from None
    except Exception as error:  # Pillow does not say what a damaged picture may raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PipelineError(f"cannot be decoded: {reason}") from None


def _check_size(width: int, height: int) -> None:
    if min(width, height) < SIZE:
        raise PipelineError(f"is {width}x{height} pixels; at least {SIZE}x{SIZE} needed")
    if width * height > MAX_PIXELS:
        raise PipelineError(f"is {width}x{height} pixels; at most {MAX_PIXELS:,} in all allowed")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
