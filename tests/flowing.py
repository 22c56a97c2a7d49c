"""Small videos whose class is the way in which everything in them moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foveate.media.encode import Encoding, encode, with_vectors

WAYS = {"down": (0, 3), "left": (-3, 0), "up": (0, -3)}
SIZE = (96, 80)  # pixels, width and height
RATE = 24


def film(
    path: Path, way: str, seed: int, frames: int = 32, encoding: Encoding | None = None
) -> Path:
    """A texture that flows one way, with a key frame every eight frames."""
    random = np.random.default_rng(seed)
    width, height = SIZE
    rough = random.integers(20, 230, (height // 8, width // 8, 3))
    texture = np.kron(rough, np.ones((8, 8, 1))).astype(np.uint8)
    dx, dy = WAYS[way]
    shown = (np.roll(texture, (t * dy, t * dx), (0, 1)) for t in range(frames))
    path.parent.mkdir(parents=True, exist_ok=True)
    encode(path, shown, RATE, encoding or with_vectors("h264", 8))
    return path


def folder(root: Path, each: int = 8, seed: int = 0) -> Path:
    """A data set: one folder per class, `each` clips in every one."""
    for place, way in enumerate(WAYS):
        for number in range(each):
            film(root / way / f"{number}.mp4", way, seed + 100 * place + number)
    return root
