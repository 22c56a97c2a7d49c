"""Frames in memory, or from an iterable, with the interface of a video file."""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from foveate.core import (
    Clip,
    FoveateError,
    Group,
    GroupPicture,
    LimitError,
    MediaError,
    Meter,
    Motion,
    NotYet,
    SampleInfo,
)
from foveate.media.decode import HOLD_SECONDS
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.pairs import numbered_motion

if TYPE_CHECKING:
    from foveate.core.loop import Pixels, Waveform

_RATES = (1 / HOLD_SECONDS, 10_000.0)  # the lowest one shows a frame as long as a file does
_HINT = "give frames (H, W, 3) uint8 RGB with fps=, or pairs (frame, seconds)"


def checked_rate(name: str, fps: Any) -> float:
    """A number of frames per second that a user gave.

    Raises:
        MediaError: It is not a number from 0.1 to 10,000.
    """
    if (
        isinstance(fps, bool)
        or not isinstance(fps, Real)
        or not _RATES[0] <= float(fps) <= _RATES[1]
    ):
        least, most = _RATES
        raise MediaError(
            f"{name}: fps must be a number from {least:g} to {most:g}, not {fps!r}",
            f"a frame is shown for at most {HOLD_SECONDS:g} s",
        )
    return float(fps)


class ArrayVideo:
    """A (T, H, W, 3) uint8 RGB array with a frame rate; satisfies `core.Sample`.

    Args:
        frames: (T, H, W, 3) uint8 RGB, or a list of T frames.
        fps: Frames per second, from 0.1 to 10,000.
        name: What it is called in messages and results.

    Raises:
        MediaError: Wrong shape, wrong type, no frames, or no such rate.
    """

    def __init__(self, frames: Any, fps: float, name: str = "<array>") -> None:
        try:
            pixels = np.asarray(frames)
        except (TypeError, ValueError, RuntimeError):
            raise MediaError(
                f"{name}: not an array, or frames of different shapes",
                "give (T, H, W, 3) uint8 RGB",
            ) from None
        if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
            raise MediaError(
                f"{name}: an array of shape {pixels.shape} and type {pixels.dtype}",
                "give (T, H, W, 3) uint8 RGB",
            )
        if 0 in pixels.shape:
            raise MediaError(f"{name}: zero frames")
        rate = checked_rate(name, fps)
        self._setup(name, pixels, rate, [i / rate for i in range(len(pixels))])

    def _setup(self, name: str, pixels: Any, rate: float | None, times: list[float]) -> None:
        self.name = name
        self.meter = Meter()
        self.warnings: list[str] = []
        self._pixels = pixels  # those at hand, in order
        self._times = times  # theirs
        self._rate = rate
        self._gone = 0  # how many were before those at hand

    @property
    def info(self) -> SampleInfo:
        """Size, length and rate."""
        height, width = self._pixels[0].shape[:2]
        count = self._gone + len(self._times)
        return SampleInfo(
            self.name, width, height, duration=self._end(), rate=self._rate, frames=count
        )

    def _end(self) -> float:
        """When the last frame stops being shown."""
        count = len(self._times)
        if self._rate is not None:
            return (self._gone + count) / self._rate
        usual = self._times[-1] / max(1, self._gone + count - 1)
        return self._times[-1] + min(usual or 1 / 25, HOLD_SECONDS)

    def keyframes(self) -> tuple[float, ...]:
        """The first frame: without a codec there are no other key frames."""
        return (0.0,)

    def frames(
        self,
        times: Sequence[float],
        size: tuple[int, int] | None = None,
        *,
        keep: bool | Sequence[float] = False,
    ) -> Clip:
        """The frames shown at those times; see `Video.frames`."""
        at = [place for place in map(self._shown_at, times) if place is not None]
        self.meter.frames += len(at)
        height, width = self._pixels[0].shape[:2]
        shown = [self._pixels[place - self._gone] for place in at]
        if size is not None and size != (width, height):
            shrinks = size[0] * size[1] < width * height
            mode = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            shown = [cv2.resize(frame, size, interpolation=mode) for frame in shown]
            width, height = size
        pixels = np.stack(shown) if shown else np.empty((0, height, width, 3), np.uint8)
        return Clip(pixels, tuple(self._times[place - self._gone] for place in at))

    def motion(
        self,
        times: Sequence[float],
        source: str = "auto",
        around: int = 2,
        *,
        every: bool = True,
        single: bool = False,
    ) -> Motion:
        """Motion between each frame and the next one; there are no codec vectors.

        Raises:
            MediaError: Vectors were asked for.
        """
        return numbered_motion(self, self._small, self._shown_at, times, source, around)

    def _shown_at(self, seconds: float) -> int | None:
        """Number of the frame shown at a time."""
        at = bisect_right(self._times, seconds + 1e-9) - 1
        if at < 0 or seconds >= self._end() - 1e-9 or seconds - self._times[at] > HOLD_SECONDS:
            return None
        return self._gone + at

    def _small(self, at: int, size: tuple[int, int]) -> Pixels | None:
        place = at - self._gone
        if not 0 <= place < len(self._times):
            return None
        frame = np.ascontiguousarray(self._pixels[place])
        return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)

    def next_time(self, after: float) -> float | None:
        """Time of the first frame later than `after`; None at the end."""
        at = bisect_right(self._times, after + 1e-9)
        return self._times[at] if at < len(self._times) else None

    def groups(self) -> tuple[Group, ...]:
        """Frames without a codec have no groups of pictures."""
        raise MediaError(
            f"{self.name}: an array of frames has no motion vectors", "give a video file"
        )

    def pictures(self, kind: str, places: Mapping[int, Sequence[int]]) -> Iterator[GroupPicture]:
        """Frames without a codec are not compressed."""
        raise MediaError(
            f"{self.name}: an array of frames has no motion vectors", "give a video file"
        )

    def audio(self, start: float = 0.0, end: float | None = None, rate: int = 16000) -> Waveform:
        """Frames have no sound."""
        raise MediaError(f"{self.name}: no sound track")

    def close(self) -> None:
        """Nothing to release."""


