"""Faces drawn by the project itself, laid out like LFW: 250x250 JPEGs, several of one person.

A face is drawn in its own units: half its width is 1, u points right, v down, w to the camera, and
the origin lies between the eyes and the nose. Flat colours are polygons on a head that turns in
three dimensions; light falls on an ellipsoid with a relief (nose, sockets, cheeks, lips, chin).
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 250  # pixels a side
UNIT = 40  # pixels in half a face's width: the face fills the central 128 pixels, as in LFW
CROWN, BROW, EYE, NOSE, MOUTH, CHIN = -1.75, -0.60, -0.30, 0.42, 0.85, 1.55  # their v
# Materials, in the fourth channel of a drawing. The channel blends at edges, so 0 to CLOTH is also
# how much of a pixel the figure covers.
CLOTH, SKIN, BEARD, HAIR = 200, 225, 235, 250
SKIN_TONES = ((240, 202, 178), (226, 178, 148), (196, 144, 110), (148, 100, 72), (98, 66, 50))
HAIR_TONES = ((30, 24, 22), (62, 42, 30), (110, 74, 46), (180, 146, 94), (168, 164, 160))
IRIS_TONES = ((62, 40, 26), (84, 60, 36), (70, 92, 74), (84, 112, 140))
EYE_WHITE, TOOTH, BLACK = (228, 222, 218), (236, 230, 220), (26, 22, 22)
# The relief: Gaussian bumps, each with its u, v, deviation along u and along v, and elevation.
RELIEF = np.array(
    [
        (0.0, 0.0, 0.11, 0.32, 0.17),  # bridge of the nose
        (0.0, 0.32, 0.15, 0.13, 0.20),  # its tip
        (-0.17, 0.38, 0.08, 0.08, 0.07),  # and its wings
        (0.17, 0.38, 0.08, 0.08, 0.07),
        (-0.50, -0.28, 0.24, 0.15, -0.12),  # sockets
        (0.50, -0.28, 0.24, 0.15, -0.12),
        (0.0, -0.62, 0.70, 0.12, 0.06),  # brow
        (-0.60, 0.25, 0.26, 0.22, 0.08),  # cheeks
        (0.60, 0.25, 0.26, 0.22, 0.08),
        (0.0, 0.85, 0.34, 0.14, 0.08),  # lips
        (0.0, 1.08, 0.30, 0.06, -0.05),
        (0.0, 1.32, 0.24, 0.14, 0.08),  # chin
    ],
    np.float32,
)
LINE = np.linspace(-1, 1, 15)
BOW = 1 - LINE**2
ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
CIRCLE = np.stack([np.sin(ANGLES), np.cos(ANGLES)], axis=1)

# (n, 3) corners u, v, w; RGB; material
Shape = tuple[np.ndarray, Sequence[float] | np.ndarray, int]


@dataclass(frozen=True)
class Person:
    """What all pictures of somebody have in common: colours are RGB, lengths in face units."""

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    width: float
    jaw: float  # how much of the width is lost at the chin
    hairline: float
    part: float  # slope of the hairline
    temples: float  # how square the hairline is
    volume: float  # of the hair, the skull being 1
    curls: float
    length: float  # v to which the hair hangs down
    bald: bool
    eye_distance: float
    eye_height: float
    brow: float  # thickness
    nose: float  # strength of its relief
    mouth: float  # half its width
    beard: float  # 0: none, 1: opaque
    glasses: bool


@dataclass(frozen=True)
class Pose:
    """How the head is turned (radians), its size (pixels a unit) and its place (pixels)."""

    yaw: float
    pitch: float
    roll: float
    unit: float
    centre: np.ndarray

    def place(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) points u, v, w of the head -> (n, 2) pixels x, y."""
        u, v, w = points.T
        u = u * np.cos(self.yaw) + w * np.sin(self.yaw)
        v = v * np.cos(self.pitch) + w * np.sin(self.pitch)
        c, s = self.unit * np.cos(self.roll), self.unit * np.sin(self.roll)
        pixels: np.ndarray = np.stack([u * c - v * s, u * s + v * c], axis=1) + self.centre
        return pixels


