"""Clips to time on: a camera that pans over a texture, with discs that move on their own."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from foveate.media import VideoWriter


def write_scene(path: Path, size: tuple[int, int], seconds: float, rate: int = 25) -> Path:
    """Encode one clip (H.264, a key frame every two seconds, the encoder's usual B-frames).

    Args:
        path: The file to write.
        size: `(width, height)`.
        seconds: Its length.
        rate: Frames per second.
    """
    width, height = size
    rng = np.random.default_rng(0)
    small = rng.integers(30, 220, (height // 12, width // 8, 3)).astype(np.uint8)
    world = cv2.resize(small, (width * 2, height), interpolation=cv2.INTER_CUBIC)
    world = np.clip(world + rng.normal(0, 6, world.shape), 0, 255).astype(np.uint8)
    with VideoWriter(path, size, rate) as writer:
        for i in range(int(seconds * rate)):
            left = int((np.sin(i / rate * 0.3) + 1) / 2 * width)
            frame = world[:, left : left + width].copy()
            for k in range(4):
                x = int((0.5 + 0.4 * np.sin(i / rate * (0.7 + 0.2 * k) + k)) * width)
                y = int((0.5 + 0.35 * np.cos(i / rate * (0.9 + 0.1 * k) + 2 * k)) * height)
                cv2.circle(frame, (x, y), height // 10, (40 * k + 60, 200 - 40 * k, 90), -1)
            writer.write(frame, i / rate)
    return path
