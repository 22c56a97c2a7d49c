"""Small JPEG pictures of frames, for a page to carry inside itself."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from foveate.core import FoveateError


def to_jpeg(frame: npt.NDArray[np.uint8], height: int = 90, quality: int = 80) -> bytes:
    """A frame as a small JPEG.

    Args:
        frame: (H, W, 3) uint8 RGB.
        height: Rows of the picture; a smaller frame is not enlarged.
        quality: JPEG quality, 1..100.

    Raises:
        FoveateError: The frame is not of that shape and type, or cannot be encoded.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
        raise FoveateError(f"a frame must be (H, W, 3) uint8, not {frame.shape} {frame.dtype}")
    rows = min(height, frame.shape[0])
    columns = max(1, round(frame.shape[1] * rows / frame.shape[0]))
    small = cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise FoveateError("a frame could not be encoded as JPEG")
    return bytes(data)
