"""From a decoded picture of any format to upright, square-pixel uint8 RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from foveate.media.container import Geometry

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

_QUARTERS = {90: 3, 180: 2, 270: 1}  # clockwise degrees -> np.rot90 turns (counter-clockwise)


class Converter:
    """Scales and converts with one cached scaler; one per open video.

    The scaler averages areas when it shrinks (no aliasing) and interpolates when it enlarges.
    Scaling while converting is cheaper than converting first: see `benchmarks/floor.py`.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._scaler = VideoReformatter()

    def __call__(self, frame: Any, size: tuple[int, int] | None = None) -> Pixels:
        """One frame as (H, W, 3) uint8 RGB, upright.

        Args:
            frame: The `av.VideoFrame`.
            size: `(width, height)` of the answer, None for the upright size of the source.
        """
        width, height = size or self._geometry.upright
        if self._geometry.rotation in (90, 270):
            width, height = height, width
        shrinks = width * height < frame.width * frame.height
        rgb = self._scaler.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=Interpolation.AREA if shrinks else Interpolation.BICUBIC,
            threads=1,
        )
        pixels = np.asarray(rgb.to_ndarray(), np.uint8)
        turns = _QUARTERS.get(self._geometry.rotation, 0)
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def clockwise(rotation: float) -> int:
    """Clockwise degrees (0, 90, 180 or 270) that undo a display matrix of `rotation` degrees.

    FFmpeg gives the angle by which the picture must be turned counter-clockwise for display.
    """
    return round(-rotation / 90) * 90 % 360
