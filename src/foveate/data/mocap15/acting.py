"""What the actor of a rendered clip does from start to end: actions, idle gaps, small sway."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foveate.data.mocap15.motion import (
    JOINTS,
    Floats,
    Pose,
    heading,
    library,
    mix,
    turn_about_y,
    unit,
)

_BLEND = 0.4  # s in which an actor leaves or takes up an action, within the idle gap
_SWAY = np.radians(1.2)  # how far bones deviate, so that no two clips have exactly the same motion


@dataclass(frozen=True)
class Part:
    """What the actor does for a while.

    Attributes:
        label: Name of the action, None for standing idle.
        start: Seconds from the start of the clip.
        end: Seconds from the start of the clip.
        phase: Seconds of the recording shown at `start`; may lie outside it.
        speed: Seconds of the recording per second of the clip.
    """

    label: str | None
    start: float
    end: float
    phase: float = 0.0
    speed: float = 1.0


def perform(parts: tuple[Part, ...], seconds: Floats) -> Pose:
    """Poses of the whole clip.

    Each action starts where the one before has ended, facing the same way. All getting ready
    belongs to idle parts: there the actor leaves the last pose, stands, and takes up the first
    pose of what follows, so that an action lasts exactly from its `start` to its `end`.

    Args:
        parts: Contiguous, in order.
        seconds: (T,) times of the frames.
    """
    acts = _placed(parts)
    root = np.zeros((len(seconds), 3))
    bones = np.zeros((len(seconds), len(JOINTS), 3))
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        rows = (seconds >= part.start - 1e-9) & ((seconds < part.end - 1e-9) | last)
        if part.label is None:
            before = acts[number - 1] if number else None
            after = acts[number + 1] if not last else None
            pose = _idle(part, before, after, seconds[rows])
        else:
            act = acts[number]
            assert act is not None
            pose = act.poses(seconds[rows])
        root[rows], bones[rows] = pose.root, pose.bones
    return Pose(root, bones)


@dataclass(frozen=True)
class _Act:
    """An action with where it happens: turned by `angle`, then moved by `shift`."""

    part: Part
    angle: float
    shift: Floats

    def poses(self, seconds: Floats) -> Pose:
        """Poses at seconds of the clip."""
        assert self.part.label is not None
        recording = library().recordings[self.part.label]
        pose = recording.play(self.part.phase + (seconds - self.part.start) * self.part.speed)
        pose = pose.turned(self.angle)
        return Pose(pose.root + self.shift, pose.bones)


def _placed(parts: tuple[Part, ...]) -> list[_Act | None]:
    """Join the actions: each begins on the ground where the last one ended, facing as it did."""
    place, facing = np.zeros(3), 0.0
    acts: list[_Act | None] = []
    for part in parts:
        if part.label is None:
            acts.append(None)
            continue
        raw = _Act(part, 0.0, np.zeros(3))
        start = raw.poses(np.array([part.start]))
        angle = facing - heading(start)
        # A clip of one action keeps its recorded heading: the camera's sector refers to it.
        angle = angle if any(act is not None for act in acts) else 0.0
        shift = place - turn_about_y(angle) @ start.root[0]
        act = _Act(part, angle, shift * (1.0, 0.0, 1.0))
        end = act.poses(np.array([part.end]))
        place, facing = end.root[0], heading(end)
        acts.append(act)
    return acts


def _idle(part: Part, before: _Act | None, after: _Act | None, seconds: Floats) -> Pose:
    """Standing between two actions."""
    leave = before.poses(np.array([part.start])) if before else None
    enter = after.poses(np.array([part.end])) if after else None
    anchor = leave if leave is not None else enter
    standing = library().rest
    if anchor is not None:
        standing = standing.turned(heading(anchor))
        ground = anchor.root * (1.0, 0.0, 1.0)
        standing = Pose(standing.root * (0.0, 1.0, 0.0) + ground, standing.bones)
    count = len(seconds)
    pose = Pose(np.repeat(standing.root, count, 0), np.repeat(standing.bones, count, 0))
    blend = min(_BLEND, (part.end - part.start) / 2)
    if leave is not None:
        pose = mix(leave, pose, _ease((seconds - part.start) / blend))
    if enter is not None:
        pose = mix(pose, enter, _ease((seconds - (part.end - blend)) / blend))
    return pose


def _ease(share: Floats) -> Floats:
    share = np.clip(share, 0.0, 1.0)
    return share * share * (3 - 2 * share)


def sway(pose: Pose, seconds: Floats, random: np.random.Generator) -> Pose:
    """Let every bone deviate by about a degree, slowly and smoothly."""
    joints = pose.bones.shape[1]
    rates = random.uniform(0.2, 0.7, (2, joints, 3)) * 2 * np.pi
    phases = random.uniform(0, 2 * np.pi, (2, joints, 3))
    turns = np.sin(rates[:, None] * seconds[:, None, None] + phases[:, None]).sum(axis=0) * _SWAY
    return Pose(pose.root, unit(pose.bones + np.cross(turns, pose.bones)))


def mirrored(pose: Pose) -> Pose:
    """Left and right exchanged."""
    swap = [JOINTS.index(_other_side(name)) for name in JOINTS]
    flip = (1.0, 1.0, -1.0)
    return Pose(pose.root * flip, pose.bones[:, swap] * flip)


def _other_side(name: str) -> str:
    if name.startswith("right_"):
        return name.replace("right_", "left_")
    return name.replace("left_", "right_")
