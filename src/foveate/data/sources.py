"""Length, frame times and motion energy of clips."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate.core import MediaError, Sample
from foveate.media import Video

_ENERGY_RATE, _ENERGY_SIZE = 5.0, (230, 172)  # frames per second, and width and height


def duration_of(sample: Sample) -> float:
    """Seconds of a clip; packet headers are read through where the container does not say.

    Raises:
        MediaError: Its length cannot be known.
    """
    duration = sample.info.duration
    if duration is None and isinstance(sample, Video):
        sample.packet_index()
        duration = sample.info.duration
    if duration is None or not duration > 0:
        raise MediaError(f"{sample.info.name}: its length is unknown")
    return duration


def frame_times(sample: Sample) -> tuple[float, ...]:
    """Seconds of all frames of a clip, by their numbers from 0; nothing is decoded.

    Raises:
        MediaError: The source cannot be read.
    """
    if isinstance(sample, Video):
        return sample.times()
    times, at = list[float](), sample.next_time(-1.0)
    while at is not None:
        times.append(at)
        at = sample.next_time(at)
    return tuple(times)


def motion_energy(frames: NDArray[np.uint8], rate: float) -> float:
    """Mean absolute difference of consecutive frames, five a second, in grey levels.

    Args:
        frames: (T, H, W, 3) RGB.
        rate: Frames per second.
    """
    chosen = frames[:: max(1, round(rate / _ENERGY_RATE))]
    grey = np.stack(
        [
            cv2.cvtColor(cv2.resize(frame, _ENERGY_SIZE), cv2.COLOR_RGB2GRAY).astype(np.float32)
            for frame in chosen
        ]
    )
    return float(np.abs(np.diff(grey, axis=0)).mean()) if len(grey) > 1 else 0.0
