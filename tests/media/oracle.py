"""What a plain full decode says is shown at a time: the reference that every test compares with."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import av
import numpy as np

HOLD = 10.0  # seconds for which a frame is shown at most


@dataclass(frozen=True)
class Oracle:
    """All frames of a clip in display order.

    Attributes:
        times: Seconds from the first frame.
        numbers: The number that each frame carries, or a digest of its pixels.
        end: Seconds at which the last frame ends.
    """

    times: list[float]
    numbers: list[int]
    end: float

    def at(self, seconds: float) -> int | None:
        """Place of the frame shown at that time, None where nothing is shown."""
        at = bisect_right(self.times, seconds + 1e-6) - 1
        if at < 0 or seconds - self.times[at] > HOLD - 1e-6 or seconds > self.end - 1e-6:
            return None
        return at

    def shown(self, times: Sequence[float]) -> list[int]:
        """Places of the frames shown at those times."""
        return [at for at in (self.at(seconds) for seconds in times) if at is not None]


def digest(pixels: np.ndarray) -> int:
    """A number that tells pictures apart, the same after any lossless copy."""
    return hash(pixels.tobytes())


def oracle(
    data: bytes, *, rate: float | None = None, which: int = 0, size: tuple[int, int] | None = None
) -> Oracle:
    """Decode everything, without seeking and without skipping.

    Args:
        data: The file.
        rate: Frames per second where the file has no times that could be used.
        which: Number of the picture stream.
    """
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[which]
        frames, last, end = [], None, 0
        for packet in container.demux(stream):
            try:
                found = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in found:
                if rate is None and (frame.pts is None or (last is not None and frame.pts <= last)):
                    continue
                last, end = frame.pts, (frame.pts or 0) + (frame.duration or 0)
                width, height = size or (frame.width, frame.height)
                shown = frame.reformat(width, height, "rgb24", interpolation="BICUBIC")
                frames.append((frame.pts, digest(shown.to_ndarray())))
        base = stream.time_base
    if rate is not None:
        times = [i / rate for i in range(len(frames))]
        return Oracle(times, [number for _, number in frames], len(frames) / rate)
    start = frames[0][0]
    times = [float((pts - start) * base) for pts, _ in frames]
    step = times[-1] - times[-2] if len(times) > 1 else float(base)
    ends = float((end - start) * base)
    return Oracle(times, [n for _, n in frames], ends if ends > times[-1] else times[-1] + step)