def draw(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """`count` pictures, 1 to 8 of a person: "Person_0001/Person_0001_0001.jpg" and JPEG bytes.

    The same seed gives the same bytes on the same machine; a larger count, the same and more.
    """
    person_number = 0
    while count > 0:
        person_number += 1
        name = f"Person_{person_number:04d}"
        rng = np.random.default_rng([seed, person_number])
        person = _invent(rng)
        of_person = min(int(rng.geometric(0.4)), 8, count)
        for index in range(1, of_person + 1):
            picture = _photograph(person, np.random.default_rng([seed, person_number, index]))
            yield f"{name}/{name}_{index:04d}.jpg", picture
        count -= of_person


def _invent(rng: np.random.Generator) -> Person:
    def tone(tones: tuple[tuple[int, int, int], ...]) -> np.ndarray:
        place = rng.uniform(0, len(tones) - 1)
        low, high = np.array(tones[int(place) :][:2], float)
        mixed: np.ndarray = low + (high - low) * (place % 1)
        return mixed + rng.uniform(-8, 8, 3)

    skin = tone(SKIN_TONES)
    long = rng.random() < 0.4
    return Person(
        skin=skin,
        hair=tone(HAIR_TONES),
        iris=tone(IRIS_TONES),
        lips=skin * 0.55 + np.array((150, 50, 60)) * rng.uniform(0.25, 0.45),
        width=rng.uniform(0.92, 1.08),
        jaw=rng.uniform(0.10, 0.35),
        hairline=rng.uniform(-1.45, -0.85),
        part=rng.uniform(-0.30, 0.30),
        temples=rng.uniform(3, 8),
        volume=rng.uniform(1.06, 1.30),
        curls=max(0.0, rng.uniform(-0.05, 0.06)),
        length=rng.uniform(0.9, 2.4) if long else rng.uniform(-0.5, 0.1),
        bald=bool(not long and rng.random() < 0.12),
        eye_distance=rng.uniform(0.47, 0.56),
        eye_height=rng.uniform(0.07, 0.12),
        brow=rng.uniform(0.04, 0.10),
        nose=rng.uniform(0.7, 1.3),
        mouth=rng.uniform(0.34, 0.46),
        beard=float(not long and rng.random() < 0.3) * rng.uniform(0.3, 0.9),
        glasses=bool(rng.random() < 0.15),
    )


def _photograph(person: Person, rng: np.random.Generator) -> bytes:
    """One JPEG of `person`: pose, expression, clothes, background, light and camera vary."""
    yaw, pitch, roll = rng.normal(size=3).clip(-2, 2) * (0.16, 0.10, 0.06)
    centre = SIZE / 2 + np.array((0, -2)) + rng.normal(size=2) * 2
    pose = Pose(yaw, pitch, roll, UNIT * rng.uniform(0.95, 1.06), centre)
    drawing = _draw(person, pose, rng).split()
    *colours, material = (np.asarray(band).astype(np.float32) for band in drawing)
    lit = ((material - 150) / (SKIN - 150)).clip(0, 1)
    strands = ((material - SKIN) / (HAIR - SKIN)).clip(0, 1)
    uncovered = (1 - material / CLOTH).clip(0, 1)
    light, gloss = _light(person, pose, rng)
    grain, flow = (_cut(texture, rng) for texture in _textures())
    gain = 1 + lit * (light - 1) + np.float32(0.025) * grain + np.float32(0.16) * strands * flow
    gloss = gloss * lit
    background = _background(rng) * uncovered
    camera = rng.uniform(0.85, 1.15) * (1 + rng.normal(size=3) * 0.04)
    bands = [
        Image.fromarray(((colour * gain + gloss + behind) * float(c)).clip(0, 255).astype(np.uint8))
        for colour, behind, c in zip(colours, background, camera, strict=True)
    ]
    picture = Image.merge("RGB", bands)
    if rng.random() < 0.4:
        picture = picture.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 0.9)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=int(rng.integers(80, 95)))
    return file.getvalue()


