"""State of the group that is being read: motion so far, and the pictures that residuals need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter as clock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from av.video.reformatter import VideoReformatter

from foveate.core import Meter
from foveate.media.compressed.accumulate import CellMotion, PixelMotion, Signed, residual
from foveate.media.container import Geometry
from foveate.media.convert import Converter, orientation
from foveate.media.vectors.grid import CELL, PAST, Floats, Mask, paint
from foveate.media.vectors.kernels import Kernels
from foveate.media.vectors.rows import rows_of

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

Form = Literal["cells", "pixels"]


@dataclass(frozen=True)
class Picture:
    """The request for one position.

    Attributes:
        group: Number of its group.
        position: The asked position, in pictures from the key picture, in the order of display.
        time: Seconds of the picture that answers: the last I or P picture at or before it.
        reference: Seconds of the intra picture that `motion` leads back to.
        motion: Accumulated vectors in pixels, x then y: (Hc, Wc, 2) float32 over 8x8 cells, or
            (H, W, 2) int16; in the orientation of the coded picture.
        valid: (Hc, Wc) where the picture had a vector of its own; all true at an intra picture.
        residual: (H, W, 3) int16, RGB, only if it was asked for.
        key: (H, W, 3) uint8, the key frame of the group as `key_frames` gives it, only if it was
            asked for; one array for all pictures of the group, None where it is damaged.
    """

    group: int
    position: int
    time: float
    reference: float
    motion: Floats | Signed
    valid: Mask
    residual: Signed | None = None
    key: Pixels | None = None


class KeyFrames:
    """Key frames to upright RGB with one scaler.

    Args:
        geometry: Of the stream, its rotation left out.
        size: `(width, height)` to scale to; None for the upright size.
    """

    def __init__(self, geometry: Geometry, size: tuple[int, int] | None) -> None:
        self._geometry, self.size = geometry, size
        self._convert: Converter | None = None

    def __call__(self, frame: Any) -> Pixels:
        """One frame as (H, W, 3) uint8 RGB; how the stream is turned is read off the first one."""
        if self._convert is None:
            rotation, mirrored = orientation(frame)
            turned = replace(self._geometry, rotation=rotation, mirrored=mirrored)
            self._convert = Converter(turned)
        return self._convert(frame, self.size)


class Track:
    """Accumulated motion of one group after another.

    Args:
        form: How motion is accumulated.
        residuals: Whether pictures carry residuals.
        compiled: Compiled loops; NumPy if None.
    """

    def __init__(self, form: Form, residuals: bool, compiled: Kernels | None) -> None:
        self._form, self.residuals, self._compiled = form, residuals, compiled
        self._motion: CellMotion | PixelMotion | None = None
        self._size = (0, 0)
        self._scaler = VideoReformatter()
        self.forget()

    def forget(self) -> None:
        """Another group begins."""
        self.stands = False
        self.key: Pixels | None = None
        self._frame: Any = None
        self._intra: Any = None
        self._valid: Mask | None = None
        self._rgb: Pixels | None = None
        self._time = self._reference = 0.0

    def feed(self, frame: Any, time: float, intra: bool, meter: Meter) -> None:
        """The next I or P picture; P pictures in front of the first I picture are passed over."""
        if not intra and not self.stands:
            return
        started = clock()
        size = frame.width, frame.height
        if self._motion is None or size != self._size:
            accumulate = PixelMotion if self._form == "pixels" else CellMotion
            self._motion = accumulate(*size, self._compiled)
            self._size = size
        if intra:
            self._motion.reset()
            self._intra, self._rgb, self._reference = frame, None, time
            self._valid = None
        else:
            motion, valid = paint(rows_of(frame), *size, self._compiled)
            self._motion.follow(motion[PAST], valid[PAST])
            self._valid = valid[PAST]
        self._frame = frame if self.residuals else None
        self._intra = self._intra if self.residuals else None
        self._time, self.stands = time, True
        meter.motion_seconds += clock() - started

    def picture(self, group: int, position: int) -> Picture:
        """What is known at the last picture fed."""
        assert self._motion is not None
        width, height = self._size
        down, across = -(-height // CELL), -(-width // CELL)
        motion: Floats | Signed = self._motion.motion
        if self._form == "cells":
            motion = motion[:down, :across]
        valid = np.ones((down, across), bool) if self._valid is None else self._valid
        return Picture(
            group,
            position,
            self._time,
            self._reference,
            motion,
            valid[:down, :across],
            self._residual() if self.residuals else None,
            self.key,
        )

    def _residual(self) -> Signed:
        assert isinstance(self._motion, PixelMotion)
        if self._rgb is None:
            self._rgb = self._to_rgb(self._intra)
        return residual(self._rgb, self._to_rgb(self._frame), self._motion)

    def _to_rgb(self, frame: Any) -> Pixels:
        rgb = self._scaler.reformat(frame, format="rgb24", threads=1)
        return np.asarray(rgb.to_ndarray(), np.uint8)
