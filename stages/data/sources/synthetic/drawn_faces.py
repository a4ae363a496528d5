"""Faces drawn by the project itself, laid out like LFW: 250x250 JPEGs, several of one person.

A face has its own units: half its width is 1, u points right, v down, and the origin lies between
the eyes and the nose. Flat colours are polygons on a head that turns; a second, blurred drawing is
the light on them. Sums, products, quotients and square roots, which every processor rounds alike,
are all that is computed.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import sqrt
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 250  # pixels a side
UNIT = 40  # pixels in half a face's width: the face fills the central 128 pixels, as in LFW
DRAWN = 2 * SIZE  # twice the size, against jagged edges
CROWN, BROW, EYE, NOSE, MOUTH, CHIN = -1.75, -0.58, -0.30, 0.42, 0.85, 1.55  # their v
SKIN_TONES = ((240, 202, 178), (226, 178, 148), (196, 144, 110), (148, 100, 72), (98, 66, 50))
HAIR_TONES = ((30, 24, 22), (62, 42, 30), (110, 74, 46), (180, 146, 94), (168, 164, 160))
IRIS_TONES = ((62, 40, 26), (84, 60, 36), (70, 92, 74), (84, 112, 140))
WHITE, BLACK = (230, 224, 216), (26, 22, 22)
LINE = [step / 8 for step in range(-8, 9)]
BOW = [1 - x * x for x in LINE]
HALF = [((1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)) for t in LINE[:-1]]
CIRCLE = [*HALF, *((-x, -y) for x, y in HALF)]

Colour = Sequence[float]
Points = list[tuple[float, float]]
Fill = Callable[..., None]  # `_fill` on some image


def draw(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """`count` pictures, 1 to 8 of a person: "Person_0001/Person_0001_0001.jpg" and JPEG bytes.

    The same seed gives the same bytes; a larger count, the same and more.
    """
    number = 0
    while count > 0:
        number += 1
        name, pictures = f"Person_{number:04d}", Random(f"{seed} {number} pictures")
        of_person = min(pictures.choice((1, 1, 1, 2, 2, 3, 4, 8)), count)
        for index in range(1, of_person + 1):
            # What all pictures of somebody have in common, and what varies.
            person, now = Random(f"{seed} {number}"), Random(f"{seed} {number} {index}")
            yield f"{name}/{name}_{index:04d}.jpg", _photograph(person, now)
        count -= of_person


def _photograph(person: Random, now: Random) -> bytes:
    """One JPEG: pose, expression, clothes, background, light and camera vary."""
    turned = [now.triangular(-most, most) for most in (0.3, 0.18, 0.12)]
    middle = SIZE + now.uniform(-6, 6), SIZE + now.uniform(-10, 2)
    pose = (*turned, 2 * UNIT * now.uniform(0.95, 1.06), *middle)
    figure, light = Image.new("RGBA", (DRAWN, DRAWN)), Image.new("L", (DRAWN, DRAWN), 128)
    _figure(partial(_fill, ImageDraw.Draw(figure), pose), person, now)
    _light(partial(_fill, ImageDraw.Draw(light), pose), now)
    shade = np.asarray(light.reduce(2).filter(ImageFilter.GaussianBlur(4))).astype(int)
    grain = Image.frombytes("L", (125, 125), now.randbytes(125 * 125)).resize((SIZE, SIZE))
    gain = shade * 32 + np.asarray(grain) - 128
    *colours, covered = figure.reduce(2).split()
    lit = [(np.asarray(band) * gain // 4096).clip(0, 255).astype(np.uint8) for band in colours]
    tint = tuple(now.randrange(30, 220) for _ in range(3))
    cells = Image.frombytes("L", (6, 6), now.randbytes(36)).convert("RGB")
    cells = Image.blend(cells, Image.new("RGB", (6, 6), tint), 0.6)
    picture = cells.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    picture.paste(Image.merge("RGB", [*map(Image.fromarray, lit)]), mask=covered)
    blur, file = ImageFilter.BoxBlur(now.uniform(0, 0.8)), io.BytesIO()
    picture.filter(blur).save(file, "JPEG", quality=now.randrange(80, 95))
    return file.getvalue()


def _fill(
    pen: ImageDraw.ImageDraw,
    pose: Sequence[float],
    points: Points,
    colour: Colour,
    flat: bool = False,
) -> None:
    """pose: slopes of yaw, pitch and roll, pixels a unit, x and y of the origin. flat: in the plane
    through both ears, not on the surface of the face."""
    (yaw, pitch, roll, unit, x, y), corners = pose, list[tuple[int, int]]()
    for u, v in points:
        w = 0 if flat else sqrt(max(0, 1 - u * u - v * v / CROWN / CROWN))
        right, down = u + yaw * w + roll * v, v + pitch * w - roll * u
        corners.append((round(x + unit * right), round(y + unit * down)))
    pen.polygon(corners, fill=tuple(max(0, min(255, round(c))) for c in colour))


def _oval(u: float, v: float, wide: float, high: float) -> Points:
    return [(u + wide * x, v + high * y) for x, y in CIRCLE]


def _band(u: float, wide: float, upper: Sequence[float], lower: Sequence[float]) -> Points:
    """The area between two curves over LINE, stretched to `wide` around `u`."""
    across = [u + wide * x for x in LINE]
    return [*zip(across, upper, strict=True), *zip(across[::-1], lower[::-1], strict=True)]


def _blend(colour: Colour, other: Colour, share: float) -> list[float]:
    return [a + (b - a) * share for a, b in zip(colour, other, strict=True)]


def _mixed(tones: Sequence[Colour], rng: Random) -> list[float]:
    first = rng.randrange(len(tones) - 1)
    return _blend(tones[first], tones[first + 1], rng.random())


def _figure(fill: Fill, person: Random, now: Random) -> None:
    """From back to front."""
    skin, hair = _mixed(SKIN_TONES, person), _mixed(HAIR_TONES, person)
    width, jaw = person.uniform(0.92, 1.08), person.uniform(0.1, 0.35)
    outer, long = width * person.uniform(1.08, 1.3), person.random() < 0.4
    length = person.uniform(0.9, 2.4) if long else person.uniform(-0.5, 0.1)
    cloth, shirt = ([now.uniform(20, 240) for _ in range(3)] for _ in range(2))
    if long:
        fall = [(-outer, -0.6), (outer, -0.6), (1.1 * outer, length), (-1.1 * outer, length)]
        fill(fall, _blend(hair, BLACK, 0.3), flat=True)
    neck = [(-0.62, 0.5), (0.62, 0.5), (0.75, 2.6), (-0.75, 2.6)]
    body = [(-3.4, 5), (-2.6, 2.5), (-0.6, 1.85), (0, 2.5), (0.6, 1.85), (2.6, 2.5), (3.4, 5)]
    fill(neck, _blend(skin, BLACK, 0.3), flat=True)
    fill(body, cloth, flat=True)
    for side in (-1, 1):
        fill([(side * 0.62, 1.8), (0, 2.5), (side * 0.5, 2.7)], shirt, flat=True)
        fill(_oval(side * width, 0.05, 0.13, 0.3), _blend(skin, BLACK, 0.1), flat=True)
    ball = _oval(0, -0.1, width, CHIN + 0.1)
    face = [
        (u * (1.15 - 0.15 * u * u) * (1 - jaw * max(v, 0) * max(v, 0) / 2.4), v) for u, v in ball
    ]
    fill(face, skin, flat=True)
    if not long and person.random() < 0.3:
        fill(
            [point for point in face if point[1] > 0.7],
            _blend(skin, hair, person.uniform(0.3, 0.9)),
            flat=True,
        )
    _features(fill, person, now, skin, hair)
    if long or person.random() < 0.85:
        _hair(fill, person, hair, outer, length)


def _features(fill: Fill, person: Random, now: Random, skin: Colour, hair: Colour) -> None:
    iris, apart = _mixed(IRIS_TONES, person), person.uniform(0.47, 0.56)
    opened = person.uniform(0.08, 0.12) * now.uniform(0.7, 1.15)
    thick, glasses = person.uniform(0.04, 0.09), person.random() < 0.15
    gaze, lift, tilt = (now.triangular(-0.06, 0.06) for _ in range(3))
    upper, lower = [EYE - opened * y for y in BOW], [EYE + 0.7 * opened * y for y in BOW]
    for u in (-apart, apart):
        lid = _band(u, 0.22, [v - 0.05 for v in upper], [v + 0.01 for v in lower])
        fill(lid, _blend(skin, BLACK, 0.6))
        fill(_band(u, 0.21, upper, lower), WHITE)
        fill(_oval(u + gaze, EYE - 0.01, 0.105, min(opened, 0.105)), iris)
        fill(_oval(u + gaze, EYE - 0.01, 0.05, min(opened, 0.105) / 2), BLACK)
        fill(_oval(u + gaze + 0.03, EYE - 0.04, 0.02, 0.02), WHITE)
        brow = [BROW + lift + tilt * x * u - 0.05 * y for x, y in zip(LINE, BOW, strict=True)]
        fill(_band(u, 0.3, brow, [v + thick for v in brow]), _blend(hair, BLACK, 0.3))
        fill(_oval(u / 4.7, NOSE + 0.05, 0.06, 0.035), _blend(skin, BLACK, 0.6))  # nostril
        if glasses:
            rim, glass = (_oval(u, EYE + 0.04, *size) for size in ((0.36, 0.27), (0.31, 0.22)))
            fill([*rim, rim[0], glass[0], *glass[::-1]], BLACK)
            fill(_band(0, 0.16, [EYE - 0.05] * 17, [EYE] * 17), BLACK)
    lips, smile = _blend(skin, (150, 40, 50), person.uniform(0.35, 0.55)), now.uniform(-0.03, 0.12)
    wide, gap = person.uniform(0.34, 0.46) * (1 + smile), max(0.0, now.uniform(-0.1, 0.16))
    inside, teeth = _blend(lips, BLACK, 0.7), max(0, 0.6 * gap - 0.03)
    parts = ((1, 0.1, gap + 0.13, lips), (1, 0.015, gap + 0.015, inside), (0.85, 0, teeth, WHITE))
    for share, above, below, colour in parts:
        edges = ([MOUTH + smile * (y - 0.5) + h * y for y in BOW] for h in (-above, below))
        fill(_band(0, share * wide, *edges), colour)


def _hair(fill: Fill, person: Random, hair: Colour, outer: float, length: float) -> None:
    start, part = person.uniform(-1.35, -0.85), person.uniform(-0.3, 0.3)
    curls, low, fall = person.uniform(0, 0.06), min(length, 0.9), max(length, -0.1)
    outline, line = Points(), Points()
    for x, y in sorted(corner for corner in CIRCLE if corner[1] <= 0):
        stretch, edge = outer * (1 + person.uniform(-curls, curls)), start + part * x + 0.1 * x * x
        outline.append((stretch * x, -0.3 + 1.3 * stretch * y))
        line.append((0.97 * x, edge + (low - edge) * x * x * x * x * x * x))
    fill([(-outer, fall), *outline, (outer, fall), *line[::-1]], hair, flat=True)
    for (u, v), (a, b) in zip(outline, line, strict=True):
        strand = _blend(hair, person.choice((BLACK, WHITE)), 0.15)
        fill([(u, v), (u + 0.05, v), (a + 0.03, b), (a, b)], strand, flat=True)


def _light(fill: Fill, now: Random) -> None:
    """Brightness: 128 is as drawn."""
    side, strong = now.triangular(-1, 1), now.uniform(10, 40)
    for step in range(6):  # a head is a ball, brighter towards the light
        ball = _oval(side * 0.12 * step, -0.1, 1.25 - 0.2 * step, 1.9 - 0.3 * step)
        fill(ball, [128 + strong * (step / 3 - 1)])
    for u, v, wide, high, change in (
        *((-0.5, EYE, 0.3, 0.16, -40), (0.5, EYE, 0.3, 0.16, -40)),  # sockets
        *((-0.55, 0.25, 0.2, 0.2, 14), (0.55, 0.25, 0.2, 0.2, 14)),  # cheeks
        *((0, 0.05, 0.09, 0.4, 30), (0, 0.3, 0.12, 0.1, 40), (0, 0.55, 0.2, 0.05, -40)),  # nose
        *((0, -0.85, 0.5, 0.15, 12), (0, 1.14, 0.25, 0.06, -30), (0, 1.35, 0.2, 0.1, 14)),  # chin
        (-0.2 if side > 0 else 0.2, 0.1, 0.07, 0.35, -abs(side) * 50),  # beside the nose
    ):
        fill(_oval(u, v, wide, high), [128 + change])
