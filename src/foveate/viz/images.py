"""Frames as small JPEG images, and fitted into a video of another size."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from foveate.core import FoveateError

Pixels = npt.NDArray[np.uint8]


def check_frame(frame: Pixels) -> None:
    """Refuse what is not a frame.

    Raises:
        FoveateError: It is not (H, W, 3) uint8, or it is empty.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
        raise FoveateError(f"a frame must be (H, W, 3) uint8, not {frame.shape} {frame.dtype}")


def to_jpeg(frame: Pixels, height: int = 90, quality: int = 80) -> bytes:
    """Encode a frame as a small JPEG image.

    Args:
        frame: (H, W, 3) uint8 RGB.
        height: Rows of the image; a smaller frame is not enlarged.
        quality: JPEG quality, 1..100.

    Raises:
        FoveateError: The frame is not of that shape and type, or cannot be encoded.
    """
    check_frame(frame)
    rows = min(height, frame.shape[0])
    columns = max(1, round(frame.shape[1] * rows / frame.shape[0]))
    small = cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise FoveateError("a frame could not be encoded as JPEG")
    return bytes(data)


def letterbox(frame: Pixels, size: tuple[int, int]) -> Pixels:
    """Scale a frame to fit, keeping its aspect ratio, with black bars around it.

    Args:
        frame: (H, W, 3) uint8 RGB.
        size: `(width, height)` of the returned frame.
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
