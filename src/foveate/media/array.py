"""Frames in memory, with the same interface as a file."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from foveate.core import Clip, Group, GroupPicture, MediaError, Meter, Motion, SampleInfo
from foveate.media.pairs import numbered_motion

if TYPE_CHECKING:
    from foveate.core.loop import Waveform


class ArrayVideo:
    """A (T, H, W, 3) uint8 RGB array with a frame rate; satisfies `core.Sample`.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        fps: Frames per second.
        name: What it is called in messages and results.

    Raises:
        MediaError: Wrong shape, wrong type, no frames, or no positive rate.
    """

    def __init__(self, frames: Any, fps: float, name: str = "<array>") -> None:
        pixels = np.asarray(frames)
        if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
            raise MediaError(
                f"{name}: an array of shape {pixels.shape} and type {pixels.dtype}",
                "give (T, H, W, 3) uint8 RGB",
            )
        if 0 in pixels.shape:
            raise MediaError(f"{name}: zero frames")
        if not fps > 0:
            raise MediaError(f"{name}: frames per second must be positive, not {fps}")
        self.name = name
        self.meter = Meter()
        self.warnings: list[str] = []
        self._pixels = pixels
        self._fps = fps
        self._times = [i / fps for i in range(len(pixels))]

    @property
    def info(self) -> SampleInfo:
        """Size, length and rate of the array."""
        count, height, width, _ = self._pixels.shape
        return SampleInfo(
            self.name, width, height, duration=count / self._fps, rate=self._fps, frames=count
        )

    def keyframes(self) -> tuple[float, ...]:
        """The first frame: an array has no key frames of its own."""
        return (0.0,)

    def frames(
        self, times: Sequence[float], size: tuple[int, int] | None = None, *, keep: bool = False
    ) -> Clip:
        """The frames shown at those times; see `Video.frames`."""
        end = len(self._times) / self._fps
        at = [bisect_right(self._times, t + 1e-9) - 1 for t in times if 0 <= t < end - 1e-9]
        chosen = self._pixels[at]
        self.meter.frames += len(at)
        if size is not None and size != (chosen.shape[2], chosen.shape[1]):
            shrinks = size[0] * size[1] < chosen.shape[1] * chosen.shape[2]
            mode = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            scaled = [cv2.resize(frame, size, interpolation=mode) for frame in chosen]
            chosen = np.stack(scaled) if scaled else np.empty((0, size[1], size[0], 3), np.uint8)
        return Clip(chosen, tuple(self._times[i] for i in at))

    def motion(self, times: Sequence[float], source: str = "auto", around: int = 2) -> Motion:
        """Motion between each frame and the next one; an array has no codec vectors.

        Raises:
            MediaError: Vectors were asked for.
        """
        return numbered_motion(self, self._small, len(self._times), times, source, around)

    def _small(self, at: int, size: tuple[int, int]) -> Any:
        frame = np.ascontiguousarray(self._pixels[at])
        return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)

    def next_time(self, after: float) -> float | None:
        """Time of the first frame later than `after`; None at the end."""
        at = bisect_right(self._times, after + 1e-9)
        return self._times[at] if at < len(self._times) else None

    def groups(self) -> tuple[Group, ...]:
        """An array has no groups of pictures."""
        raise MediaError(
            f"{self.name}: an array of frames has no motion vectors", "give a video file"
        )

    def pictures(self, kind: str, places: Mapping[int, Sequence[int]]) -> Iterator[GroupPicture]:
        """An array has no compressed pictures."""
        raise MediaError(
            f"{self.name}: an array of frames has no motion vectors", "give a video file"
        )

    def audio(self, start: float = 0.0, end: float | None = None, rate: int = 16000) -> Waveform:
        """An array has no sound."""
        raise MediaError(f"{self.name}: no sound track")

    def close(self) -> None:
        """Nothing to release."""