class FrameStream(ArrayVideo):
    """Frames from an iterable, read as they are asked for; satisfies `core.Sample`.

    The newest frames are kept, up to `limits.clip_bytes`. A frame is shown until the next one, at
    most for 10 seconds.

    Args:
        frames: Gives pairs of a (H, W, 3) uint8 RGB frame and its time in seconds, ascending from
            any start; with `fps`, frames alone.
        fps: Frames per second of frames without times, from 0.1 to 10,000.
        name: What it is called in messages and results.
        limits: Bounds on memory.

    Raises:
        MediaError: No frames, something else than frames, or times that do not ascend.
    """

    def __init__(
        self,
        frames: Iterable[Any],
        fps: float | None = None,
        name: str = "<frames>",
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        rate = None if fps is None else checked_rate(name, fps)
        self._setup(name, [], rate, [])
        self._limits = limits
        self._frames, self._over = iter(frames), False
        self._first = 0.0
        self._read_one()
        if self._over:
            raise MediaError(f"{name}: zero frames")

    @property
    def info(self) -> SampleInfo:
        """Size and rate; length and number of frames once the last one was read."""
        info = super().info
        if self._over:
            return info
        return SampleInfo(self.name, info.width, info.height, rate=self._rate)

    def _shown_at(self, seconds: float) -> int | None:
        self._read(seconds)
        if self._gone and seconds < self._times[0]:
            raise LimitError(
                f"{self.name}: the frame at {seconds:g} s is no longer kept",
                "raise limits.clip_bytes, or set a shorter window",
            )
        return super()._shown_at(seconds)

    def frames(
        self,
        times: Sequence[float],
        size: tuple[int, int] | None = None,
        *,
        keep: bool | Sequence[float] = False,
    ) -> Clip:
        """The frames shown at those times; see `Video.frames`."""
        # All at once: reading may drop the oldest.
        self._read(max(times, default=0.0))
        return super().frames(times, size, keep=keep)

    def _small(self, at: int, size: tuple[int, int]) -> Pixels | None:
        while not self._over and at >= self._gone + len(self._times):
            self._read_one()
        return super()._small(at, size)

    def next_time(self, after: float) -> float | None:
        """Time of the first frame later than `after`; None at the end."""
        self._read(after + 1e-9)
        return super().next_time(after)

    def _read(self, until: float) -> None:
        """Read until a frame later than a time is there, or the last one."""
        while not self._over and self._times[-1] <= until:
            self._read_one()

    def _read_one(self) -> None:
        try:
            item = next(self._frames)
        except StopIteration:
            self._over = True
            return
        except (FoveateError, NotYet):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise MediaError(f"{self.name}: cannot be read ({reason})") from error
        frame, time = self._pair(item)
        if self._times and (time <= self._times[-1] or frame.shape != self._pixels[0].shape):
            raise MediaError(
                f"{self.name}: a frame of shape {frame.shape} at {time:g} s after one of shape "
                f"{self._pixels[0].shape} at {self._times[-1]:g} s",
                "times must ascend and shapes be the same",
            )
        self._pixels.append(frame)
        self._times.append(time)
        if len(self._times) > 2 and len(self._times) * frame.nbytes > self._limits.clip_bytes:
            del self._pixels[0], self._times[0]
            self._gone += 1

    def _pair(self, item: Any) -> tuple[Pixels, float]:
        """A frame and its time, counted from the first one."""
        _refuse_path(item, self.name)
        count = self._gone + len(self._times)
        if self._rate is not None:
            frame, time = item, count / self._rate
        elif isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[1], Real):
            frame, time = item[0], float(item[1])
            self._first = self._first if count else time
            time = round(time - self._first, 6)  # clock times leave no finer digits
        else:
            raise MediaError(f"{self.name}: frames without times and without fps", _HINT)
        try:
            frame = np.array(frame)  # a copy: the iterable may use its memory again
        except (TypeError, ValueError, RuntimeError):
            raise MediaError(f"{self.name}: {type(frame).__name__} is not a frame", _HINT) from None
        if frame.ndim != 3 or frame.shape[-1] != 3 or 0 in frame.shape or frame.dtype != np.uint8:
            what = f"shape {frame.shape} and type {frame.dtype}"
            raise MediaError(f"{self.name}: a frame of {what}", _HINT)
        if not math.isfinite(time):
            raise MediaError(f"{self.name}: a frame at {time} s", _HINT)
        return frame, time


def open_frames(source: Any, fps: float | None, name: str, limits: Limits) -> ArrayVideo:
    """Frames in an array, a list or any other iterable.

    Raises:
        MediaError: No frames, something else than frames, or neither times nor a rate.
    """
    if hasattr(source, "shape") or (fps is not None and isinstance(source, list | tuple)):
        if fps is None:
            raise MediaError(f"{name}: an array has no frame rate", "give fps=, such as fps=25")
        if isinstance(source, list | tuple):
            _refuse_path(next(iter(source), None), name)
        return ArrayVideo(source, fps, name)
    return FrameStream(source, fps, name, limits)


def _refuse_path(item: Any, name: str) -> None:
    if isinstance(item, str | bytes | os.PathLike):
        raise MediaError(f"{name}: several paths are not one video", "use predict_many")