def _draw(person: Person, pose: Pose, rng: np.random.Generator) -> Image.Image:
    """The figure in flat colours on black, without light: RGB and the material, as mode RGBX."""
    parts = (_body, _head, _eyes, _mouth, _hair)  # from back to front
    shapes = [shape for part in parts for shape in part(person, rng)]
    pixels = pose.place(np.concatenate([points for points, _, _ in shapes])) * 2
    colours = np.array([colour for _, colour, _ in shapes]).clip(0, 255).astype(int)
    corners = iter(map(tuple, pixels.tolist()))
    canvas = Image.new("RGBX", (2 * SIZE, 2 * SIZE))  # twice the size, against jagged edges
    draw = ImageDraw.Draw(canvas)
    for (points, _, material), colour in zip(shapes, colours.tolist(), strict=True):
        draw.polygon(list(islice(corners, len(points))), fill=(*colour, material))
    return canvas.reduce(2)


def _body(person: Person, rng: np.random.Generator) -> Iterator[Shape]:
    outer, low = person.width * person.volume, person.length
    if low > 0.5:
        fall = _flat([(-outer, -0.6), (outer, -0.6), (outer * 1.1, low), (-outer * 1.1, low)])
        yield fall, person.hair * 0.7, HAIR
    neck = _flat([(-0.62, 0.5), (0.62, 0.5), (0.75, 2.6), (-0.75, 2.6)])
    yield neck, person.skin * 0.78, SKIN
    slope, cloth, shirt = rng.uniform(2.3, 2.7), rng.uniform(20, 230, 3), rng.uniform(120, 250, 3)
    top = [(-2.6, slope), (-0.6, 1.85), (0, 2.5), (0.6, 1.85), (2.6, slope)]
    yield _flat([(-3.4, 4), *top, (3.4, 4)]), cloth, CLOTH
    if rng.random() < 0.5:
        for side in (-1, 1):
            yield _flat([(side * 0.62, 1.8), (0, 2.5), (side * 0.5, 2.7)]), shirt, CLOTH


def _head(person: Person, rng: np.random.Generator) -> Iterator[Shape]:
    skin, hair = person.skin, person.hair
    for side in (-1, 1):
        yield _flat((side * person.width, 0.05) + CIRCLE * (0.13, 0.30)), skin * 0.88, SKIN
    v = -0.1 + np.cos(ANGLES) * (CHIN + 0.1)
    u = np.sign(np.sin(ANGLES)) * np.abs(np.sin(ANGLES)) ** 0.85
    u *= person.width * (1 - person.jaw * np.maximum(v / CHIN, 0) ** 2)
    yield _flat(np.stack([u, v], axis=1)), skin, SKIN
    if person.beard:
        cheeks = np.array([(-0.8, 0.35), (-0.45, 0.62), (0, 0.6), (0.45, 0.62), (0.8, 0.35)])
        low = np.flatnonzero(v > 0.2)
        jaw = 0.97 * np.stack([u, v], axis=1)[low[np.argsort(-u[low])]]
        yield _on_face(np.concatenate([jaw, cheeks])), skin + (hair - skin) * person.beard, BEARD


