"""Motion of the rendered benchmark: fifteen recordings, played, repeated, joined and mirrored.

A pose is a root position and one unit vector per bone, so that poses can be mixed and bodies
stretched without limbs changing their length. Positions are metres, x forward at the start of
each recording, y up, z to the actor's right.

Source: the humanoid recordings of DeepMimic (Peng et al., 2018), as `pybullet` carries them; see
`scripts/make_mocap15_joints.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ACTIONS = (
    "backflip",
    "cartwheel",
    "crawl",
    "dance_a",
    "dance_b",
    "getup_facedown",
    "getup_faceup",
    "jump",
    "kick",
    "punch",
    "roll",
    "run",
    "spin",
    "spinkick",
    "walk",
)
JOINTS = (
    "root",
    "chest",
    "neck",
    "right_hip",
    "right_knee",
    "right_ankle",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "left_hip",
    "left_knee",
    "left_ankle",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "head",
    "face",
    "right_toe",
    "left_toe",
)
RIGHT_HIP, LEFT_HIP = JOINTS.index("right_hip"), JOINTS.index("left_hip")
REST_HEIGHT = 0.89  # metres from the ground to the root of the standing rest pose
_FILE = Path(__file__).with_name("mocap15.npz")
_CALM = 1.5  # m/s at which a joint may be led back to the first pose of a repetition
_SAME = 0.5  # m by which the ends of a recording may differ for it to be repeated
_TURNED = np.radians(15)  # less than this between the ends is the gait, not a turn


@dataclass(frozen=True)
class Pose:
    """A stretch of poses.

    Attributes:
        root: (T, 3) metres.
        bones: (T, J, 3) unit vectors from each joint's parent to the joint; the root's is zero.
    """

    root: Floats
    bones: Floats

    def turned(self, angle: float) -> Pose:
        """The same about the vertical axis by `angle` radians."""
        turn = turn_about_y(angle)
        return Pose(self.root @ turn.T, self.bones @ turn.T)

    def at(self, place: int) -> Pose:
        """One pose of the stretch, still with a time axis."""
        keep = slice(place, place + 1 or None)
        return Pose(self.root[keep], self.bones[keep])


@dataclass(frozen=True)
class Recording:
    """One recorded action.

    Attributes:
        times: (N,) seconds, ascending from zero.
        pose: N poses.
        lengths: (J,) metres of the recorded actor's bones.
        parents: (J,) place of each joint's parent, -1 for the root.
    """

    times: Floats
    pose: Pose
    lengths: Floats
    parents: tuple[int, ...]

    @property
    def length(self) -> float:
        """Seconds from the first to the last recorded pose."""
        return float(self.times[-1])

    @cached_property
    def turn(self) -> float:
        """Radians by which the actor faces elsewhere at the end, whole turns left out."""
        change = heading(self.pose.at(-1)) - heading(self.pose.at(0))
        change = (change + np.pi) % (2 * np.pi) - np.pi
        return float(change) if abs(change) > _TURNED else 0.0

    @cached_property
    def mismatch(self) -> float:
        """Metres between a joint's last place and the place where a repetition has it first."""
        last = self._joints(self.pose.at(-1))
        first = self._joints(self.pose.at(0).turned(self.turn))
        return float(np.abs(last - first).max())

    @property
    def repeats(self) -> bool:
        """Whether the end is near enough to the start to go on from it."""
        return self.mismatch < _SAME

    @cached_property
    def gap(self) -> float:
        """Seconds from the last pose to the first of the repetition, at the speed of the ends."""
        joints = self._joints(self.pose)
        steps = np.abs(np.diff(joints[[0, 1, -2, -1]], axis=0)).max(axis=(1, 2))[[0, 2]]
        pace = (steps / np.diff(self.times)[[0, -1]]).mean()
        return self.mismatch / max(_CALM, float(pace))

    @property
    def period(self) -> float:
        """Seconds of one repetition."""
        return self.length + self.gap

    def play(self, seconds: Floats) -> Pose:
        """Poses at those seconds of the recording.

        Repeating recordings go on for ever, each time from where they came to; the others hold
        their first and last pose.

        Args:
            seconds: (T,) may lie outside the recording.
        """
        if not self.repeats:
            return self._within(np.clip(seconds, 0.0, self.length))
        rounds = np.floor(seconds / self.period)
        once = self._within(seconds - rounds * self.period)
        out_root, out_bones = np.empty_like(once.root), np.empty_like(once.bones)
        for number in np.unique(rounds):
            rows = rounds == number
            turn = turn_about_y(self.turn * number)
            out_root[rows] = once.root[rows] @ turn.T + self._origin(int(number))
            out_bones[rows] = once.bones[rows] @ turn.T
        return Pose(out_root, out_bones)

    def _joints(self, pose: Pose) -> Floats:
        return assemble(Pose(np.zeros_like(pose.root), pose.bones), self.lengths, self.parents)

    @cached_property
    def _advance(self) -> Floats:
        """(3,) metres that one repetition leads along the ground, the gap at the ends' speed."""
        root = self.pose.root
        step = (root[-1] - root[-2]) / (self.times[-1] - self.times[-2])
        shift = root[-1] - turn_about_y(self.turn) @ root[0] + step * self.gap
        return np.asarray(shift * (1.0, 0.0, 1.0))

    def _origin(self, rounds: int) -> Floats:
        place = np.zeros(3)
        for number in range(abs(rounds)):
            at = number if rounds > 0 else -number - 1
            step = turn_about_y(self.turn * at) @ self._advance
            place += step if rounds > 0 else -step
        return place

    @cached_property
    def _closed(self) -> tuple[Floats, Pose]:
        """Times and poses with the first pose of the next repetition appended."""
        first = self.pose.at(0).turned(self.turn)
        root = np.concatenate([self.pose.root, first.root + self._advance])
        bones = np.concatenate([self.pose.bones, first.bones])
        return np.append(self.times, self.period), Pose(root, bones)

    def _within(self, seconds: Floats) -> Pose:
        times, pose = self._closed if self.repeats else (self.times, self.pose)
        after = np.clip(np.searchsorted(times, seconds, side="right"), 1, len(times) - 1)
        before = after - 1
        share = (seconds - times[before]) / np.maximum(times[after] - times[before], 1e-9)
        return mix(
            Pose(pose.root[before], pose.bones[before]),
            Pose(pose.root[after], pose.bones[after]),
            np.clip(share, 0.0, 1.0),
        )


