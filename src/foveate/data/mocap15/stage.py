"""Places the actor of a rendered clip so that it stays in the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foveate.data.mocap15.acting import mirrored, perform, sway
from foveate.data.mocap15.camera import Movement, Sight, is_near, move, place, see
from foveate.data.mocap15.figure import Body, radii
from foveate.data.mocap15.motion import Floats, Pose, assemble, library
from foveate.data.mocap15.spec import FPS, ClipSpec

_KEEP = (1.0, 0.75, 0.5, 0.3, 0.15, 0.0)  # shares of the actor's way along the ground to try
_SMALLER = 0.93  # where even an actor on the spot does not fit, it and the pan shrink by this


@dataclass(frozen=True)
class Stage:
    """Camera and actor of a clip.

    Attributes:
        movement: The camera's.
        sight: The actor's joints in world pixels from the anchor.
        anchor: (2,) world pixels.
        travel: Share of the recorded way along the ground that the actor goes.
        shrink: What the specified stature was multiplied by, 1 where it fits.
    """

    movement: Movement
    sight: Sight
    anchor: Floats
    travel: float
    shrink: float


def stage(spec: ClipSpec, who: Body) -> Stage:
    """Find a camera movement, a size and a way of the actor that keep it in the frame.

    An actor that would run out of the picture keeps only a share of its way along the ground, so
    that its feet slide; one that does not even fit on the spot becomes smaller.
    """
    seconds = np.arange(spec.frames) / FPS
    pose = sway(perform(spec.parts, seconds), seconds, spec.chance("motion"))
    pose = mirrored(pose) if spec.mirror else pose
    root = (pose.root - pose.root[0] * (1.0, 0.0, 1.0)) * (1.0, who.rise, 1.0)
    shrink = 1.0
    while True:
        for travel in _KEEP:
            kept = Pose(root * (travel, 1.0, travel), pose.bones)
            found = _tried(spec, who, kept, travel, shrink)
            if found is not None:
                return found
        shrink *= _SMALLER


def _tried(spec: ClipSpec, who: Body, pose: Pose, travel: float, shrink: float) -> Stage | None:
    joints = assemble(pose, who.lengths, library().parents)
    scale = spec.stature * shrink * spec.size[1] / who.stature
    sight = see(joints, spec.azimuth, spec.elevation, spec.distance, scale)
    if travel > 0 and is_near(sight):
        return None
    movement = move(spec.camera, spec.frames, spec.size, FPS, spec.chance("camera"))
    movement = _followed(movement, sight, spec.camera, shrink)
    extent = sight.extent(radii(who))
    anchor = place(extent, movement, spec.size, spec.chance("motion"))
    return None if anchor is None else Stage(movement, sight, anchor, travel, shrink)


def _followed(movement: Movement, sight: Sight, camera: str, shrink: float) -> Movement:
    """Let a panning camera follow its actor."""
    drift = float(sight.points[-1, 0, 0] - sight.points[0, 0, 0])
    along = float(movement.centre[-1, 0] - movement.centre[0, 0])
    opposed = camera.startswith("pan") and drift * along < 0
    flip = np.array([-1.0 if opposed else 1.0, 1.0]) * shrink
    return Movement(movement.centre * flip, movement.zoom, movement.roll)
