"""Make `data/mocap15/mocap15.npz`: joint positions of fifteen motion-capture recordings.

The recordings are the humanoid motions of DeepMimic (Peng et al., 2018; MIT licence), as the PyPI
package `pybullet` (zlib licence) carries them. They hold joint rotations; the renderer needs joint
positions, which this script computes by forward kinematics over the tree of `humanoid.urdf`.

    pip download pybullet --no-deps && unzip pybullet-*.whl 'pybullet_data/*' -d FOLDER
    python scripts/make_mocap15_joints.py FOLDER/pybullet_data src/foveate/data/mocap15/mocap15.npz

The same input gives the same bytes.
"""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

PREFIX = "humanoid3d_"
SCALE = 0.25  # the URDF is four times as large as the recordings are
# Channels of a recorded frame after duration (1) and root position (3), in the file's order.
CHANNELS = (
    ("root", 4),
    ("chest", 4),
    ("neck", 4),
    ("right_hip", 4),
    ("right_knee", 1),
    ("right_ankle", 4),
    ("right_shoulder", 4),
    ("right_elbow", 1),
    ("left_hip", 4),
    ("left_knee", 1),
    ("left_ankle", 4),
    ("left_shoulder", 4),
    ("left_elbow", 1),
)
# Points fixed to a link that carry no joint but are wanted for drawing, in metres in the link's
# axes (x forward, y up, z to the right): middle of the head, its face, tips of the feet.
TIPS = {
    "head": ("neck", (0.0, 0.175, 0.0)),
    "face": ("head", (0.1, 0.0, 0.0)),
    "right_toe": ("right_ankle", (0.13, -0.045, 0.0)),
    "left_toe": ("left_ankle", (0.13, -0.045, 0.0)),
}


def read_tree(urdf: Path) -> dict[str, tuple[str, Array]]:
    """Joint -> (parent, offset in metres in the parent's axes), parents before children."""
    tree: dict[str, tuple[str, Array]] = {}
    text = urdf.read_text().rstrip("\0 \n\r\t")  # the packaged file ends with a stray NUL
    for joint in ElementTree.fromstring(text).findall("joint"):
        parent, origin = joint.find("parent"), joint.find("origin")
        assert parent is not None, "a joint has a parent"
        assert origin is not None, "a joint has a place"
        offset = np.array([float(v) for v in origin.attrib["xyz"].split()]) * SCALE
        tree[joint.attrib["name"]] = (parent.attrib["link"], offset)
    for name, (parent_name, place) in TIPS.items():
        tree[name] = (parent_name, np.array(place))
    return tree


def matrices(quaternions: Array) -> Array:
    """(T, 4) quaternions (w, x, y, z) of any length -> (T, 3, 3) rotations."""
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def local_rotations(frames: Array) -> dict[str, Array]:
    """Recorded channels -> rotation (T, 3, 3) of each joint in its parent's axes."""
    found, at = {}, 4
    for name, width in CHANNELS:
        values = frames[:, at : at + width]
        if width == 1:  # knees and elbows turn about z
            half = values / 2
            zero = np.zeros_like(half)
            values = np.concatenate([np.cos(half), zero, zero, np.sin(half)], axis=1)
        found[name] = matrices(values)
        at += width
    return found


def positions(frames: Array, tree: dict[str, tuple[str, Array]]) -> Array:
    """Forward kinematics: recorded frames (T, 44) -> (T, J, 3) metres relative to the root."""
    local = local_rotations(frames)
    still = np.broadcast_to(np.eye(3), (len(frames), 3, 3))
    place = {"root": np.zeros((len(frames), 3))}
    turn = {"root": local["root"]}
    for name, (parent, offset) in tree.items():
        if name != "root":
            place[name] = place[parent] + turn[parent] @ offset
            turn[name] = turn[parent] @ local.get(name, still)
    return np.stack([place[name] for name in tree], axis=1)


def main(source: Path, target: Path) -> None:
    """Read the recordings and write the file."""
    tree = read_tree(source / "humanoid" / "humanoid.urdf")
    names = list(tree)
    parents = [-1] + [names.index(tree[name][0]) for name in names[1:]]
    out: dict[str, npt.NDArray] = {
        "joints": np.array(names),
        "parents": np.array(parents, np.int8),
    }
    rest = np.zeros((1, 44))
    rest[:, [4, 8, 12, 16, 21, 25, 30, 35, 39]] = 1
    out["rest"] = positions(rest, tree)[0].astype(np.float16)
    for path in sorted((source / "data" / "motions").glob(PREFIX + "*.txt")):
        recording = json.loads(path.read_text())
        frames = np.array(recording["Frames"], np.float64)
        action = path.stem.removeprefix(PREFIX)
        # The last frame's duration says nothing: no frame follows it.
        starts = np.concatenate([[0.0], np.cumsum(frames[:-1, 0])])
        out[f"{action}.times"] = starts.astype(np.float32)
        out[f"{action}.root"] = frames[:, 1:4].astype(np.float32)
        out[f"{action}.joints"] = positions(frames, tree).astype(np.float16)
        out[f"{action}.cyclic"] = np.array(recording["Loop"] == "wrap")
    np.savez_compressed(target, allow_pickle=False, **out)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} PYBULLET_DATA_FOLDER TARGET.npz")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
