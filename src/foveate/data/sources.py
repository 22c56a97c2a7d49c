"""Opens the clip behind a record, whatever it is made of."""

from __future__ import annotations

from pathlib import Path

from foveate.core import MediaError, Sample
from foveate.media import DEFAULT_LIMITS, Limits, Video
from foveate.media.folder import RATE, FrameFolder


def open_clip(path: Path, *, fps: float = RATE, limits: Limits = DEFAULT_LIMITS) -> Sample:
    """Open a file, or a folder of numbered pictures.

    Args:
        path: The file or folder.
        fps: Frames per second of folders.
        limits: Bounds on work.

    Raises:
        MediaError: It cannot be opened.
    """
    return FrameFolder(path, fps, limits=limits) if path.is_dir() else Video(path, limits=limits)


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
