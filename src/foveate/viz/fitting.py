"""Frames of one size for a video that joins several sources."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt


def letterbox(frame: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A frame scaled to fit, its shape kept, black around it.

    Args:
        frame: (H, W, 3) uint8 RGB.
        size: `(width, height)` of the answer.
    """
    width, height = size
    rows, columns = frame.shape[:2]
    if (columns, rows) == size:
        return frame
    scale = min(width / columns, height / rows)
    inner = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    out = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    out[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        frame, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    return out