@dataclass(frozen=True)
class Library:
    """The recordings and the skeleton they share.

    Attributes:
        parents: (J,) place of each joint's parent, -1 for the root.
        lengths: (J,) metres of the bones that end in each joint.
        rest: One pose standing upright, arms hanging, facing forward.
        recordings: Name of the action -> recording.
    """

    parents: tuple[int, ...]
    lengths: Floats
    rest: Pose
    recordings: dict[str, Recording]


@lru_cache(maxsize=1)
def library() -> Library:
    """The recordings that come with the package."""
    with np.load(_FILE, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    parents = tuple(int(parent) for parent in arrays["parents"])
    rest = arrays["rest"].astype(np.float64)
    lengths = np.linalg.norm(rest - rest[list(parents)], axis=-1) * (np.array(parents) >= 0)
    found = {}
    for action in ACTIONS:
        bones = directions(arrays[f"{action}.joints"].astype(np.float64), parents)
        pose = Pose(arrays[f"{action}.root"].astype(np.float64), bones)
        times = arrays[f"{action}.times"].astype(np.float64)
        found[action] = Recording(times, pose, lengths, parents)
    standing = Pose(np.array([[0.0, REST_HEIGHT, 0.0]]), directions(rest[None], parents))
    assert tuple(arrays["joints"]) == JOINTS, "the file of recordings belongs to another version"
    return Library(parents, lengths, standing, found)


def directions(joints: Floats, parents: tuple[int, ...]) -> Floats:
    """(T, J, 3) positions -> (T, J, 3) unit vectors along the bones."""
    bones = joints - joints[:, list(parents)]
    bones[:, 0] = 0.0
    return unit(bones)


def unit(vectors: Floats) -> Floats:
    """Vectors of length one; zero stays zero."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def assemble(pose: Pose, lengths: Floats, parents: tuple[int, ...]) -> Floats:
    """Poses of a body with those bone lengths -> (T, J, 3) positions in metres."""
    steps = pose.bones * lengths[:, None]
    joints = np.empty_like(steps)
    joints[:, 0] = pose.root
    for joint, parent in enumerate(parents[1:], start=1):
        joints[:, joint] = joints[:, parent] + steps[:, joint]
    return joints


def mix(a: Pose, b: Pose, share: Floats) -> Pose:
    """From `a` (share 0) to `b` (share 1), bones keeping their length; share is (T,)."""
    rows = share[:, None]
    root = a.root + (b.root - a.root) * rows
    return Pose(root, unit(a.bones + (b.bones - a.bones) * rows[..., None]))


def turn_about_y(angle: float) -> Floats:
    """(3, 3) rotation by `angle` radians about the vertical axis."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def heading(pose: Pose) -> float:
    """Radians about the vertical axis from facing forward, by the hips of the first pose."""
    across = pose.bones[0, RIGHT_HIP] - pose.bones[0, LEFT_HIP]
    return float(np.arctan2(across[0], across[2]))
