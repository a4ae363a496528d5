"""Pictures of all kinds become 128x128 pixels."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

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
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def difference(crop: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(crop.astype(float) - expected.astype(float)).max())


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    ("height", "width", "top", "left"), [(250, 250, 61, 61), (128, 200, 0, 36)]
)
def test_a_crop_is_the_central_pixels_in_rgb(
    mode: str, height: int, width: int, top: int, left: int
) -> None:
    picture = encoded(Image.fromarray(noise(height, width, 3)).convert(mode), "JPEG", quality=95)
    whole = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    crop = centre_crop(picture)
    assert crop.dtype == np.uint8
    np.testing.assert_array_equal(crop, whole[top : top + 128, left : left + 128])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("crop", [centre_crop, fit])
def test_a_picture_is_turned_upright(crop: crops.Crop, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    picture = encoded(smooth(128, 128), "JPEG", quality=95, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(picture)))
    assert difference(crop(picture), np.asarray(upright)) == 0


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "EPS"])
def test_lfw_has_nothing_but_jpegs_and_own_pictures_are_of_four_kinds(kind: str) -> None:
    picture = encoded(noise(250, 250, 3), kind)
    with pytest.raises(PipelineError, match=r"^cannot be decoded: it is no JPEG$"):
        centre_crop(picture)
    if kind not in crops.FORMATS:
        with pytest.raises(PipelineError, match=r"it is no JPEG or PNG or WEBP or BMP$"):
            fit(picture)


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


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "1", "P"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = smooth(128, 128)
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    assert difference(fit(encoded(image)), np.asarray(image.convert("RGB"))) == 0


def png(
    pixels: np.ndarray, depth: int, colour: int, transparent: bytes = b"", check: int = 0
) -> bytes:
    """A PNG of kinds that Pillow does not write; `check` is added to the checksum of tRNS."""

    def chunk(name: bytes, content: bytes, add: int = 0) -> bytes:
        sum_ = zlib.crc32(name + content) + add & 0xFFFFFFFF
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", sum_)

    height = len(pixels)
    width = pixels[0].nbytes * 8 // depth // (3 if colour == 2 else 1)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    transparency = chunk(b"tRNS", transparent, check) if transparent else b""
    body = chunk(b"IHDR", header) + transparency + chunk(b"IDAT", zlib.compress(rows))
    return crops.PNG + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(("mode", "colour"), [("L", 0), ("RGB", 2)])
def test_sixteen_bits_are_scaled(mode: str, colour: int) -> None:
    image = smooth(128, 128).convert(mode)
    pixels = (np.asarray(image).astype(np.uint16) * 257).astype(">u2")
    assert difference(fit(png(pixels, 16, colour)), np.asarray(image.convert("RGB"))) == 0


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


@pytest.mark.parametrize(
    ("depth", "colour"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2)]
)
def test_a_transparent_colour_is_white_at_every_depth(depth: int, colour: int) -> None:
    dark = {1: 0, 2: 1, 4: 5, 8: 85, 16: 85 * 257}[depth]
    packed = {1: 0, 2: 0x55, 4: 0x55, 8: 85, 16: 85 * 257}[depth]
    channels = 3 if colour == 2 else 1
    kind = ">u2" if depth == 16 else "u1"
    pixels = np.full((128, 128 * channels * depth // (16 if depth == 16 else 8)), packed, kind)
    pixels[64:] = 0xFFFF if depth == 16 else 0xFF
    pixels[96:] = 0xAAAA if depth == 16 else 0xAA
    transparent = struct.pack(">H", dark) * channels
    opaque = fit(png(pixels, depth, colour))
    assert opaque[0].max() < 128
    expected = opaque.copy()
    expected[(opaque == opaque[0, 0]).all(-1)] = 255
    np.testing.assert_array_equal(fit(png(pixels, depth, colour, transparent)), expected)
    # A chunk that is not needed may be damaged: it is as if it was not there.
    np.testing.assert_array_equal(fit(png(pixels, depth, colour, transparent, 1)), opaque)


def test_a_bmp_whose_fourth_bytes_are_all_zero_is_not_white() -> None:
    pixels = np.dstack([noise(128, 128, 3), np.zeros((128, 128), np.uint8)])
    masks = struct.pack("<4I", 0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 56, 128, -128, 1, 32, 3, pixels.nbytes, 0, 0, 0, 0)
    start = struct.pack("<2sIHHI", b"BM", 70 + pixels.nbytes, 0, 0, 70)
    assert difference(fit(start + header + masks + pixels.tobytes()), pixels[..., :3]) == 0


def test_damaged_exif_data_lose_no_picture() -> None:
    """Width is a text here, which Pillow reads and cannot write."""
    fields = struct.pack(">HHI4sHHIHH", 256, 2, 4, b"wide", ORIENTATION, 3, 1, 3, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + fields + bytes(4)
    image = smooth(128, 128)
    turned = np.asarray(image)[::-1, ::-1]
    for crop in (centre_crop, fit):
        assert difference(crop(encoded(image, "JPEG", quality=95, exif=exif)), turned) < 8


NOISE = encoded(noise(250, 250, 3), "JPEG")
# The size stands in the frame's header: 16 bits of height, and of width.
SIZE_AT = NOISE.index(b"\xff\xc0") + 5
VAST = NOISE[:SIZE_AT] + b"\xff" * 4 + NOISE[SIZE_AT + 4 :]


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (b"", "cannot be decoded: it is no JPEG"),
        (b"not a picture", "cannot be decoded: it is no JPEG"),
        (NOISE[: len(NOISE) // 2], "cannot be decoded: .*truncated"),
        (encoded(noise(127, 250, 3), "JPEG"), "is 250x127 pixels; at least 128x128 needed"),
        (encoded(noise(250, 127, 3), "JPEG"), "is 127x250 pixels; at least 128x128 needed"),
        (VAST, "is 65535x65535 pixels; at most 67,108,864 in all"),  # before it is decoded
    ],
)
@pytest.mark.parametrize("crop", [centre_crop, fit])
def test_what_cannot_be_used_is_explained(crop: crops.Crop, picture: bytes, message: str) -> None:
    with pytest.raises(PipelineError, match=message) as refused:
        crop(picture)
    assert not any(part in str(refused.value) for part in (" at 0x", "\n"))


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
