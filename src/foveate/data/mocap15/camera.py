"""Cameras of the rendered benchmark: positions, movements, projections of a body.

The body is seen in perspective. Everything else is one flat picture of the surroundings, the
"world", in which objects move; a camera movement shifts, zooms and rolls this whole picture (no
parallax), so the motion of the background is known exactly: it is the affine map of the frame.
World coordinates are pixels of a frame without zoom, with the origin in the middle of the frame
of a camera at rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foveate.data.mocap15.motion import Floats

REGIMES = ("static", "pan", "pan+zoom", "hand-held")
_ZOOM = 1.35  # largest ratio of focal lengths within one clip
_NEAR = 1.3  # how much larger than at the start perspective may make an approaching actor
_SWEEP = 3.5  # s that one pan or zoom takes, about
_MARGIN = 0.012  # of the frame height that stays free around the actor
_AWAY = 0.14  # of the frame's width or height that the actor is off the centre, at least
_TRIES = 24


@dataclass(frozen=True)
class Movement:
    """Movement of a camera over T frames.

    Attributes:
        centre: (T, 2) world pixels in the middle of the frame.
        zoom: (T,) frame pixels per world pixel.
        roll: (T,) radians, clockwise on the screen.
    """

    centre: Floats
    zoom: Floats
    roll: Floats

    def matrices(self, size: tuple[int, int]) -> Floats:
        """(T, 2, 3) affine maps from world pixels to pixels of a `(width, height)` frame."""
        c, s = np.cos(self.roll) * self.zoom, np.sin(self.roll) * self.zoom
        turn = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], axis=1)
        middle = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
        shift = middle - np.einsum("tij,tj->ti", turn, self.centre)
        return np.concatenate([turn, shift[..., None]], axis=2)

    def reach(self, size: tuple[int, int]) -> tuple[Floats, Floats]:
        """Least and greatest world pixel (x, y) that is visible in any frame."""
        half = np.hypot(*size) / 2 * np.sin(np.arctan2(size[::-1], size) + np.abs(self.roll).max())
        half = np.maximum(half[::-1], np.array(size) / 2) / self.zoom.min()
        return self.centre.min(axis=0) - half, self.centre.max(axis=0) + half


def move(
    regime: str, frames: int, size: tuple[int, int], fps: float, random: np.random.Generator
) -> Movement:
    """Draw the movement of a camera.

    Args:
        regime: One of `REGIMES`.
        frames: T.
        size: `(width, height)` of the frame.
        fps: Frames per second.
        random: Random generator.
    """
    width, height = size
    # Long clips pan to and fro, so that the speed stays what it is in short ones.
    sweeps = max(1, round(frames / fps / _SWEEP))
    share = 0.5 - np.abs(np.linspace(0, sweeps, frames) % 2 - 1)
    still = Movement(np.zeros((frames, 2)), np.ones(frames), np.zeros(frames))
    if regime == "static":
        return still
    if regime == "hand-held":
        return _shaken(frames, size, fps, random)
    way = random.choice((-1.0, 1.0)) * random.uniform(0.2, 0.4) * width
    rise = random.uniform(-0.12, 0.12) * height
    centre = share[:, None] * np.array([way, rise])
    if regime == "pan":
        return Movement(centre, still.zoom, still.roll)
    grown = random.uniform(1.15, _ZOOM) ** share
    zoom = grown if random.random() < 0.5 else grown[::-1]
    # The nearest view is the one for which the actor's size was drawn.
    return Movement(centre, zoom / zoom.max(), still.roll)


def _shaken(
    frames: int, size: tuple[int, int], fps: float, random: np.random.Generator
) -> Movement:
    """A hand-held camera: slow drift and tremor, little roll, hardly any zoom."""
    seconds = np.arange(frames) / fps
    rates = np.array([0.35, 0.8, 1.7, 3.4])[:, None]
    weights = np.array([1.0, 0.6, 0.3, 0.12])[:, None]
    phases = random.uniform(0, 2 * np.pi, (4, 4, 1))
    jitter = random.uniform(0.8, 1.25, (4, 4, 1))
    waves = (weights * np.sin(2 * np.pi * rates * jitter * seconds + phases)).sum(axis=1)
    strength = random.uniform(0.6, 1.4)
    centre = waves[:2].T * (0.014 * strength * size[1])
    return Movement(centre, 1 + 0.004 * strength * waves[2], np.radians(0.5 * strength) * waves[3])


@dataclass(frozen=True)
class Sight:
    """A body as the camera sees it, in world pixels from the actor's anchor.

    Attributes:
        points: (T, J, 2) joints.
        scale: (T, J) pixels per metre.
        space: (T, J, 3) metres in the camera's axes: right, down, away.
    """

    points: Floats
    scale: Floats
    space: Floats

    def extent(self, radii: Floats) -> Floats:
        """(T, 4) box around discs of `radii` (J,) metres about the joints."""
        margin = (self.scale * radii)[..., None]
        low = (self.points - margin).min(axis=1)
        high = (self.points + margin).max(axis=1)
        return np.concatenate([low, high], axis=1)


def see(joints: Floats, azimuth: float, elevation: float, distance: float, scale: float) -> Sight:
    """Project a body.

    Args:
        joints: (T, J, 3) metres, y up; the camera looks at the ground place of the first root,
            at the height of a hip.
        azimuth: Degrees around the body; 0 is in front of it at the start.
        elevation: Degrees above the horizon.
        distance: Metres from the body.
        scale: Pixels per metre at that distance.
    """
    a, e = np.radians(azimuth), np.radians(elevation)
    away = -np.array([np.cos(a) * np.cos(e), np.sin(e), np.sin(a) * np.cos(e)])
    right = np.array([np.sin(a), 0.0, -np.cos(a)])
    down = np.cross(away, right)
    target = joints[0, 0] * (1.0, 0.0, 1.0) + (0.0, 0.9, 0.0)
    space = (joints - target) @ np.stack([right, down, away], axis=1)
    ratio = scale * distance / np.maximum(distance + space[..., 2], 0.3 * distance)
    return Sight(space[..., :2] * ratio[..., None], ratio, space)


def is_near(sight: Sight) -> bool:
    """Whether perspective makes the actor much larger or smaller than at the start."""
    ratio = sight.scale[:, 0] / sight.scale[0, 0]
    return bool(ratio.max() > _NEAR or ratio.min() < 1 / _NEAR)


def place(
    extent: Floats, path: Movement, size: tuple[int, int], random: np.random.Generator
) -> Floats | None:
    """Find an anchor for the actor that keeps it in the frame and out of its centre.

    Args:
        extent: (T, 4) the actor's box around the anchor, world pixels.
        path: The camera's movement; its roll is ignored.
        size: `(width, height)` of the frame.
        random: Random generator.

    Returns:
        (2,) world pixels, or None where nothing fits.
    """
    half = np.array(size) / 2 - _MARGIN * size[1]
    zoom = path.zoom[:, None]
    low = (path.centre - half / zoom - extent[:, :2]).max(axis=0)
    high = (path.centre + half / zoom - extent[:, 2:]).min(axis=0)
    if (low > high).any():
        return None
    middle = (extent[:, :2] + extent[:, 2:]) / 2
    best, best_away = None, -1.0
    for _ in range(_TRIES):
        anchor = random.uniform(low, high)
        seen = ((anchor + middle - path.centre) * zoom).mean(axis=0)
        away = float(np.abs(seen / size).max())
        if away >= _AWAY:
            return np.asarray(anchor)
        if away > best_away:
            best, best_away = anchor, away
    return best
