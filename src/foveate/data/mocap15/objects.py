"""Distractors of the rendered benchmark: balls, boxes and cones unrelated to the class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foveate.data.mocap15.figure import between, bounds, fill
from foveate.data.mocap15.motion import Floats

Pixels = npt.NDArray[np.uint8]
Shapes = list[tuple[Floats, Floats]]

KINDS = ("ball", "box", "cone")
_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
# Each face of a box as places in _CORNERS, with the direction that it looks in.
_FACES = tuple(
    (np.flatnonzero(_CORNERS[:, axis] == side), axis, side) for axis in range(3) for side in (-1, 1)
)


@dataclass(frozen=True)
class Thing:
    """One object in all frames of a clip.

    Attributes:
        kind: One of `KINDS`, or `post`.
        places: (T, 2) middle in world pixels; of a cone and a post the middle of its foot.
        turns: (T,) radians: a ball's roll, a box's turn, a cone's lean.
        size: Half its height in world pixels.
        colours: (2, 3) RGB.
    """

    kind: str
    places: Floats
    turns: Floats
    size: float
    colours: Floats

    def draw(self, image: Pixels, frame: float, matrix: Floats) -> None:
        """Draw one frame into (H, W, 3) uint8; `matrix` (2, 3) maps world pixels to the image's.

        A fraction of a frame shows a moment between two.
        """
        for points, colour in self._shapes(frame):
            fill(image, points @ matrix[:, :2].T + matrix[:, 2], colour)

    def box(self, frame: int, matrix: Floats) -> tuple[float, float, float, float]:
        """Smallest box (x1, y1, x2, y2) around what `draw` draws, not clipped to the frame."""
        points = np.concatenate([points for points, _ in self._shapes(frame)])
        return bounds(points @ matrix[:, :2].T + matrix[:, 2])

    def _shapes(self, frame: float) -> Shapes:
        make = {"ball": _ball, "box": _box, "cone": _cone, "post": _post}[self.kind]
        shapes = make(float(between(self.turns, frame)), self.colours)
        place = between(self.places, frame)
        return [(points * self.size + place, colour) for points, colour in shapes]


def things(
    count: int,
    low: Floats,
    high: Floats,
    seconds: Floats,
    unit: float,
    random: np.random.Generator,
) -> list[Thing]:
    """Draw objects and their movements.

    Args:
        count: How many.
        low: (2,) least world pixel that is visible in any frame.
        high: (2,) greatest world pixel that is visible in any frame.
        seconds: (T,) times of the frames.
        unit: World pixels per pixel of a frame 240 pixels high.
        random: Random generator.
    """
    first = int(random.integers(len(KINDS)))
    return [
        _thing(KINDS[(first + number) % len(KINDS)], low, high, seconds, unit, random)
        for number in range(count)
    ]


def posts(
    count: int, low: Floats, high: Floats, frames: int, unit: float, random: np.random.Generator
) -> list[Thing]:
    """Draw upright posts that reach from the top to the bottom; arguments as for `things`."""
    foot = [(float(x), float(high[1])) for x in random.uniform(low[0], high[0], count)]
    sizes = random.uniform(4, 10, count) * unit
    return [
        Thing("post", np.tile(at, (frames, 1)), np.zeros(frames), float(size), colours)
        for at, size, colours in zip(
            foot, sizes, random.uniform(30, 200, (count, 2, 3)), strict=True
        )
    ]


def _thing(
    kind: str,
    low: Floats,
    high: Floats,
    seconds: Floats,
    unit: float,
    random: np.random.Generator,
) -> Thing:
    size = random.uniform(9, 20) * unit
    start = random.uniform(low, high)
    colours = random.uniform(30, 235, (2, 3))
    if kind == "ball":
        speed = random.choice((-1, 1)) * random.uniform(25, 80) * unit
        x = _bounce(start[0] + speed * seconds, low[0], high[0])
        hop, rate = random.uniform(20, 70) * unit, random.uniform(0.6, 1.2)
        phase = (seconds * rate + random.random()) % 1
        places = np.stack([x, start[1] - hop * 4 * phase * (1 - phase)], axis=1)
        return Thing(kind, places, np.cumsum(np.gradient(x)) / size, size, colours)
    if kind == "box":
        reach, rate = random.uniform(10, 60) * unit, random.uniform(0.15, 0.5)
        slide = reach * np.sin(2 * np.pi * (rate * seconds + random.random()))
        places = start + np.stack([slide, np.zeros_like(slide)], axis=1)
        turns = random.uniform(0, np.pi) + random.uniform(-1.6, 1.6) * seconds
        return Thing(kind, places, turns, size, colours)
    lean, rate = random.uniform(0.15, 0.45), random.uniform(0.4, 1.3)
    turns = lean * np.sin(2 * np.pi * (rate * seconds + random.random()))
    return Thing(kind, np.repeat(start[None], len(seconds), axis=0), turns, size, colours)


def _bounce(values: Floats, low: float, high: float) -> Floats:
    """Reflect a straight movement between two walls."""
    span = max(high - low, 1e-6)
    return low + span - np.abs((values - low) % (2 * span) - span)


def _ball(turn: float, colours: Floats) -> Shapes:
    """A ball with a stripe, of radius one."""
    c, s = np.cos(turn), np.sin(turn)
    stripe = _CIRCLE * (0.98, 0.3) @ np.array([[c, s], [-s, c]])
    return [
        (_CIRCLE, colours[0] * 0.5),
        (_CIRCLE * 0.93, colours[0]),
        (stripe, colours[1]),
        (_CIRCLE * 0.3 - 0.38, np.minimum(colours[0] + 70, 255)),
    ]


def _box(turn: float, colours: Floats) -> Shapes:
    """A box seen a little from above, its visible faces."""
    c, s = np.cos(turn), np.sin(turn)
    tilt = np.radians(24)
    upright = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    seen = np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    turned = _CORNERS * (0.8, 0.62, 0.8) @ (seen @ upright).T
    shapes = []
    for places, axis, side in _FACES:
        look = (seen @ upright)[:, axis] * side
        if look[2] < 0:  # towards the camera
            shade = 0.55 + 0.45 * max(0.0, float(-0.8 * look[1] - 0.5 * look[0]))
            shapes.append((turned[places, :2], colours[axis // 2] * shade))
    return shapes


def _post(turn: float, colours: Floats) -> Shapes:
    """A post of width two with a bright edge; longer than any picture is high."""
    body = np.array([[-1.0, 0.0], [1.0, 0.0], [1.0, -1000.0], [-1.0, -1000.0]])
    return [(body, colours[0] * 0.5), (body * (0.8, 1), colours[0]), (body * (0.3, 1), colours[1])]


def _cone(lean: float, colours: Floats) -> Shapes:
    """A cone with a band, rocking on its foot."""
    foot = _CIRCLE * (0.75, 0.22)
    tip = np.array([[0.0, -2.0]])
    c, s = np.cos(lean), np.sin(lean)
    turn = np.array([[c, s], [-s, c]])
    body = np.concatenate([foot, tip])
    band = np.concatenate([foot * 0.72 + (0, -0.56), foot * 0.45 + (0, -1.1)])
    return [
        (body @ turn, colours[0] * 0.5),
        (body * (0.9, 0.97) @ turn, colours[0]),
        (band * (0.9, 1) @ turn, colours[1]),
    ]