def _eyes(person: Person, rng: np.random.Generator) -> Iterator[Shape]:
    opened = person.eye_height * rng.uniform(0.6, 1.15)
    gaze = rng.normal(size=2) * (0.03, 0.01)
    lift, tilt = rng.normal(size=2) * 0.03
    for side in (-1, 1):
        middle = side * person.eye_distance
        width = middle + 0.21 * LINE
        upper, lower = EYE - opened * BOW, EYE + 0.7 * opened * BOW
        yield _on_face(_band(width, upper - 0.045, lower + 0.01)), person.skin * 0.45, SKIN
        yield _on_face(_band(width, upper, lower)), EYE_WHITE, SKIN
        for radius, colour in ((0.105, person.iris), (0.05, BLACK)):
            disc = (middle + gaze[0], EYE - 0.01 + gaze[1]) + radius * CIRCLE
            room = opened * (1 - ((disc[:, 0] - middle) / 0.21) ** 2)
            disc[:, 1] = np.clip(disc[:, 1], EYE - room, EYE + 0.7 * room)
            yield _on_face(disc), colour, SKIN
        yield _on_face((middle + gaze[0] + 0.03, EYE - 0.04) + 0.02 * CIRCLE), (250,) * 3, SKIN
        arch = BROW + lift + tilt * side * LINE + 0.07 * (side * LINE - 0.2) ** 2
        thick = person.brow * (1.1 - 0.6 * np.clip(side * LINE, 0, 1))
        brow = _band(middle * 1.03 + 0.30 * LINE, arch, arch + thick)
        yield _on_face(brow), person.hair * 0.7 + person.skin * 0.1, HAIR
        if person.glasses:
            rim = (middle, EYE + 0.04) + CIRCLE[[*range(24), 0]] * (0.36, 0.27)
            inside = (middle, EYE + 0.04) + CIRCLE[[*range(24), 0]] * (0.31, 0.22)
            yield _on_face(np.concatenate([rim, inside[::-1]])), BLACK, SKIN
    if person.glasses:
        bridge = _band(0.16 * LINE, np.full(15, EYE - 0.05), np.full(15, EYE))
        yield _on_face(bridge), BLACK, SKIN


def _mouth(person: Person, rng: np.random.Generator) -> Iterator[Shape]:
    """With the nostrils above it."""
    for side in (-1, 1):
        nostril = (side * 0.11, NOSE + 0.05) + CIRCLE * (0.06, 0.035)
        yield _on_face(nostril), person.skin * 0.4, SKIN
    smile, gap = rng.uniform(-0.03, 0.12), max(0.0, rng.uniform(-0.10, 0.16))
    width = person.mouth * (1 + smile) * LINE
    line = MOUTH + smile * (0.5 - LINE**2)
    upper = line - 0.10 * BOW * (1 - 0.25 * np.exp(-((LINE / 0.15) ** 2)))
    yield _on_face(_band(width, upper, line + (gap + 0.13) * BOW)), person.lips, SKIN
    inside = _band(width, line - 0.012, line + 0.012 + gap * BOW)
    yield _on_face(inside), person.lips * 0.3, SKIN
    if gap > 0.05:
        yield _on_face(_band(0.85 * width, line, line + 0.6 * gap * BOW)), TOOTH, SKIN


def _hair(person: Person, rng: np.random.Generator) -> Iterator[Shape]:
    if person.bald:
        return
    outer, fall = person.width * person.volume, max(person.length, -0.1)
    turns = np.linspace(-1.75, 1.75, 40)
    arc = np.stack([outer * np.sin(turns), -0.3 - 1.3 * person.volume * np.cos(turns)], axis=1)
    arc *= 1 + person.curls * rng.normal(size=(40, 1))
    line = person.hairline + person.part * LINE + 0.1 * LINE**2
    line += (min(person.length, 0.9) - line) * np.abs(LINE) ** person.temples
    hairline = _on_face(np.stack([-0.97 * person.width * LINE, line], axis=1))
    hairline[:, 2] *= np.abs(LINE) < 0.9
    outline = _flat([(-outer, fall), *arc, (outer, fall)])
    yield np.concatenate([outline, hairline]), person.hair, HAIR


def _flat(points: np.ndarray | list[tuple[float, float]], w: float | np.ndarray = 0) -> np.ndarray:
    """(n, 2) points u, v -> (n, 3), by default in the plane through both ears."""
    solid = np.empty((len(points), 3))
    solid[:, :2], solid[:, 2] = points, w
    return solid


def _on_face(points: np.ndarray) -> np.ndarray:
    """(n, 2) points u, v -> (n, 3) on the surface of the face."""
    u, v = points.T
    return _flat(points, np.sqrt((1 - u**2 - (v / CROWN) ** 2).clip(0)))


