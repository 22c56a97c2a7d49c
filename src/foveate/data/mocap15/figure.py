"""The humanoid of the rendered benchmark: bodies, and drawing them as shaded capsules."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from foveate.data.mocap15.camera import Sight
from foveate.data.mocap15.motion import JOINTS, Floats, library

Pixels = npt.NDArray[np.uint8]
Colour = tuple[float, float, float]

BODIES = 48
_ANGLES = np.linspace(0, 2 * np.pi, 16, endpoint=False)  # its extremes lie on the circle
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)
_EDGE = 0.014  # m of dark rim around every part
_SHIFT = 4  # OpenCV's drawing takes coordinates in sixteenths of a pixel
_AT = {name: place for place, name in enumerate(JOINTS)}

# Part -> material and the discs (joint, radius in metres) whose hull it is. The radii follow the
# recorded humanoid's, a little thicker at the joints.
_PARTS: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = (
    ("trousers", (("right_hip", 0.085), ("left_hip", 0.085), ("chest", 0.1))),
    ("shirt", (("chest", 0.105), ("right_shoulder", 0.07), ("left_shoulder", 0.07))),
    ("skin", (("neck", 0.055), ("head", 0.05))),
    ("skin", (("head", 0.1), ("face", 0.035))),
    ("hair", (("hair", 0.1),)),
    ("shirt", (("right_shoulder", 0.06), ("right_elbow", 0.048))),
    ("skin", (("right_elbow", 0.044), ("right_wrist", 0.036))),
    ("skin", (("right_wrist", 0.05),)),
    ("shirt", (("left_shoulder", 0.06), ("left_elbow", 0.048))),
    ("skin", (("left_elbow", 0.044), ("left_wrist", 0.036))),
    ("skin", (("left_wrist", 0.05),)),
    ("trousers", (("right_hip", 0.085), ("right_knee", 0.062))),
    ("trousers", (("right_knee", 0.06), ("right_ankle", 0.047))),
    ("shoes", (("right_ankle", 0.05), ("right_toe", 0.04))),
    ("trousers", (("left_hip", 0.085), ("left_knee", 0.062))),
    ("trousers", (("left_knee", 0.06), ("left_ankle", 0.047))),
    ("shoes", (("left_ankle", 0.05), ("left_toe", 0.04))),
)
_SKINS = ((236, 196, 170), (214, 164, 130), (176, 122, 90), (128, 84, 60), (92, 60, 44))
_HAIRS = ((40, 30, 26), (90, 60, 36), (170, 130, 70), (130, 130, 130), (120, 50, 30))


@dataclass(frozen=True)
class Body:
    """The body of an actor: proportions and clothes.

    Attributes:
        lengths: (J,) metres of the bones.
        stature: Metres from sole to crown, standing.
        rise: What the recorded heights of the root are multiplied by.
        girth: What the radii are multiplied by.
        colours: Material -> RGB 0..255.
    """

    lengths: Floats
    stature: float
    rise: float
    girth: float
    colours: dict[str, Colour]


def body(number: int) -> Body:
    """The body of that number, 0 to `BODIES` - 1; always the same one."""
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence(15, spawn_key=(number,))))
    legs, arms, trunk = random.uniform((0.9, 0.9, 0.93), (1.12, 1.1, 1.08))
    shoulders, hips, head = random.uniform((0.9, 0.85, 0.95), (1.15, 1.15, 1.1))
    factors = {"chest": trunk, "neck": trunk, "head": head, "face": head}
    for side in ("right", "left"):
        factors |= {f"{side}_hip": hips, f"{side}_knee": legs, f"{side}_ankle": legs}
        factors |= {f"{side}_shoulder": (shoulders + trunk) / 2}
        factors |= {f"{side}_elbow": arms, f"{side}_wrist": arms}
    recorded = library().lengths
    lengths = recorded * [factors.get(name, 1.0) for name in JOINTS]
    legs_down = lengths[_AT["right_knee"]] + lengths[_AT["right_ankle"]]
    trunk_up = lengths[_AT["chest"]] + lengths[_AT["neck"]] + lengths[_AT["head"]]
    colours = {
        "skin": _SKINS[random.integers(len(_SKINS))],
        "hair": _HAIRS[random.integers(len(_HAIRS))],
        "shirt": _cloth(random, 0.35, 0.95),
        "trousers": _cloth(random, 0.2, 0.75),
        "shoes": _cloth(random, 0.1, 0.9),
    }
    return Body(
        lengths,
        stature=float(legs_down + trunk_up + 0.16),
        rise=float(legs_down / (recorded[_AT["right_knee"]] + recorded[_AT["right_ankle"]])),
        girth=float(random.uniform(0.85, 1.3)),
        colours=colours,
    )


def _cloth(random: np.random.Generator, darkest: float, brightest: float) -> Colour:
    """A colour of any hue, more or less strong."""
    hue, strength = random.uniform(0, 2 * np.pi), random.uniform(0.2, 0.9)
    value = random.uniform(darkest, brightest) * 255
    wheel = 0.5 + 0.5 * np.cos(hue - np.array([0.0, 2.0944, 4.1888]))
    red, green, blue = value * (1 - strength * (1 - wheel))
    return float(red), float(green), float(blue)


def radii(who: Body) -> Floats:
    """(J,) metres of the largest disc about each joint, the rim included."""
    found = np.zeros(len(JOINTS))
    for _, discs in _PARTS:
        for joint, radius in discs:
            # Hair sits within a disc about the head that is this much larger.
            name, more = ("head", 0.03) if joint == "hair" else (joint, 0.0)
            found[_AT[name]] = max(found[_AT[name]], (radius + more) * who.girth + _EDGE)
    return found


class Figure:
    """A body in all frames of a clip, ready to be drawn.

    Args:
        sight: What the camera sees.
        who: The body.
        light: (3,) direction from which light comes, in the camera's axes (right, down, away).
    """

    def __init__(self, sight: Sight, who: Body, light: Floats) -> None:
        hair = _hair(sight)
        points = np.concatenate([sight.points, hair.points], axis=1)
        scale = np.concatenate([sight.scale, hair.scale], axis=1)
        space = np.concatenate([sight.space, hair.space], axis=1)
        at = {**_AT, "hair": len(JOINTS)}
        joints = np.array([at[joint] for _, discs in _PARTS for joint, _ in discs])
        sizes = np.array([radius for _, discs in _PARTS for _, radius in discs]) * who.girth
        ends = np.cumsum([len(discs) for _, discs in _PARTS])
        self._slices = [slice(end - len(d), end) for end, (_, d) in zip(ends, _PARTS, strict=True)]
        self._points, self._scale = points[:, joints], scale[:, joints]
        self._radii = self._scale * sizes
        depth = space[:, joints, 2]
        self._depth = np.stack([depth[:, part].mean(axis=1) for part in self._slices], axis=1)
        # A head turned away shows hair, a head turned to the camera shows the face.
        self._shade = np.stack([_shade(space[:, joints[p]], light) for p in self._slices], axis=1)
        self._colours = np.array([who.colours[material] for material, _ in _PARTS])
        self._light = light[:2] / max(float(np.linalg.norm(light)), 1e-6)

    def draw(self, image: Pixels, frame: float, matrix: Floats) -> None:
        """Draw one frame.

        Args:
            image: (H, W, 3) uint8, drawn into.
            frame: Which; a fraction shows a moment between two.
            matrix: (2, 3) map from the actor's pixels to those of the image.
        """
        layers = self._hulls(frame, matrix)
        nearest = int(frame)
        for part in np.argsort(-self._depth[nearest], kind="stable"):
            colour = self._colours[part] * self._shade[nearest, part]
            glow = np.minimum(colour * 1.22 + 14, 255)
            for points, tone in zip(layers, (colour * 0.42, colour, glow), strict=True):
                fill(image, points[self._slices[part]].reshape(-1, 2), tone)

    def box(self, frame: int, matrix: Floats) -> tuple[float, float, float, float]:
        """Smallest box (x1, y1, x2, y2) around what `draw` draws, not clipped to the frame."""
        return bounds(self._hulls(frame, matrix)[0].reshape(-1, 2))

    def _hulls(self, frame: float, matrix: Floats) -> list[Floats]:
        """(discs, corners, 2) points of rim, body and highlight in pixels of the image."""
        zoom = float(np.hypot(matrix[0, 0], matrix[1, 0]))
        centres = between(self._points, frame) @ matrix[:, :2].T + matrix[:, 2]
        size = between(self._radii, frame) * zoom
        rim = size + np.maximum(between(self._scale, frame) * zoom * _EDGE, 0.35)
        lit = centres + 0.34 * size[:, None] * self._light
        return [
            middle[:, None] + _CIRCLE * reach[:, None, None]
            for middle, reach in ((centres, rim), (centres, size), (lit, size * 0.5))
        ]


def between(values: Floats, frame: float) -> Floats:
    """Rows (T, ...) at a frame, or interpolated at a moment between two."""
    at = int(frame)
    if at == frame:
        return np.asarray(values[at])
    return np.asarray(values[at] + (frame - at) * (values[at + 1] - values[at]))


def _hair(sight: Sight) -> Sight:
    """A disc about the back and top of the head."""
    neck, head, face = (slice(_AT[name], _AT[name] + 1) for name in ("neck", "head", "face"))

    def behind(values: Floats) -> Floats:
        return (
            values[:, head]
            - 0.42 * (values[:, face] - values[:, head])
            + 0.16 * (values[:, head] - values[:, neck])
        )

    return Sight(behind(sight.points), sight.scale[:, head], behind(sight.space))


def _shade(space: Floats, light: Floats) -> Floats:
    """(T,) brightness of a part with discs at (T, n, 3) by its direction to the light."""
    axis = space[:, -1] - space[:, 0]
    length = np.maximum(np.linalg.norm(axis, axis=1), 1e-6)
    along = (axis @ light) / (length * np.linalg.norm(light))
    return np.asarray(0.72 + 0.28 * np.sqrt(np.clip(1 - along**2, 0, 1)))


def fill(image: Pixels, points: Floats, colour: Floats) -> None:
    """Fill the convex hull of points (N, 2), given in pixels, with an RGB colour, smoothly."""
    hull = cv2.convexHull(np.round(points * (1 << _SHIFT)).astype(np.int32))
    red, green, blue = (float(value) for value in colour)
    cv2.fillConvexPoly(image, hull, (red, green, blue), cv2.LINE_AA, _SHIFT)


def bounds(points: Floats) -> tuple[float, float, float, float]:
    """Box (x1, y1, x2, y2) of the pixels that a shape with these corners (N, 2) covers.

    Pixel centres have whole coordinates when drawing, while a box counts edges: half a pixel more.
    """
    low = np.floor(points.min(axis=0) + 0.5)
    high = np.floor(points.max(axis=0) + 0.5) + 1
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
