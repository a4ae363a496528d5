"""Pictures of all kinds become 128x128 pixels."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from stages.common.errors import PipelineError
from stages.data import crops
from stages.data.crops import centre_crop, fit
from stages.data.sources.synthetic.drawn_faces import draw

ORIENTATION = 274  # of EXIF's tags


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def smooth(height: int, width: int) -> Image.Image:
    """Colours that differ at every corner."""
    y, x = np.mgrid[0:1:height * 1j, 0:1:width * 1j]  # fmt: skip
    return Image.fromarray((np.stack([y, x, 1 - y], -1) * 255).astype(np.uint8))


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        file, kind, **options
    )
    return file.getvalue()


def decoded(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def difference(crop: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(crop.astype(float) - expected.astype(float)).max())


def test_a_crop_is_rows_and_columns_61_to_188_of_250() -> None:
    picture = encoded(noise(250, 250, 3), "JPEG", quality=95)
    crop = centre_crop(picture)
    assert crop.dtype == np.uint8
    np.testing.assert_array_equal(crop, decoded(picture)[61:189, 61:189])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_crop_of_other_sizes_is_central_and_rgb(mode: str) -> None:
    picture = encoded(Image.fromarray(noise(128, 200, 3)).convert(mode), "JPEG")
    np.testing.assert_array_equal(centre_crop(picture), decoded(picture)[:, 36:164])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("crop", [centre_crop, fit])
def test_a_picture_is_turned_upright(crop: crops.Crop, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    upright = smooth(128, 128)
    # How the camera held the picture: the inverse of what each value asks for.
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](np.asarray(upright))
    picture = encoded(np.ascontiguousarray(turned), "JPEG", quality=95, exif=exif)
    assert difference(crop(picture), np.asarray(upright)) < 8


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "EPS"])
def test_lfw_has_nothing_but_jpegs(kind: str) -> None:
    with pytest.raises(PipelineError, match=r"^cannot be decoded: it is no JPEG$"):
        centre_crop(encoded(noise(250, 250, 3), kind))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {})],
)
@pytest.mark.parametrize(("height", "width"), [(128, 128), (600, 301), (255, 900), (1500, 2000)])
def test_the_shorter_side_fits_and_the_centre_is_kept(
    kind: str, options: dict[str, object], height: int, width: int
) -> None:
    side = min(height, width)
    top, left = (height - side) / 2, (width - side) / 2
    image = smooth(height, width)
    # The plain mean over the part of the picture that a pixel covers.
    expected = image.resize((128, 128), Image.Resampling.BOX, (left, top, left + side, top + side))
    crop = fit(encoded(image, kind, **options))
    assert (crop.dtype, crop.shape) == (np.uint8, (128, 128, 3))
    assert difference(crop, np.asarray(expected)) < 6


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PPM", "EPS"])
def test_own_pictures_are_of_four_kinds(kind: str) -> None:
    with pytest.raises(PipelineError, match=r"it is no JPEG or PNG or WEBP or BMP$"):
        fit(encoded(noise(250, 250, 3), kind))


def test_every_mode_becomes_rgb() -> None:
    image = smooth(128, 128)
    grey = np.asarray(image.convert("L"))
    thrice = np.stack([grey] * 3, -1)
    assert difference(fit(encoded(image.convert("L"))), thrice) == 0
    assert difference(fit(encoded(image.convert("LA"))), thrice) == 0
    assert difference(fit(encoded(grey.astype(np.uint16) * 257)), thrice) == 0
    bits = image.convert("1")
    assert difference(fit(encoded(bits)), np.asarray(bits.convert("RGB"))) == 0
    palette = image.quantize(16)
    assert difference(fit(encoded(palette)), np.asarray(palette.convert("RGB"))) == 0
    cmyk = image.convert("CMYK")
    assert difference(fit(encoded(cmyk, "JPEG", quality=95)), np.asarray(image)) < 12


def test_sixteen_bits_of_colour_are_scaled() -> None:
    pixels = np.asarray(smooth(128, 128)).astype(np.uint16) * 257
    assert difference(fit(png(pixels.astype(">u2"), 16, 2)), pixels >> 8) == 0


def png(pixels: np.ndarray, depth: int, colour: int) -> bytes:
    """A PNG, which Pillow does not write with 16 bits of colour."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_transparent_parts_are_white() -> None:
    pixels = np.dstack([noise(128, 128, 3), np.full((128, 128), 255, np.uint8)])
    pixels[:64, :, 3], pixels[64:96, :, 3] = 0, 128
    crop = fit(encoded(pixels))
    assert difference(crop[:64], np.full((64, 128, 3), 255)) == 0
    assert difference(crop[64:96], (pixels[64:96, :, :3] * (128 / 255) + 127)) < 2
    assert difference(crop[96:], pixels[96:, :, :3]) == 0
    palette = Image.fromarray(np.zeros((128, 128), np.uint8), "P")
    palette.putpalette([9, 9, 9])
    assert (fit(encoded(palette, transparency=0)) == 255).all()


NOISE = encoded(noise(250, 250, 3), "JPEG")


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (b"", "cannot be decoded: it is no JPEG"),
        (b"not a picture", "cannot be decoded: it is no JPEG"),
        (NOISE[: len(NOISE) // 2], "cannot be decoded: .*truncated"),
        (encoded(noise(127, 250, 3), "JPEG"), "is 250x127 pixels; at least 128x128 needed"),
        (encoded(noise(250, 127, 3), "JPEG"), "is 127x250 pixels; at least 128x128 needed"),
    ],
)
@pytest.mark.parametrize("crop", [centre_crop, fit])
def test_what_cannot_be_used_is_explained(crop: crops.Crop, picture: bytes, message: str) -> None:
    with pytest.raises(PipelineError, match=message) as refused:
        crop(picture)
    assert " at 0x" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("crop", [centre_crop, fit])
def test_a_picture_of_many_pixels_is_refused_before_it_is_decoded(crop: crops.Crop) -> None:
    whole = bytearray(NOISE)
    at = whole.index(b"\xff\xc0") + 5  # the frame's header: 16 bits of height, and of width
    whole[at : at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(PipelineError, match="is 65535x65535 pixels; at most 67,108,864 in all"):
        crop(bytes(whole))


def test_damaged_pictures_of_every_kind_are_refused_or_decoded() -> None:
    (_, face), *_ = draw(1)
    rng = np.random.default_rng(0)
    kinds = [face, *(encoded(smooth(140, 150), kind) for kind in ("PNG", "WEBP", "BMP"))]
    for picture in kinds * 60:
        damaged = bytearray(picture)
        for at in rng.integers(0, min(len(damaged), 2000), rng.integers(1, 8)):
            damaged[at] = rng.integers(256)
        try:
            assert fit(bytes(damaged)).shape == (128, 128, 3)
        except PipelineError as error:
            assert "\n" not in str(error)