def _band(u: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """The area between two curves over the same n values of u: (2n, 2) points."""
    return np.concatenate([u, u[::-1], upper, lower[::-1]]).reshape(2, -1).T


def _light(person: Person, pose: Pose, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(SIZE, SIZE) each: brightness (1: as drawn) and gloss to be added (0 to 255) of the head.

    Computed at half the size, as it has no edges.
    """
    bumps = RELIEF.copy()
    bumps[:, :2] = (pose.place(_on_face(RELIEF[:, :2])) - pose.centre) / pose.unit
    bumps[np.abs(RELIEF[:, 0]) < 0.2, 4] *= person.nose
    u0, v0, wide, high, elevation = bumps.T[:, :, None]
    pixels = np.arange(0.5, SIZE, 2, dtype=np.float32)
    u, v = ((pixels - middle) / np.float32(pose.unit) for middle in pose.centre.astype(np.float32))
    along, down = (u - u0) / wide, (v - v0) / high
    across, upright = np.exp(along**2 / -2), np.exp(down**2 / -2) * elevation
    u, v = u[None, :], v[:, None] / np.float32(CHIN)
    shrink = np.float32(0.92) / np.maximum(np.sqrt(u**2 + v**2), np.float32(0.92))
    u, v = u * shrink, v * shrink
    toward = np.sqrt(1 - u**2 - v**2)
    u += upright.T @ (across * along / wide)
    v = np.float32(0.8) * v + (upright * down / high).T @ across
    length = np.sqrt(u**2 + v**2 + toward**2)
    sun = np.array((rng.normal() * 0.55, rng.uniform(-0.9, 0.1), 1))
    sun /= np.sqrt((sun**2).sum())
    half = sun + np.array((0, 0, 1))
    half /= np.sqrt((half**2).sum())
    facing, mirror = (
        np.maximum(a * u + b * v + c * toward, 0) / length
        for a, b, c in (sun.astype(np.float32), half.astype(np.float32))
    )
    ambient, shine = rng.uniform(0.35, 0.7), rng.uniform(5, 45)
    mirror **= 8
    maps = np.float32(ambient) + np.float32(1.15 - ambient) * facing, np.float32(shine) * mirror**3
    size = (SIZE, SIZE)
    light, gloss = (Image.fromarray(m).resize(size, Image.Resampling.BILINEAR) for m in maps)
    return np.asarray(light), np.asarray(gloss)


def _background(rng: np.random.Generator) -> np.ndarray:
    """A blurred backdrop with a few upright objects: (3, SIZE, SIZE)."""
    middle = rng.uniform(20, 220) + rng.normal(size=(3, 1, 1)) * 25
    cells = middle + rng.normal(size=(6, 6)) * 22 + rng.normal(size=(3, 6, 6)) * 10
    place = np.linspace(0, 5, SIZE)[:, None]
    spread = np.exp(-((place - np.arange(6)) ** 2) / 0.7)
    spread = (spread / spread.sum(axis=1, keepdims=True)).astype(np.float32)
    backdrop: np.ndarray = spread @ cells.astype(np.float32) @ spread.T
    for _ in range(rng.integers(0, 4)):
        left, top = rng.integers(0, SIZE, 2)
        width, height = rng.integers(10, 100), rng.integers(50, 300)
        colour = rng.uniform(20, 220) + rng.normal(size=(3, 1, 1)) * 30
        backdrop[:, top : top + height, left : left + width] = colour
    return backdrop


@cache
def _textures() -> tuple[np.ndarray, np.ndarray]:
    """Grain, and strands of hair: (2 SIZE, 2 SIZE) arrays of mean 0 and deviation 1."""
    grain, strands = np.random.default_rng(0).normal(size=(2, 2 * SIZE, 2 * SIZE))
    grain = _smooth(_smooth(grain, 2, axis=0), 2, axis=1) + 0.3 * grain
    strands = _smooth(_smooth(strands, 25, axis=0), 2, axis=1)
    return tuple((texture / texture.std()).astype(np.float32) for texture in (grain, strands))


def _smooth(values: np.ndarray, width: int, axis: int) -> np.ndarray:
    total = np.zeros_like(values)
    for shift in range(width):
        total += np.roll(values, shift, axis)
    return total


def _cut(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    top, left = rng.integers(0, SIZE, 2)
    return texture[top : top + SIZE, left : left + SIZE]
