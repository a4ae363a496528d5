"""An encoded picture -> a square crop: decoded by Pillow, cropped and resized by torchvision."""

import io
import zlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms.v2 import functional as transforms

from stages.common.errors import PipelineError
from stages.data.faces import SIZE

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
MAX_PIXELS = 2**26  # of a picture, 67 million: more than most cameras have
PNG = b"\x89PNG\r\n\x1a\n"

Crop = Callable[[bytes, int], np.ndarray]  # of a picture, and pixels a side

Image.MAX_IMAGE_PIXELS = None  # Pillow would warn of half of what it refuses; we have a limit


def centre_crop(picture: bytes, size: int = SIZE) -> np.ndarray:
    """(size, size, 3) uint8 RGB: the central 128 x 128 pixels of a JPEG, none of them changed, then
    resized where `size`, at most 128, is less.

    Raises PipelineError, which does not know the picture's name, where it does not decode or is
    smaller than 128 x 128.
    """
    crop = transforms.center_crop(decode(picture, ("JPEG",), SIZE), [SIZE, SIZE])
    return np.asarray(crop if size == SIZE else transforms.resize(crop, [size], antialias=True))


def fit(picture: bytes, size: int = SIZE) -> np.ndarray:
    """(size, size, 3) uint8 RGB of a JPEG, PNG, WebP or BMP: resized so that the shorter side fits,
    then cropped to the centre.

    Transparent parts become white; 16 bits are scaled to 8. Raises PipelineError, which does not
    know the picture's name, where it does not decode or a side has less than `size` pixels.
    """
    whole = decode(picture, FORMATS, size, 2 * size)
    small = transforms.resize(whole, [size], antialias=True)
    return np.asarray(transforms.center_crop(small, [size, size]))


def decode(
    picture: bytes, formats: tuple[str, ...], least: int, side: int | None = None
) -> Image.Image:
    """The picture upright, in RGB; with `side`, perhaps smaller, but each side is at least that or
    as it was. Raises as `fit` does, for a picture of less than `least` pixels a side."""
    try:
        with Image.open(io.BytesIO(_readable(picture)), formats=formats) as image:
            size = f"{image.width}x{image.height} pixels"
            if min(image.size) < least:
                raise PipelineError(f"is {size}; at least {least}x{least} needed")
            if image.width * image.height > MAX_PIXELS:
                raise PipelineError(f"is {size}; at most {MAX_PIXELS:,} in all allowed")
            if side:  # a JPEG decodes several times as fast at a half, quarter or eighth
                image.draft(None, (side, side))
            image.load()
            with suppress(Exception):  # Pillow does not say what damaged EXIF data may raise
                ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image, depth=picture[24])
    except PipelineError:
        raise
    except UnidentifiedImageError:
        raise PipelineError(f"cannot be decoded: it is no {' or '.join(formats)}") from None
    except Exception as error:  # Pillow does not say what a damaged picture may raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PipelineError(f"cannot be decoded: {reason}") from None


def _readable(picture: bytes) -> bytes:
    """Without the ancillary chunks of a PNG whose checksum is wrong: Pillow would refuse it."""
    if not picture.startswith(PNG):
        return picture
    kept, at = [PNG], len(PNG)
    while at < len(picture):
        chunk = picture[at : at + 12 + int.from_bytes(picture[at : at + 4])]
        ancillary = chunk[4:5].islower()
        if not ancillary or zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:]):
            kept.append(chunk)
        at += len(chunk)
    return b"".join(kept)


def _to_rgb(image: Image.Image, depth: int) -> Image.Image:
    """depth: bits a channel of a PNG, whose transparent colour Pillow leaves in these."""
    colour = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        grey = np.asarray(image)
        image = Image.fromarray((grey >> 8).astype(np.uint8))
        if colour is not None:
            image.putalpha(Image.fromarray(grey != colour).convert("L"))
    elif image.mode == "L" and colour is not None:
        image.info["transparency"] = colour * 255 // (2**depth - 1)
    elif image.mode == "RGB" and depth == 16 and colour is not None:
        image.info["transparency"] = tuple(value >> 8 for value in colour)
    if image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getbbox():
        image = image.convert("RGB")  # a fourth byte that is always 0 is no alpha
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
